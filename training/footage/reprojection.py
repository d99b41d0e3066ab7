# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames show the joints of a row, and how far the joints lie from what was detected in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array
from ...neural_backend.interface.skeleton import JOINT_COUNT
from .optics import to_pixels
from .records import CalibratedCamera, Detections, Motion
from .smooth import frame_rate

#: Detections over this confidence count as found.
SURE = 0.5


def nearest_frames(
    detections: Sequence[Detections], times: npt.NDArray[np.float64], offsets: Array
) -> npt.NDArray[np.int64]:
    """(T, C) the frame of each camera filmed nearest to each moment, at most 0.6 frames away; -1 for none."""
    out = np.full((len(times), len(detections)), -1, np.int64)
    for c, (d, offset) in enumerate(zip(detections, offsets, strict=True)):
        if not len(d):
            continue
        at = times + offset
        right = np.clip(np.searchsorted(d.times, at), 0, len(d) - 1)
        left = np.maximum(right - 1, 0)
        nearest = np.where(np.abs(d.times[left] - at) <= np.abs(d.times[right] - at), left, right)
        step = 1 / max(frame_rate(d.times), 1e-6)
        out[:, c] = np.where(np.abs(d.times[nearest] - at) <= 0.6 * step, nearest, -1)
    return out


def reprojection_errors(
    motion: Motion,
    cameras: Sequence[CalibratedCamera],
    frames: npt.NDArray[np.int64],
    detections: Sequence[Detections],
) -> npt.NDArray[np.float32]:
    """(T, C, 137) pixels of the filmed picture between the projected joint and the detection; NaN where there was no
    detection of confidence over 0.5, or no joint."""
    out = np.full((len(motion), len(cameras), JOINT_COUNT), np.nan, np.float32)
    for c, (camera, d) in enumerate(zip(cameras, detections, strict=True)):
        rows = frames[:, c] >= 0
        at = frames[rows, c]
        error = np.linalg.norm(to_pixels(motion.joints[rows], camera) - d.points[at], axis=-1)
        error[(d.confidence[at] <= SURE) | (motion.confidence[rows] <= 0)] = np.nan
        out[rows, c] = error
    return out
