# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks that the user has: a folder of PNGs, one for each frame (or a folder of such for each camera), or a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ...neural_backend.interface.messages import BackendError
from .video import PICTURE_ENDINGS, Bytes, Source, natural, open_source
from .video_pictures import read_grey

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz")


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
        if path.suffix.lower() in _PICKLES and path.is_file():
            raise BackendError(
                "masks-missing",
                f"{path} is a pickle or the like, which can run programs and is not opened; give masks as a folder of "
                "PNG, or as a video.",
            )
        if path.is_dir():
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
        if self._files:
            for index in range(start, len(self._rows)):
                file = self._files[self._rows[index]]
                yield index, self._checked(read_grey(file), str(file))
            return
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
