# SPDX-License-Identifier: GPL-3.0-or-later
"""Which frames of several cameras were filmed at the same moment.

Two cameras see the same moment when every joint lies on the other camera's epipolar line. Calibration and pose model
are off by a constant that differs from joint to joint, so what is searched is the shift at which the distance to the
line *changes* least over time: the motion tells it, a bias does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array, Camera
from .smooth import frame_rate

Ints = npt.NDArray[np.int64]

#: The gain (part of the spread) under which a shift is not believed.
_GAIN = 0.05
_MOST_ROWS = 1500
_MOST_PAIRS = 60


def sample(
    rays: Array, confidence: Array, times: npt.NDArray[np.float64], at: npt.NDArray[np.float64]
) -> tuple[Array, Array]:
    """Observations at other moments: between two frames linearly, where both know the joint.

    rays: (T, J, 2); confidence: (T, J); times: (T,) seconds, rising; at: (N,) seconds. Returns (N, J, 2) and (N, J), 0
    where either frame lacks the joint, beyond the film's ends by more than half a frame, and inside holes of the film.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    inside = (at > times[0] - step / 2) & (at < times[-1] + step / 2)
    b = np.clip(np.searchsorted(times, at), min(1, len(times) - 1), len(times) - 1)
    a = np.maximum(b - 1, 0)
    span = times[b] - times[a]
    part = np.clip(np.where(span > 0, (at - times[a]) / np.where(span > 0, span, 1), 0), 0, 1)
    # A moment within a hundredth of a frame of a frame is that frame, whatever its neighbour knows.
    part = np.where(part < 0.01, 0.0, np.where(part > 0.99, 1.0, part))
    inside &= (span < 2.5 * step) | (part == 0) | (part == 1)
    w = part[:, None]
    known = ((confidence[a] > 0) | (w == 1)) & ((confidence[b] > 0) | (w == 0)) & inside[:, None]
    c = np.minimum(np.where(w == 1, 1, confidence[a]), np.where(w == 0, 1, confidence[b]))
    return rays[a] * (1 - w[..., None]) + rays[b] * w[..., None], np.where(known, c, 0)


def find_offsets(
    rays: Sequence[Array],
    confidence: Sequence[Array],
    times: Sequence[npt.NDArray[np.float64]],
    cameras: Sequence[Camera],
    seconds: float = 0.5,
) -> Array:
    """By how many seconds each camera's clock is ahead, (C,), the first camera's being 0.

    rays, confidence, times: for each camera (T_c, J, 2), see optics.to_rays, (T_c, J) and (T_c,); lengths and rates may
    differ. seconds: the search goes so far to both sides. Whole frames (of the fastest camera) first, then parts of a
    frame from a parabola. A shift that makes the spread of the epipolar distances less than 5 % smaller is not
    believed: nobody moved enough to tell. The moment s of the first camera was filmed by camera c at s + offset[c].
    """
    count = len(cameras)
    step = 1 / max(max(frame_rate(t) for t in times), 1e-6)
    reach = round(seconds / step)
    if count < 2 or reach < 1 or min(len(t) for t in times) < 5:
        return np.zeros(count)
    # Twice as far between two cameras: one may be late and the other early.
    shifts = np.arange(-2 * reach, 2 * reach + 1, dtype=np.float64) * step
    pairs = list(combinations(range(count), 2))
    if len(pairs) > _MOST_PAIRS:
        kept = np.random.default_rng(0).permutation(len(pairs))[:_MOST_PAIRS]
        pairs = [p for i, p in enumerate(pairs) if p[0] == 0 or i in set(kept.tolist())]
    told = [_spreads(rays, confidence, times, cameras, a, b, shifts) for a, b in pairs]
    table, weight = np.stack([spread for spread, _ in told]), np.array([mass for _, mass in told])
    offsets = _descend(table, weight, pairs, count, reach)
    offsets = _believe(offsets, table, weight, pairs, reach)
    return _between(offsets, table, weight, pairs, reach) * step


def _spreads(
    rays: Sequence[Array],
    confidence: Sequence[Array],
    times: Sequence[npt.NDArray[np.float64]],
    cameras: Sequence[Camera],
    a: int,
    b: int,
    shifts: Array,
) -> tuple[Array, float]:
    """Logarithm (S,) of the spread of the epipolar distances between two cameras at each shift of the second, and the
    pair's weight. (The likelihood of Laplace noise of unknown size: pairs whose lines tell little weigh little.)"""
    rows = np.unique(np.linspace(0, len(times[a]) - 1, min(len(times[a]), _MOST_ROWS)).round().astype(np.int64))
    first, first_known = rays[a][rows], confidence[a][rows]
    rotation = cameras[b].R @ cameras[a].R.T
    x, y, z = cameras[b].t - rotation @ cameras[a].t
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    line = np.concatenate([first, np.ones((*first.shape[:2], 1))], -1) @ essential.T
    out = np.full(len(shifts), np.nan)
    most = 0.0
    for i, shift in enumerate(shifts):
        second, known = sample(rays[b], confidence[b], times[b], times[a][rows] + shift)
        w = np.where((known > 0.5) & (first_known > 0.5), known * first_known, 0)
        if w.sum() < 50 or (w > 0).any(1).sum() < 5:
            continue
        point = np.concatenate([second, np.ones((*second.shape[:2], 1))], -1)
        back = point @ essential
        distance = (point * line).sum(-1) / np.sqrt((line[..., :2] ** 2).sum(-1) + (back[..., :2] ** 2).sum(-1) + 1e-18)
        # The constant part of each joint, robustly, then a mean absolute rest.
        shown = np.where(w > 0, distance, np.nan)
        usable = (w > 0).sum(0) >= 5
        rest = np.abs(shown[:, usable] - np.nanmedian(shown[:, usable], 0))
        out[i] = np.nanmean(rest) if rest.size else np.nan
        most = max(most, float(w.sum()))
    if np.isnan(out).all():
        return np.zeros(len(shifts)), 0.0
    # A shift at which the two films hardly overlap tells nothing: no gain.
    return np.log(np.where(np.isnan(out), np.nanmax(out), out) + 1e-6), most


def _total(offsets: Ints, table: Array, weight: Array, pairs: list[tuple[int, int]], reach: int) -> float:
    return float(
        sum(
            w * row[int(np.clip(offsets[b] - offsets[a], -2 * reach, 2 * reach)) + 2 * reach]
            for (a, b), row, w in zip(pairs, table, weight, strict=True)
        )
    )


def _descend(table: Array, weight: Array, pairs: list[tuple[int, int]], count: int, reach: int) -> Ints:
    """Whole-frame offsets (C,) of least total spread: one camera after the other, from several starts."""
    tries = np.arange(-reach, reach + 1)
    best, best_cost = np.zeros(count, np.int64), np.inf
    direct = {
        b: int(np.argmin(row[reach : 3 * reach + 1])) - reach
        for (a, b), row in zip(pairs, table, strict=True)
        if a == 0
    }
    starts = [np.zeros(count, np.int64), np.array([direct.get(c, 0) for c in range(count)])]
    for start in starts:
        offsets, cost = start.copy(), _total(start, table, weight, pairs, reach)
        for _ in range(20):
            before = cost
            for c in range(1, count):
                costs = []
                for shift in tries:
                    offsets[c] = shift
                    costs.append(_total(offsets, table, weight, pairs, reach))
                offsets[c] = tries[int(np.argmin(costs))]
                cost = min(costs)
            # All later cameras together: the first one may be the one that is late.
            together = [
                _total(np.r_[0, np.clip(offsets[1:] + s, -reach, reach)], table, weight, pairs, reach) for s in tries
            ]
            if min(together) < cost:
                offsets[1:] = np.clip(offsets[1:] + tries[int(np.argmin(together))], -reach, reach)
                cost = min(together)
            if cost >= before - 1e-15:
                break
        if cost < best_cost:
            best, best_cost = offsets, cost
    return best


def _believe(offsets: Ints, table: Array, weight: Array, pairs: list[tuple[int, int]], reach: int) -> Ints:
    """Offsets without those that gain too little: all of them against none, then each camera's against its own 0."""

    def gains(kept: Ints, without: Ints) -> bool:
        touched = [i for i, (a, b) in enumerate(pairs) if kept[b] - kept[a] != without[b] - without[a]]
        mine = [pairs[i] for i in touched]
        costs = [_total(o, table[touched], weight[touched], mine, reach) for o in (kept, without)]
        return bool(costs[1] - costs[0] > _GAIN * weight[touched].sum())

    if not gains(offsets, np.zeros_like(offsets)):
        return np.zeros_like(offsets)
    out = offsets.copy()
    for c in range(1, len(offsets)):
        without = out.copy()
        without[c] = 0
        if out[c] and not gains(out, without):
            out = without
    return out


def _between(offsets: Ints, table: Array, weight: Array, pairs: list[tuple[int, int]], reach: int) -> Array:
    """Offsets refined to parts of a frame: the lowest point of a parabola through the total at -1, 0 and 1 frame."""
    out = offsets.astype(np.float64)
    for c in range(1, len(offsets)):
        costs = []
        for shift in (-1, 0, 1):
            moved = offsets.copy()
            moved[c] += shift
            costs.append(_total(moved, table, weight, pairs, reach))
        bend = costs[0] - 2 * costs[1] + costs[2]
        if offsets[c] and bend > 1e-12:
            out[c] += np.clip((costs[0] - costs[2]) / (2 * bend), -0.5, 0.5)
    return out
