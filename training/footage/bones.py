# SPDX-License-Identifier: GPL-3.0-or-later
"""Bones whose length stays, and how much it varies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array
from ...neural_backend.interface.skeleton import INDEX

Pairs = tuple[tuple[str, str], ...]

#: The eight limb bones that figures speak of.
LIMBS: Pairs = tuple(
    (s + a, s + b)
    for s in "RL"
    for a, b in (("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Hip", "Knee"), ("Knee", "Ankle"))
)  # fmt: skip
#: All distances between body joints that hardly change as a person moves.
RIGID_BONES: Pairs = (
    *LIMBS,
    ("RHip", "LHip"), ("MidHip", "RHip"), ("MidHip", "LHip"), ("Neck", "RShoulder"), ("Neck", "LShoulder"),
    *((s + a, s + b) for s in "RL" for a, b in (("Ankle", "Heel"), ("Ankle", "BigToe"), ("Heel", "BigToe"),
                                                ("Ankle", "SmallToe"), ("BigToe", "SmallToe"), ("Heel", "SmallToe"))),
    *((a, b) for i, a in enumerate(("Nose", "REye", "LEye", "REar", "LEar"))
      for b in ("Nose", "REye", "LEye", "REar", "LEar")[i + 1 :]),
)  # fmt: skip

#: Lengths as parts of a body's height (Winter, Biomechanics and Motor Control of Human Movement, figure 4.1).
OF_HEIGHT: dict[tuple[str, str], float] = {
    ("Neck", "MidHip"): 0.288,
    **{(s + "Hip", s + "Knee"): 0.245 for s in "RL"},
    **{(s + "Knee", s + "Ankle"): 0.246 for s in "RL"},
    **{(s + "Shoulder", s + "Elbow"): 0.186 for s in "RL"},
    **{(s + "Elbow", s + "Wrist"): 0.146 for s in "RL"},
}


def columns(pairs: Pairs) -> npt.NDArray[np.int64]:
    """(B, 2) joint columns of pairs of names."""
    return np.array([[INDEX[a], INDEX[b]] for a, b in pairs], np.int64).reshape(-1, 2)


def lengths(joints: npt.ArrayLike, confidence: npt.ArrayLike, pairs: Pairs = LIMBS) -> Array:
    """(T, B) lengths in the joints' unit, NaN where an end is absent. joints: (T, J, 3), confidence: (T, J)."""
    j, c = np.asarray(joints, np.float64), np.asarray(confidence)
    a, b = columns(pairs).T
    return np.where((c[:, a] > 0) & (c[:, b] > 0), np.linalg.norm(j[:, a] - j[:, b], axis=-1), np.nan)


def spreads(
    joints: npt.ArrayLike, confidence: npt.ArrayLike, pairs: Pairs = LIMBS
) -> dict[str, tuple[float, float, float]]:
    """For each bone 'A-B' seen in five frames or more: its median length, the standard deviation of its length over
    time, and its 5 to 95 % range, in the joints' unit."""
    table = lengths(joints, confidence, pairs)
    out = {}
    for (a, b), column in zip(pairs, table.T, strict=True):
        known = column[np.isfinite(column)]
        if len(known) >= 5:
            low, high = np.percentile(known, [5, 95])
            out[f"{a}-{b}"] = (float(np.median(known)), float(known.std()), float(high - low))
    return out


def median_lengths(joints: Array, confidence: Array, pairs: Pairs) -> tuple[npt.NDArray[np.int64], Array]:
    """Columns (B, 2) and median lengths (B,) of the bones seen in three frames or more, weighted by confidence."""
    table = lengths(joints, confidence, pairs)
    at = columns(pairs)
    kept = np.nonzero(np.isfinite(table).sum(0) >= 3)[0]
    weight = np.minimum(confidence[:, at[kept, 0]], confidence[:, at[kept, 1]])
    return at[kept], np.array([_weighted_median(table[:, i], w) for i, w in zip(kept, weight.T, strict=True)])


def _weighted_median(values: Array, weight: Array) -> float:
    known = np.isfinite(values)
    order = np.argsort(values[known])
    total = np.cumsum(weight[known][order])
    return float(values[known][order][np.searchsorted(total, total[-1] / 2)])


def mirrored(pair: tuple[str, str]) -> tuple[str, str]:
    """The same bone on the other side of the body; the bone itself where it lies in the middle."""
    swap = {"L": "R", "R": "L"}
    a, b = (swap[n[0]] + n[1:] if n[0] in swap else n for n in pair)
    return a, b


def body_height(joints: npt.ArrayLike, confidence: npt.ArrayLike) -> float:
    """Height of the person, in the joints' unit, from the median lengths of trunk and limbs; 0 where none was seen."""
    pairs = tuple(OF_HEIGHT)
    table = lengths(joints, confidence, pairs)
    seen = np.isfinite(table).sum(0) > 0
    if not seen.any():
        return 0.0
    return float(np.nanmedian(table[:, seen], 0).sum() / np.array(list(OF_HEIGHT.values()))[seen].sum())
