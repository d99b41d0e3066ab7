# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks that the user has: a folder of PNGs, one for each frame (or a folder of such for each camera), a video, or
DensePose's results, whose parts are the person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ...neural_backend.interface.messages import BackendError
from .readers.densepose import Surface, read_densepose
from .video import PICTURE_ENDINGS, Bytes, Source, natural, open_source
from .video_pictures import read_grey

_DUMPS = (".pkl", ".pickle", ".pt", ".pth")


class GivenMasks:
    """Masks for each frame of a source, checked for their number.

    names: what the camera's own folder (or video) inside ``path`` may be called. Where the source is a choice of a
    film's frames, there may be a mask for each chosen frame, or for each of the film's. Raises BackendError
    'masks-missing', 'masks-count'.
    """

    def __init__(self, path: Path, source: Source, names: Sequence[str]) -> None:
        self._source = source
        self._path = path = _own(path, names)
        self._files: list[Path] = []
        self._parts: dict[int, Surface] | None = None
        if path.suffix.lower() in _DUMPS and path.is_file():
            self._parts = dict(read_densepose(path))
            # Films are cut into pictures that count from 0 or from 1.
            first = int(0 not in self._parts and len(source) in self._parts)
            self._parts = {number - first: parts for number, parts in self._parts.items()}
            if not any(0 <= number < len(source) for number in self._parts):
                raise BackendError(
                    "masks-count",
                    f"{path} names no picture of {source.path}: number the pictures that DensePose is given as the "
                    "film's frames are, from 0 or from 1.",
                )
            count = len(source)
        elif path.is_dir():
            self._files = sorted(
                (p for p in path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".")),
                key=natural,
            )
            count = len(self._files)
        else:
            self._video = open_source(path)
            count = len(self._video)
        if not count:
            raise BackendError(
                "masks-missing",
                f"{path} holds no masks, and no folder {' or '.join(dict.fromkeys(names))} of them; put one PNG for "
                "each frame there.",
            )
        frames = np.asarray(getattr(source, "indices", np.arange(len(source))))
        chosen = len(source) and int(frames[-1]) != len(source) - 1
        if count == len(source):
            self._rows = np.arange(count)
        elif chosen and count > frames[-1]:
            self._rows = frames
        else:
            raise BackendError(
                "masks-count",
                f"{path} holds {count} masks, but {source.path} has {len(source)} frames; there must be one for each "
                "frame, in the order of their names.",
            )

    def read(self, start: int = 0) -> Iterator[tuple[int, Bytes]]:
        """(index, mask) from a frame on, as they are. Raises BackendError 'masks-size'."""
        if self._parts is not None:
            width, height = self._source.width, self._source.height
            for index in range(start, len(self._rows)):
                found = self._parts.get(index)
                labels = np.zeros((height, width), np.uint8) if found is None else found.full(width, height).labels
                yield index, np.asarray(np.where(labels > 0, 255, 0), np.uint8)
        elif self._files:
            for index in range(start, len(self._rows)):
                file = self._files[self._rows[index]]
                yield index, self._checked(_mask(file), str(file))
        else:
            row_of = {int(number): row for row, number in enumerate(self._rows)}
            for number, rgb in self._video.frames(int(self._rows[start])):
                if number in row_of:
                    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
                    yield row_of[number], self._checked(grey, f"in {self._path}")

    def _checked(self, mask: Bytes, name: str) -> Bytes:
        height, width = mask.shape
        if (width, height) != (self._source.width, self._source.height):
            raise BackendError(
                "masks-size",
                f"The mask {name} is {width}x{height}, but {self._source.path} is {self._source.width}x"
                f"{self._source.height} (upright); make the masks in the film's size.",
            )
        return mask


def _mask(file: Path) -> Bytes:
    """A mask of a file: DensePose's IUV pictures are told by their first channel, which holds parts of 0 to 24, and by
    the others, which are not the same."""
    data = np.fromfile(file, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if file.suffix.lower() == ".png" and data.size else None
    if picture is not None and picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8:
        person = picture[..., 0] > 0
        coloured = bool((picture[..., 0] != picture[..., 1]).any() and (picture[..., 1] != picture[..., 2]).any())
        if coloured and picture[..., 0].max() <= 24 and not picture[~person].any():
            return np.asarray(np.where(person, 255, 0), np.uint8)
    return read_grey(file)


def _own(path: Path, names: Sequence[str]) -> Path:
    """The camera's own folder or video inside ``path`` where there is one."""
    if not path.exists():
        raise BackendError("masks-missing", f"There is no {path}; check --masks.")
    if path.is_dir():
        for name in names:
            if (path / name).is_dir():
                return path / name
            for file in sorted(path.glob("*")):
                if file.stem == name and file.is_file() and file.suffix.lower() not in PICTURE_ENDINGS:
                    return file
    return path
