# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking things up in other programs' files, so that every complaint names the file, the place in it and the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.messages import BackendError

Array = npt.NDArray[np.float64]

CALIBRATION, POSES = "calibration-corrupt", "poses-corrupt"


@dataclass(frozen=True)
class Entry:
    """One part of a file, such as a camera or a person in a frame.

    data: its fields. file: it was read from here. where: which part, for people ('camera cam01', 'frame 12'); may be
    ''. code: of the BackendError that every method raises when a field is missing or wrong.
    """

    data: Mapping[str, Any]
    file: Path
    where: str
    code: str

    def fail(self, what: str) -> NoReturn:
        """Raise the error, with the sentence that names file and place."""
        place = f"{self.file}, {self.where}" if self.where else str(self.file)
        raise BackendError(self.code, f"{place}: {what}.")

    def name(self, *fields: str) -> str:
        """The first of the fields that is there; its synonyms are other programs' names for the same."""
        for field in fields:
            if field in self.data:
                return field
        self.fail(f"{' or '.join(map(repr, fields))} is missing")

    def array(self, *fields: str, shape: tuple[int, ...] | None = None, finite: bool = True) -> Array:
        """The first of the fields that is there as numbers of the given shape; flat lists are folded into it."""
        field = self.name(*fields)
        try:
            value = np.asarray(self.data[field], np.float64)
        except (TypeError, ValueError):
            self.fail(f"{field!r} must hold numbers alone")
        if shape is not None:
            if value.size != int(np.prod(shape)):
                wanted = " x ".join(map(str, shape))
                self.fail(f"{field!r} must hold {wanted} numbers, not {value.size}")
            value = value.reshape(shape)
        if finite and not np.isfinite(value).all():
            self.fail(f"{field!r} holds a number that is not finite")
        return value

    def number(self, *fields: str) -> float:
        """One finite number."""
        return float(self.array(*fields, shape=()))

    def size(self, *fields: str) -> tuple[int, int]:
        """Width and height in whole pixels."""
        width, height = self.array(*fields, shape=(2,))
        return self.pixels(width, fields[0]), self.pixels(height, fields[0])

    def pixels(self, value: float, field: str) -> int:
        """A number of pixels: whole and above zero."""
        if value != int(value) or not 0 < value <= 65536:
            self.fail(f"{field!r} is no number of pixels ({value:g})")
        return int(value)

    def text(self, *fields: str) -> str:
        """A text, or a number written as one."""
        field = self.name(*fields)
        value = self.data[field]
        if not isinstance(value, str | int):
            self.fail(f"{field!r} must be a text")
        return str(value)

    def entries(self, field: str, word: str) -> list[Entry]:
        """A list of parts. word: what one of them is ('camera'); it is called by its place in the list."""
        value = self.data[self.name(field)]
        if not isinstance(value, list):
            self.fail(f"{field!r} must be a list")
        return [self.part(part, f"{word} {i}") for i, part in enumerate(value)]

    def part(self, value: Any, where: str) -> Entry:
        """A part of this part."""
        part = Entry({}, self.file, ", ".join(filter(None, (self.where, where))), self.code)
        if not isinstance(value, Mapping):
            part.fail("expected named fields")
        return Entry(value, self.file, part.where, self.code)


def read_json(path: Path, code: str) -> Any:
    """What a JSON file holds. Raises BackendError(code): the file cannot be read, or is broken at a line."""
    try:
        return json.loads(read_text(path, code))
    except json.JSONDecodeError as error:
        raise BackendError(
            code, f"{path} is no whole JSON file (line {error.lineno}: {error.msg}); export it again."
        ) from error
    except RecursionError as error:
        raise BackendError(code, f"{path} is nested too deeply to be understood; export it again.") from error


def read_text(path: Path, code: str) -> str:
    """A text file in UTF-8, with or without a byte order mark, or else Latin-1, which old programs write."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(code, f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
