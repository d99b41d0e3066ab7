# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way is up in other programs' worlds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.messages import BackendError
from ..records import CalibratedCamera

#: Names of axes that may point up.
AXES = ("x", "y", "z", "-x", "-y", "-z")


def to_z_up(up: str) -> npt.NDArray[np.float64]:
    """The rotation (3, 3) that takes a world with the axis ``up`` pointing up to one with Z up.

    '' counts as 'z'. For 'y' and '-y' the X axis stays; the axes of two files of one program thus stay together.
    Raises BackendError 'up-axis' for anything that is no axis.
    """
    if up and up not in AXES:
        raise BackendError("up-axis", f"There is no axis {up!r} that could point up; choose from {', '.join(AXES)}.")
    axis, sign = "xyz".index((up or "z")[-1]), -1.0 if up.startswith("-") else 1.0
    z = sign * np.eye(3)[axis]
    x = np.eye(3)[1] if axis == 0 else np.eye(3)[0]
    return np.stack([x, np.cross(z, x), z])


def guess_up(cameras: Sequence[CalibratedCamera]) -> str:
    """The world axis that points up: what the calibration says, else the axis nearest to the mean of the directions
    that are up in the pictures, since people film upright."""
    said = [camera.up for camera in cameras if camera.up]
    if said:
        return said[0]
    up = -np.mean([camera.camera.R[1] for camera in cameras], axis=0)
    axis = int(np.abs(up).argmax())
    return ("-" if up[axis] < 0 else "") + "xyz"[axis]
