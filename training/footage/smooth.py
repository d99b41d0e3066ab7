# SPDX-License-Identifier: GPL-3.0-or-later
"""A low-pass filter for joints over time that knows of gaps, clip ends and frame rates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, sosfiltfilt

from ...neural_backend.interface.camera import Array

#: Seconds over which an absent joint is interpolated; it then has this part of its neighbours' confidence.
SHORT_GAP = 0.2
FILLED_CONFIDENCE = 0.5


def frame_rate(times: npt.ArrayLike) -> float:
    """Frames a second, from the median distance of frames; 0 for fewer than two."""
    t = np.asarray(times, np.float64)
    step = float(np.median(np.diff(t))) if len(t) > 1 else 0.0
    return 1.0 / step if step > 0 else 0.0


def fill_short_gaps(joints: Array, confidence: Array, times: npt.ArrayLike) -> tuple[Array, Array]:
    """Interpolate joints over gaps of at most SHORT_GAP seconds, linearly, with lowered confidence.

    joints: (T, J, 3); confidence: (T, J), 0 where absent; times: (T,) seconds. Longer gaps and the clip's ends stay
    absent. Returns new arrays.
    """
    t = np.asarray(times, np.float64)
    out, out_confidence = joints.copy(), confidence.copy()
    if len(t) < 3:
        return out, out_confidence
    known = confidence > 0
    row = np.arange(len(t))[:, None]
    before = np.maximum.accumulate(np.where(known, row, -1), 0)
    after = np.minimum.accumulate(np.where(known, row, len(t))[::-1], 0)[::-1]
    inside = ~known & (before >= 0) & (after < len(t))
    a, b = np.where(inside, before, 0), np.where(inside, after, 0)
    fill = inside & (t[b] - t[a] <= SHORT_GAP + 1e-9)
    i, j = np.nonzero(fill)
    a, b = a[i, j], b[i, j]
    part = ((t[i] - t[a]) / (t[b] - t[a]))[:, None]
    out[i, j] = joints[a, j] * (1 - part) + joints[b, j] * part
    out_confidence[i, j] = FILLED_CONFIDENCE * np.minimum(confidence[a, j], confidence[b, j])
    return out, out_confidence


def low_pass(joints: Array, confidence: Array, times: npt.ArrayLike, cutoff: float = 6.0) -> Array:
    """Zero-phase Butterworth filter, fourth order in all (second, forth and back), over every unbroken run of a joint.

    joints: (T, J, D); confidence: (T, J), 0 where absent (left as it is, and nothing leaks across); times: (T,)
    seconds; cutoff: Hz, 0 for none. Film of under three frames per period of the cutoff (18 a second at 6 Hz) is left
    alone: there the filter would eat the movement. Variable frame rates are filtered on an even grid. The cutoff is
    corrected for the two passes (Winter, Biomechanics and Motor Control, 2.2.4.4).
    """
    t = np.asarray(times, np.float64)
    rate = frame_rate(t)
    out = joints.copy()
    if cutoff <= 0 or rate < 3 * cutoff:
        return out
    corrected = np.tan(np.pi * cutoff / rate) / (np.sqrt(2) - 1) ** 0.25
    sos = butter(2, min(2 * np.arctan(corrected) / np.pi, 0.95), output="sos")
    known = confidence > 0
    edge = np.diff(np.vstack([np.zeros_like(known[:1]), known, np.zeros_like(known[:1])]).astype(np.int8), axis=0)
    runs: dict[tuple[int, int], list[int]] = {}
    for j in range(known.shape[1]):
        for start, stop in zip(np.nonzero(edge[:, j] == 1)[0], np.nonzero(edge[:, j] == -1)[0], strict=True):
            runs.setdefault((int(start), int(stop)), []).append(j)
    for (first, last), columns in runs.items():
        if last - first > 3:
            out[first:last, columns] = _filter(joints[first:last, columns], t[first:last], sos, rate)
    return out


def _filter(x: Array, times: Array, sos: Array, rate: float) -> Array:
    even = np.abs(np.diff(times) * rate - 1).max() < 0.05
    grid = times if even else np.linspace(times[0], times[-1], max(round((times[-1] - times[0]) * rate) + 1, 4))
    y = x if even else _interpolate(grid, times, x)
    # Odd extension about half a period of the cutoff: the ends neither sag nor swing.
    y = sosfiltfilt(sos, y, axis=0, padtype="odd", padlen=min(len(y) - 1, round(rate / 4)))
    return np.asarray(y if even else _interpolate(times, grid, y))


def _interpolate(at: Array, times: Array, x: Array) -> Array:
    right = np.clip(np.searchsorted(times, at, "right"), 1, len(times) - 1)
    part = ((at - times[right - 1]) / (times[right] - times[right - 1])).reshape(-1, *[1] * (x.ndim - 1))
    return np.asarray(x[right - 1] * (1 - part) + x[right] * part)
