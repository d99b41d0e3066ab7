# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts of a picture, and masks of cuts put back where they belong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .manifest import write_bytes
from .records import Floats
from .video import Bytes

#: x0, y0, x1, y1 in pixels of the film.
Box = tuple[float, float, float, float]


def working_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height of the masks of a film: at most ``size`` on the longer side."""
    scale = min(1.0, size / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def cut(rgb: Bytes, view: Box, size: int) -> Bytes:
    """The film's cut ``view`` (whole pixels), scaled down to at most ``size`` pixels on its longer side."""
    x0, y0, x1, y1 = (round(v) for v in view)
    picture = rgb[y0:y1, x0:x1]
    shape = working_size(picture.shape[1], picture.shape[0], size)
    if shape == picture.shape[1::-1]:
        return np.ascontiguousarray(picture)
    return np.asarray(cv2.resize(picture, shape, interpolation=cv2.INTER_AREA), np.uint8)


def place_mask(mask: Floats, view: Box, film: tuple[int, int], size: tuple[int, int]) -> Bytes:
    """The mask (h, w) float32 in 0..1 of the film's cut ``view`` in the whole picture, uint8; film, size: width and
    height of the film and of the result. Outside of the view it is 0."""
    sx, sy = size[0] / film[0], size[1] / film[1]
    kx, ky = (view[2] - view[0]) * sx / mask.shape[1], (view[3] - view[1]) * sy / mask.shape[0]
    # Pixel centres lie at +0.5.
    matrix = np.array([[kx, 0, view[0] * sx + 0.5 * kx - 0.5], [0, ky, view[1] * sy + 0.5 * ky - 0.5]])
    grey = np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.warpAffine(grey, matrix, size, flags=cv2.INTER_LINEAR), np.uint8)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common, 1e-6)


def write_grey(path: Path, picture: Bytes) -> None:
    """A grey PNG, as write_bytes does."""
    ok, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    assert ok
    write_bytes(path, data.tobytes())
