# SPDX-License-Identifier: GPL-3.0-or-later
"""What one room of the footage pipeline hands to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Camera

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CalibratedCamera:
    """A real camera with its lens. Conventions as in docs/conventions.md: metres, x_cam = R x_world + t, pixel centres
    at +0.5.

    name: the camera's, also the name of its folder. camera: K, R, t and size of the *filmed* picture (as calibrated).
    distortion: OpenCV's coefficients (k1, k2, p1, p2[, k3…]), or the fisheye model's four; empty for a perfect lens.
    up: the calibration's world axis that points up, 'x', 'y', 'z', '-x', '-y' or '-z'; '' where the file does not say.
    """

    name: str
    camera: Camera
    distortion: tuple[float, ...] = ()
    fisheye: bool = False
    up: str = ""


@dataclass(frozen=True)
class Detections:
    """What a pose model found of one person in one camera's frames.

    points: (T, 137, 2) float32, pixels of the filmed picture (upright, lens not undone), centres at +0.5; 0 where
    absent. confidence: (T, 137) float32 in 0..1; 0 where absent. world: (T, 137, 3) float32 metres, camera axes, origin
    at MidHip, the pose model's own guess in 3D, NaN where it has none; None where the source has no such guess. times:
    (T,) float64 seconds from the first frame. width, height: of the filmed picture. source: the file or folder, for
    messages.
    """

    points: Floats
    confidence: Floats
    times: npt.NDArray[np.float64]
    width: int
    height: int
    source: str
    world: Floats | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(T,) bool: frames in which somebody was found."""
        return np.asarray((self.confidence > 0).any(1))


@dataclass(frozen=True)
class Motion:
    """3D joints over time. joints: (T, 137, 3) float32 metres, world; confidence: (T, 137) float32, 0 where absent;
    times: (T,) float64 seconds; source: file, for messages."""

    joints: Floats
    confidence: Floats
    times: npt.NDArray[np.float64]
    source: str = ""

    def __len__(self) -> int:
        return len(self.joints)


@dataclass(frozen=True)
class Reconstruction:
    """Joints and cameras of a capture, world in metres, Z up, the floor near Z = 0.

    motion: T rows. cameras: C cameras as refined (lens included). frames: (T, C) int64, the row of each camera's
    Detections that was filmed at each row of the motion; -1 for none. reprojection: (T, C, 137) float32 pixels of the
    filmed picture between the projected joint and the detection, NaN where there was no detection of confidence over
    0.5 or no joint. offsets: C frames by which each camera was found out of step. notes: sentences for people about
    what was found or assumed.
    """

    motion: Motion
    cameras: tuple[CalibratedCamera, ...]
    frames: npt.NDArray[np.int64]
    reprojection: Floats
    offsets: tuple[float, ...]
    notes: tuple[str, ...] = ()
