# SPDX-License-Identifier: GPL-3.0-or-later
"""Training crops: the virtual camera of a frame, varied a little, and the picture as that camera would see it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from .pictures import Box, Picture


@dataclass(frozen=True)
class Augmentation:
    """How far a crop may stray from the tight one. scale: factor, either way. shift: share of the size. rotation:
    degrees."""

    scale: float = 1.12
    shift: float = 0.05
    rotation: float = 8.0


@dataclass(frozen=True)
class Crop:
    """What the network is shown of one view.

    camera: the crop's camera, network size. rgba: (4, H, W) float32, display sRGB, premultiplied. valid: (1, H, W)
    float32, 1 where the training picture reaches; the loss is masked elsewhere.
    """

    camera: Camera
    rgba: npt.NDArray[np.float32]
    valid: npt.NDArray[np.float32]


def vary_camera(camera: Camera, rng: np.random.Generator, augmentation: Augmentation) -> Camera:
    """The camera rolled about its axis, zoomed and shifted by random amounts within ``augmentation``."""
    angle = np.radians(augmentation.rotation) * rng.uniform(-1, 1)
    zoom = augmentation.scale ** rng.uniform(-1, 1)
    dx, dy = augmentation.shift * rng.uniform(-1, 1, 2) * (camera.width, camera.height)
    c, s = np.cos(angle), np.sin(angle)
    roll = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    k = camera.K.copy()
    k[:2, :2] *= zoom
    # The roll turns about the principal point, which may lie far outside a crop: move the crop's centre back.
    centre = np.array([camera.width / 2, camera.height / 2, 1.0])
    ray = roll @ np.linalg.inv(camera.K) @ centre
    k[:2, 2] = centre[:2] + (dx, dy) - k[:2, :2] @ ray[:2]
    return replace(camera, K=k, R=roll @ camera.R, t=roll @ camera.t)


def picture_to_crop(source: Camera, target: Camera) -> npt.NDArray[np.float64]:
    """The (3, 3) homography from the source camera's pixels to the target's; both are perspective and share one
    centre."""
    return np.asarray(target.K @ target.R @ source.R.T @ np.linalg.inv(source.K))


def cut_crop(picture: Picture, source: Camera, target: Camera, filmed: Box | None = None) -> Crop:
    """Resample a picture for the crop's camera, antialiased where it shrinks; colours stay premultiplied throughout.

    filmed: the part of the picture that was filmed; None for all of it.
    """
    homography = picture_to_crop(source, target)
    width, height = target.width, target.height
    # Magnification at the crop's middle: above 1 the picture is enlarged, below it several pixels fall on one.
    magnification = float(np.sqrt(abs(np.linalg.det(homography[:2, :2])) / homography[2, 2] ** 2))
    finer = int(np.clip(np.ceil(1 / max(magnification, 1e-6) - 0.1), 1, 16))
    to_finer = np.diag([finer, finer, 1.0]) @ homography
    if picture.empty:
        rgba: npt.NDArray[np.float32] = np.zeros((height, width, 4), np.float32)
    else:
        # Enlarging wants a sharp filter; its overshoot is cut off below, so that colours stay within the alpha.
        filter_ = cv2.INTER_CUBIC if magnification > 1 else cv2.INTER_LINEAR
        matrix = _centred(to_finer @ _shift(picture.x, picture.y))
        warped = cv2.warpPerspective(picture.pixels, matrix, (width * finer, height * finer), flags=filter_)
        if finer > 1:
            warped = cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)
        rgba = np.asarray(warped, np.float32) / np.float32(255)
        rgba[..., :3] = np.minimum(rgba[..., :3], rgba[..., 3:])
    box = filmed or (0, 0, source.width, source.height)
    # What is interpolated beside the border is half nothing; and a crop's pixel may span several of the source's.
    margin = max(1.0, 0.5 / max(magnification, 1e-6))
    valid = _valid(homography, box, target, margin)
    return Crop(target, np.ascontiguousarray(rgba.transpose(2, 0, 1)), valid)


def _valid(homography: npt.NDArray[np.float64], filmed: Box, target: Camera, margin: float) -> npt.NDArray[np.float32]:
    """(1, H, W) float32: 1 where a crop's pixel lies at least ``margin`` source pixels inside what was filmed."""
    x, y = np.arange(target.width) + 0.5, np.arange(target.height)[:, None] + 0.5
    u, v, w = (a * x + (b * y + c) for a, b, c in np.linalg.inv(homography))
    x0, y0, x1, y1 = filmed
    # Multiplied by w, which is positive where it counts: divisions would take most of the time.
    x0, y0, x1, y1 = x0 + margin, y0 + margin, x1 - margin, y1 - margin
    inside = (w > 0) & (u >= x0 * w) & (u <= x1 * w) & (v >= y0 * w) & (v <= y1 * w)
    return np.asarray(inside[None], np.float32)


def _shift(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _centred(homography: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Our pixel centres lie at +0.5, OpenCV's at whole numbers."""
    return _shift(-0.5, -0.5) @ homography @ _shift(0.5, 0.5)
