# SPDX-License-Identifier: GPL-3.0-or-later
"""Left and right mixed up: pose models do so for some frames, most of all from behind. Found and put right."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array
from ...neural_backend.interface.skeleton import INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from .smooth import frame_rate

Bools = npt.NDArray[np.bool_]

_HAND = tuple(zip(range(LEFT_HAND, RIGHT_HAND), range(RIGHT_HAND, RIGHT_HAND + 21), strict=True))
#: Pairs of joints that are mixed up together: arms with head and hands, legs.
GROUPS: tuple[tuple[tuple[int, int], ...], ...] = (
    tuple((INDEX["L" + n], INDEX["R" + n]) for n in ("Shoulder", "Elbow", "Wrist", "Eye", "Ear")) + _HAND,
    tuple((INDEX["L" + n], INDEX["R" + n]) for n in ("Hip", "Knee", "Ankle", "BigToe", "SmallToe", "Heel")),
)
_ARM, _LEG = (np.array(GROUPS[0][:3]), np.array(GROUPS[1][:3]))
#: What a flipped frame costs, beside jumps in lengths of the trunk: sides that are always flipped are left alone.
_UNLIKELY = 0.01
#: Metres of mean distance from which on a camera's limbs are suspected, and the part of it that flipping must leave.
_SUSPECT, _CURE = 0.06, 0.5


def swap(values: npt.NDArray[np.float64], flipped: Bools) -> npt.NDArray[np.float64]:
    """Exchange left and right. values: (T, 137, …); flipped: (T, 2), for each of GROUPS. Returns a new array."""
    order = np.tile(np.arange(JOINT_COUNT), (len(values), 1))
    for g, pairs in enumerate(GROUPS):
        a, b = np.array(pairs).T
        rows = np.nonzero(flipped[:, g])[0][:, None]
        order[rows, a], order[rows, b] = b, a
    return np.asarray(values[np.arange(len(values))[:, None], order])


def find_jumps(points: npt.ArrayLike, confidence: npt.ArrayLike, times: npt.NDArray[np.float64]) -> Bools:
    """(T, 2) frames of one camera in which arms or legs are flipped: in which they jump to the other side and back.

    points: (T, 137, 2) pixels or rays; confidence: (T, 137). The cheapest path through both labellings (Viterbi), jumps
    counted in lengths of the trunk. Under ten frames a second nothing is said.
    """
    p, c = np.asarray(points, np.float64), np.asarray(confidence, np.float64)
    out = np.zeros((len(p), 2), bool)
    if frame_rate(times) < 10:
        return out
    ends = [INDEX["Neck"], INDEX["MidHip"]]
    trunk = np.linalg.norm(p[:, ends[0]] - p[:, ends[1]], axis=-1)[np.all(c[:, ends] > 0, axis=1)]
    if not len(trunk):
        return out
    size = max(float(np.median(trunk)), 1e-9)
    for g, pairs in enumerate((_ARM, _LEG)):
        known = np.any(np.all(c[:, pairs] > 0.3, axis=-1), axis=1)
        rows = np.nonzero(known)[0]
        if len(rows) > 2:
            out[rows, g] = _cheapest(p[rows][:, pairs] / size, c[rows][:, pairs], np.diff(times[rows]) <= 0.2)
    return out


def _cheapest(p: Array, c: Array, near: Bools) -> Bools:
    """(N,) the flips of least cost. p: (N, P, 2 sides, 2), c: (N, P, 2)."""

    def jump(other: slice) -> Array:
        d = np.minimum(np.linalg.norm(p[1:] - p[:-1, :, other], axis=-1), 1.0)
        w = c[1:] * c[:-1, :, other]
        return np.asarray((w * d).sum((1, 2)) / np.maximum(w.sum((1, 2)), 1e-9))

    stay, change = jump(slice(None)) * near, jump(slice(None, None, -1)) * near
    cost = np.array([0.0, _UNLIKELY])
    back = np.zeros((len(p), 2), np.int64)
    for i in range(len(p) - 1):
        ways = cost[:, None] + np.array([[stay[i], change[i]], [change[i], stay[i]]])
        back[i + 1] = ways.argmin(0)
        cost = ways.min(0) + (0.0, _UNLIKELY)
    state = np.zeros(len(p), np.int64)
    state[-1] = cost.argmin()
    for i in range(len(p) - 1, 0, -1):
        state[i - 1] = back[i, state[i]]
    return state.astype(bool)


def find_contradictions(distance: Array, swapped: Array, weight: Array) -> Bools:
    """(T, C, 2) where a camera's arms or legs agree with the others once they are flipped.

    distance, swapped: (T, C, 137) metres between the triangulated joints and the camera's rays, as detected and with
    left and right exchanged (NaN where absent); weight: (T, C, 137).
    """
    out = np.zeros((*distance.shape[:2], 2), bool)
    for g, pairs in enumerate((_ARM, _LEG)):
        joints = pairs.ravel()
        both = np.isfinite(distance[..., joints]) & np.isfinite(swapped[..., joints]) & (weight[..., joints] > 0)
        count = np.maximum(both.sum(-1), 1)
        kept = np.where(both, distance[..., joints], 0).sum(-1) / count
        cured = np.where(both, swapped[..., joints], 0).sum(-1) / count
        out[..., g] = (both.sum(-1) >= 3) & (kept > _SUSPECT) & (cured < _CURE * kept)
    return out
