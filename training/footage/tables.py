# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of numbers that a per-frame loop leaves behind, so that a killed run goes on behind the last of them."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Table:
    """A file of float32 rows of ``width`` numbers each, the first of which is the row's number; grown at its end.

    A row cut in half by a kill is dropped on opening. rows: (N, width) what was there on opening.
    """

    def __init__(self, path: Path, width: int) -> None:
        data = np.fromfile(path, np.float32) if path.exists() else np.zeros(0, np.float32)
        count = len(data) // width
        self.rows: Array = data[: count * width].reshape(count, width)
        self._width, self._path = width, path
        self._file = path.open("ab")
        self._file.truncate(count * width * 4)

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more rows."""
        self._file.close()

    def append(self, row: npt.ArrayLike) -> None:
        """Add one row; it has reached the system when this returns."""
        values = np.asarray(row, np.float32)
        if values.shape != (self._width,):
            raise ValueError(f"a row holds {self._width} numbers, not {values.shape}")
        data, sent = values.tobytes(), 0
        while sent < len(data):  # unbuffered, so that an error is told here and not when the file is closed
            sent += os.write(self._file.fileno(), data[sent:])


def read_table(path: Path, width: int, count: int) -> Array:
    """All rows of a finished table by their number, (count, width - 1); NaN where there is none."""
    out = np.full((count, width - 1), np.nan, np.float32)
    data = np.fromfile(path, np.float32)
    rows = data[: len(data) // width * width].reshape(-1, width)
    out[rows[:, 0].astype(int)] = rows[:, 1:]
    return out
