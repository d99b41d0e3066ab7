# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the pixels of a filmed picture and the rays behind its lens."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array
from .records import CalibratedCamera

#: The five rounds that OpenCV takes by itself leave 20 pixels at the corners of an action camera's picture.
_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-6)


def to_rays(points: npt.ArrayLike, camera: CalibratedCamera) -> Array:
    """Pixels of the filmed picture (..., 2), lens undone, to points (..., 2) on the plane at depth 1."""
    p = np.asarray(points, np.float64)
    flat = np.ascontiguousarray(p.reshape(-1, 1, 2))
    if not len(flat):
        return p
    if not camera.distortion:
        k = camera.camera.K
        y = (flat[..., 1] - k[1, 2]) / k[1, 1]
        x = (flat[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
        return np.stack([x, y], -1).reshape(p.shape)
    lens = np.asarray(camera.distortion, np.float64)
    if camera.fisheye:
        rays = cv2.fisheye.undistortPoints(flat, camera.camera.K, lens)
    else:
        rays = cv2.undistortPointsIter(flat, camera.camera.K, lens, np.eye(3), np.eye(3), _UNTIL)
    return np.asarray(rays, np.float64).reshape(p.shape)


def to_pixels(points: npt.ArrayLike, camera: CalibratedCamera) -> Array:
    """World points (..., 3) to pixels (..., 2) of the filmed picture, through the lens; NaN behind the camera or where
    the point is NaN."""
    p = camera.camera.to_camera(points)
    seen = p[..., 2] > 1e-6
    out = np.full((*p.shape[:-1], 2), np.nan)
    if not seen.any():
        return out
    flat = np.ascontiguousarray(p[seen].reshape(-1, 1, 3))
    zero = np.zeros(3)
    lens = np.asarray(camera.distortion or (0.0,) * 4, np.float64)
    if camera.fisheye:
        pixels = cv2.fisheye.projectPoints(flat, zero, zero, camera.camera.K, lens)[0]
    else:
        pixels = cv2.projectPoints(flat, zero, zero, camera.camera.K, lens)[0]
    out[seen] = np.asarray(pixels).reshape(-1, 2)
    return out
