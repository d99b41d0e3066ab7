# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the pictures of a dataset, and keeping the decoded ones in memory.

A picture is stored cut to the box of its mask and premultiplied: outside that box it is transparent by definition, so
nothing is lost, and a person who fills a tenth of the frame costs a tenth of the memory.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.messages import BackendError

#: x0, y0, x1, y1 in pixels.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """A decoded picture. pixels: (h, w, 4) uint8 RGBA, display sRGB, premultiplied, cut at (x, y) out of width x
    height."""

    pixels: npt.NDArray[np.uint8]
    x: int
    y: int
    width: int
    height: int

    @property
    def empty(self) -> bool:
        """True where the mask has no pixel at all."""
        return self.pixels.size == 0

    def digest(self) -> bytes:
        """A digest of what it shows, equal for equal pictures however their files are packed."""
        place = np.array([self.x, self.y, self.width, self.height, *self.pixels.shape], np.int64)
        return hashlib.blake2b(place.tobytes() + self.pixels.tobytes(), digest_size=16).digest()

    def full(self) -> npt.NDArray[np.float32]:
        """The whole picture, (height, width, 4) float32, display sRGB, straight alpha, 0 under an empty mask."""
        out = np.zeros((self.height, self.width, 4), np.float32)
        h, w = self.pixels.shape[:2]
        cut = self.pixels.astype(np.float32) / 255
        cut[..., :3] /= np.maximum(cut[..., 3:], 1 / 255)
        out[self.y : self.y + h, self.x : self.x + w] = np.minimum(cut, 1)
        return out


def load_picture(path: Path, width: int, height: int) -> Picture:
    """Decode an RGBA picture (8 or 16 bit PNG, straight alpha = the person's mask).

    Raises BackendError 'dataset-picture' when the file is missing, unreadable, of another size, or has no alpha
    channel.
    """
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread cannot open every path that Windows allows
    except OSError as error:
        raise BackendError("dataset-picture", f"The picture {path} cannot be read: {error.strerror}.") from error
    size = _size(data[:24].tobytes())
    if size is not None and size != (width, height):  # told by the file's head: what is too large is never decoded
        raise BackendError(
            "dataset-picture",
            f"The picture {path} is {size[0]}x{size[1]}, but its camera in cameras.json is {width}x{height}.",
        )
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if size else None
    except cv2.error:  # larger than OpenCV decodes
        image = None
    if image is None:
        raise BackendError("dataset-picture", f"The picture {path} is damaged or not a PNG; write it again.")
    if image.ndim != 3 or image.shape[2] != 4:
        raise BackendError(
            "dataset-picture",
            f"The picture {path} has no alpha channel; the person's mask must be its alpha (RGBA PNG).",
        )
    scale = 65535.0 if image.dtype == np.uint16 else 255.0
    return cut(image[..., [2, 1, 0, 3]], scale)


def _size(head: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG whose first 24 bytes are given; None where it is no PNG."""
    if len(head) < 24 or head[:8] != b"\x89PNG\r\n\x1a\n" or head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return int(width), int(height)


def cut(rgba: npt.NDArray[np.integer[Any] | np.floating[Any]], scale: float = 1.0) -> Picture:
    """A picture (H, W, 4), straight alpha, 0..scale, as it is kept."""
    height, width = rgba.shape[:2]
    mask = rgba[..., 3] > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return Picture(np.zeros((0, 0, 4), np.uint8), 0, 0, width, height)
    y, x = int(rows[0]), int(columns[0])
    part = rgba[y : rows[-1] + 1, x : columns[-1] + 1].astype(np.float32) / scale
    premultiplied = np.concatenate([part[..., :3] * part[..., 3:], part[..., 3:]], -1)
    return Picture(np.rint(premultiplied * 255).astype(np.uint8), x, y, width, height)


class PictureCache:
    """Decoded pictures by path, up to a limit in bytes; beyond it pictures are decoded each time they are asked for.
    Digests of all are kept."""

    def __init__(self, limit: int = 4 << 30) -> None:
        self._limit, self._used = limit, 0
        self._pictures: dict[Path, Picture] = {}
        self._digests: dict[Path, bytes] = {}
        self._lock = threading.Lock()

    def get(self, path: Path, width: int, height: int) -> Picture:
        """The picture at ``path``; see load_picture for the errors."""
        found = self._pictures.get(path)
        if found is None:
            found = load_picture(path, width, height)
            digest = found.digest() if path not in self._digests else None
            with self._lock:
                if digest is not None:
                    self._digests[path] = digest
                if path not in self._pictures and self._used + found.pixels.nbytes <= self._limit:
                    self._pictures[path] = found
                    self._used += found.pixels.nbytes
        return found

    def digest(self, path: Path, width: int, height: int) -> bytes:
        """The digest of the picture at ``path``, which is decoded only where it never was; see load_picture for the
        errors."""
        known = self._digests.get(path)
        return self.get(path, width, height).digest() if known is None else known
