# SPDX-License-Identifier: GPL-3.0-or-later
"""A motion that was brought in 3D, and the calibrated films that show it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import JOINT_COUNT
from . import world
from .calibrate import fit_cameras
from .films import Film
from .optics import to_pixels
from .readers.axes import guess_up, to_z_up
from .records import CalibratedCamera, Detections, Motion, Reconstruction

#: A frame belongs to a moment of the motion that is at most so many of the motion's steps away.
_NEAR = 0.6


def place_motion(motion: Motion, films: Sequence[Film], up: str) -> Reconstruction:
    """The motion (Z up, as read) with the cameras turned as it was; the film's frame of each of its moments.

    Motion and films begin together. Raises BackendError 'footage-calibration' without a calibration.
    """
    cameras = [film.camera for film in films if film.camera is not None]
    if len(cameras) < len(films):
        raise BackendError(
            "footage-calibration",
            f"{motion.source} is a motion in 3D; to find it in the film, the camera's place is needed too: give "
            "--calibration FILE.",
        )
    fitted, notes = fit_cameras(cameras, [(film.source.width, film.source.height) for film in films])
    turn = to_z_up(up or guess_up(fitted))
    placed: tuple[CalibratedCamera, ...] = tuple(world.move_camera(c, turn, np.zeros(3)) for c in fitted)
    frames = np.full((len(motion), len(films)), -1, np.int64)
    step = float(np.median(np.diff(motion.times))) if len(motion) > 1 else 1.0
    for c, film in enumerate(films):
        times = film.source.times[film.selection.indices]
        nearest = np.abs(times[:, None] - motion.times[None]).argmin(0) if len(times) * len(motion) < 4e6 else (
            np.clip(np.searchsorted(times, motion.times - step / 2), 0, len(times) - 1)
        )  # fmt: skip
        frames[:, c] = np.where(np.abs(times[nearest] - motion.times) <= _NEAR * step, nearest, -1)
    shown = (frames >= 0).any(1)
    if not shown.any():
        raise BackendError("poses-corrupt", f"{motion.source} and the films have no moment in common.")
    kept = Motion(motion.joints[shown], motion.confidence[shown], motion.times[shown], motion.source)
    unknown = np.full((int(shown.sum()), len(films), JOINT_COUNT), np.nan, np.float32)
    return Reconstruction(kept, placed, frames[shown], unknown, (0.0,) * len(films), notes)


def project_motion(placed: Reconstruction, film: Film, c: int) -> Detections:
    """The motion as one camera's film shows it, which tells masks where the skeleton is."""
    count = len(film.selection)
    points, confidence = np.zeros((count, JOINT_COUNT, 2), np.float32), np.zeros((count, JOINT_COUNT), np.float32)
    rows = placed.frames[:, c] >= 0
    pixels = to_pixels(placed.motion.joints[rows], placed.cameras[c])
    ahead = np.isfinite(pixels).all(-1) & (placed.motion.confidence[rows] > 0)
    at = placed.frames[rows, c]
    points[at] = np.where(ahead[..., None], pixels, 0)
    confidence[at] = np.where(ahead, placed.motion.confidence[rows], 0)
    return Detections(points, confidence, film.selection.times, film.source.width, film.source.height,
                      placed.motion.source)  # fmt: skip
