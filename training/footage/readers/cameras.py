# SPDX-License-Identifier: GPL-3.0-or-later
"""What every calibration reader does last: checks, and a CalibratedCamera."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.camera import Camera, check_calibration
from ..records import CalibratedCamera
from .fields import Array, Entry

#: Numbers of coefficients that OpenCV's lens model takes, and its fisheye model.
_LENS, _FISHEYE = (0, 4, 5, 8, 12, 14), (0, 4)


def rotation(vector: npt.ArrayLike) -> Array:
    """The matrix (3, 3) of a Rodrigues vector (3,), or of a matrix that was rounded when it was written."""
    value = np.asarray(vector, np.float64)
    if value.shape == (3, 3):
        u, _, vt = np.linalg.svd(value)
        return np.asarray(u @ vt)
    angle = float(np.linalg.norm(value))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = value / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k)


def opencv_centres(K: Array) -> Array:
    """Intrinsics of a program in which pixel centres are whole numbers, as in OpenCV, in our convention (+0.5)."""
    return np.asarray(K + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]))


def calibrated(
    entry: Entry, name: str, size: tuple[int, int], K: Array, R: Array, t: Array,
    distortion: npt.ArrayLike = (), fisheye: bool = False, up: str = "",
) -> CalibratedCamera:  # fmt: skip
    """A checked camera. entry: the part of the file it is from, which complains.

    size: width, height in pixels. K, R: (3, 3); t: (3,) metres. distortion: OpenCV's coefficients in its order; zeros
    at the end are dropped.
    """
    if R.shape == (3, 3) and (np.abs(R @ R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0):
        entry.fail("its rotation matrix is none (rows must be unit vectors at right angles, right-handed)")
    lens = tuple(float(value) for value in np.asarray(distortion, np.float64).ravel())
    counts = _FISHEYE if fisheye else _LENS
    if len(lens) not in counts:
        entry.fail(f"a lens has {' or '.join(map(str, counts[1:]))} distortion coefficients, not {len(lens)}")
    if np.abs(t).max() > 1000:
        entry.fail(f"it is {np.abs(t).max():.0f} m from the origin; are its lengths in millimetres?")
    camera = Camera(K / K[2, 2] if K[2, 2] else K, rotation(R), t, *size)
    try:
        check_calibration(camera)
    except ValueError as error:
        entry.fail(str(error))
    if not any(lens):
        lens = ()
    return CalibratedCamera(name, camera, lens, fisheye and bool(lens), up)
