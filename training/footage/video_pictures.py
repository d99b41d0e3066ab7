# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of pictures, and masks, as footage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.messages import BackendError
from .video import PICTURE_RATE, Bytes, Frame, Source, opaque


class PictureSource(Source):
    """Pictures of one size, one per frame. An alpha channel is kept as the frames' alpha."""

    def __init__(self, path: Path, pictures: Sequence[Path], rate: float | None = None) -> None:
        first = _decode(pictures[0])
        super().__init__(path, first.shape[1], first.shape[0], np.arange(len(pictures)) / (rate or PICTURE_RATE))
        if rate is None and len(pictures) > 1:
            self._warnings.append(
                f"{path} holds pictures, which do not say how fast they were taken: {PICTURE_RATE:g} a second are "
                "assumed; --rate says otherwise."
            )
        self.pictures = tuple(pictures)
        alpha = _split(first)[1]
        self.has_alpha = alpha is not None and not opaque(alpha)

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See Source. Raises BackendError 'video-size' at a picture of another size than the first."""
        for index in range(start, len(self) if stop is None else min(stop, len(self))):
            path = self.pictures[index]
            try:
                picture = _decode(path)
            except BackendError:
                self._lose(index, index + 1)
                continue
            if picture.shape[:2] != (self.height, self.width):
                raise BackendError(
                    "video-size",
                    f"The picture {path} is {picture.shape[1]}x{picture.shape[0]}, but the first of its folder is "
                    f"{self.width}x{self.height}; a folder must hold the pictures of one camera only.",
                )
            rgb, alpha = _split(picture)
            if self.has_alpha and alpha is None:
                alpha = np.full(rgb.shape[:2], 255, np.uint8)
            yield Frame(index, rgb, alpha if self.has_alpha else None)


def read_grey(path: Path) -> Bytes:
    """A mask, (H, W) uint8: the alpha of a picture that has one which is not the same everywhere, else its grey.

    Raises BackendError 'video-unreadable'.
    """
    rgb, alpha = _split(_decode(path))
    if alpha is not None and alpha.min() != alpha.max():
        return alpha
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _decode(path: Path) -> npt.NDArray[Any]:
    """The pixels as OpenCV gives them: grey, BGR or BGRA, 8 or 16 bit. JPEGs are turned upright."""
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path that Windows allows
    except OSError as error:
        raise BackendError("video-unreadable", f"The picture {path} cannot be read: {error.strerror}.") from error
    # Only IMREAD_UNCHANGED keeps an alpha, and only without it the camera's orientation is applied.
    flags = cv2.IMREAD_COLOR if path.suffix.lower() in (".jpg", ".jpeg") else cv2.IMREAD_UNCHANGED
    try:
        picture = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # it claims to be larger than OpenCV allows
        picture = None
    if picture is None:
        raise BackendError("video-unreadable", f"The picture {path} is damaged; copy it again or take it away.")
    return np.asarray(picture)


def _split(picture: npt.NDArray[Any]) -> tuple[Bytes, Bytes | None]:
    """RGB and alpha, 8 bit, of a picture in OpenCV's order."""
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif picture.dtype != np.uint8:
        picture = np.rint(np.clip(np.nan_to_num(picture.astype(np.float32)), 0, 1) * 255).astype(np.uint8)
    if picture.ndim == 2:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8), None
    if picture.shape[2] == 4:
        return np.ascontiguousarray(picture[..., 2::-1]), np.ascontiguousarray(picture[..., 3])
    return np.ascontiguousarray(picture[..., 2::-1]), None
