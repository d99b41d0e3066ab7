# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints of one build to joints of another: directions from the rig, lengths from the avatar. Geometry alone.

Trunk and limbs keep the direction of every bone. Head and feet are rigid: they have the avatar's shape, turned as the
rig's lie. Hands keep their pose and take the avatar's size. The body travels as far as its legs would carry it, and
what stands on the ground stays there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND

Array = npt.NDArray[np.float64]

#: From the hips outwards, parents first.
_BONES: tuple[tuple[int, int], ...] = tuple(
    (INDEX[a], INDEX[b])
    for a, b in (
        ("MidHip", "Neck"),
        *(
            (f"{a}" if a in ("Neck", "MidHip") else s + a, s + b)
            for s in "LR"
            for a, b in (
                ("Neck", "Shoulder"), ("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("MidHip", "Hip"), ("Hip", "Knee"),
                ("Knee", "Ankle"),
            )
        ),
    )
)  # fmt: skip
_LEGS = tuple((INDEX[s + a], INDEX[s + b]) for s in "LR" for a, b in (("Hip", "Knee"), ("Knee", "Ankle")))
_HEAD = (*(INDEX[j] for j in ("Nose", "REye", "LEye", "REar", "LEar")), *range(FACE, JOINT_COUNT))
_FEET = tuple(tuple(INDEX[s + j] for j in ("Ankle", "BigToe", "SmallToe", "Heel")) for s in "LR")
_SOLES = tuple(i for foot in _FEET for i in foot[1:])
_PALM = (5, 9, 13, 17)


def leg_ratio(joints: Array, rest: Array, size: float) -> float:
    """Length of the avatar's legs, at ``size`` world units a metre, over that of the rig's."""
    return size * _length(rest, _LEGS) / max(_length(joints, _LEGS), 1e-9)


def retarget(
    joints: npt.ArrayLike,
    confidence: npt.ArrayLike,
    rest: npt.ArrayLike,
    rest_confidence: npt.ArrayLike,
    size: float,
    origin: npt.ArrayLike,
) -> Array:
    """Joints (137, 3) of the avatar's build in the rig's pose.

    joints: (137, 3) world, Z up; confidence: (137,), 0 where a joint is absent; rest, rest_confidence: the avatar's, in
    metres; size: world units a metre of the avatar; origin: (3,) a point of the ground, about which the body's way is
    scaled.
    """
    old, template = np.asarray(joints, np.float64), np.asarray(rest, np.float64)
    present = np.asarray(confidence) > 0
    known = present & (np.asarray(rest_confidence) > 0)
    ground = np.asarray(origin, np.float64)
    ratio = leg_ratio(old, template, size)
    new = old.copy()
    hip = INDEX["MidHip"]
    new[hip] = ground + ratio * (old[hip] - ground)
    for a, b in _BONES:
        bone = old[b] - old[a]
        length = float(np.linalg.norm(bone))
        wanted = size * float(np.linalg.norm(template[b] - template[a])) if known[a] and known[b] else ratio * length
        new[b] = new[a] + bone * (wanted / max(length, 1e-9))
    _head(old, new, template, present, known, size, ratio)
    for foot in _FEET:
        _rigid(foot, foot[0], old, new, template, present, known, size, ratio)
    for side, first in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
        _hand(INDEX[f"{side}Wrist"], first, old, new, template, known, size, ratio)
    soles = [i for i in _SOLES if present[i]] or [INDEX["LAnkle"], INDEX["RAnkle"]]
    # The lower foot keeps its height, as far as legs of the avatar's length would lift it.
    new[:, 2] += ground[2] + ratio * (old[soles, 2].min() - ground[2]) - new[soles, 2].min()
    return np.where(present[:, None], new, old)


def _head(
    old: Array, new: Array, template: Array, present: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_],
    size: float, ratio: float,
) -> None:  # fmt: skip
    """Nose, eyes, ears and face, at the avatar's distance from the neck in the rig's direction."""
    neck = INDEX["Neck"]
    both = [i for i in _HEAD if known[i]]
    if len(both) < 3:
        _follow([i for i in _HEAD if present[i]], neck, old, new, ratio)
        return
    here, there = old[both].mean(0), template[both].mean(0)
    up = here - old[neck]
    reach = size * float(np.linalg.norm(there - template[neck]))
    middle = new[neck] + up * (reach / max(float(np.linalg.norm(up)), 1e-9))
    turn = _turn(template[both] - there, old[both] - here)
    new[both] = middle + size * (template[both] - there) @ turn.T
    _follow([i for i in _HEAD if present[i] and not known[i]], neck, old, new, ratio)


def _rigid(
    group: Sequence[int], anchor: int, old: Array, new: Array, template: Array,
    present: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_], size: float, ratio: float,
) -> None:  # fmt: skip
    """A group of joints in the avatar's shape around its anchor, turned as the rig's lie."""
    both = [i for i in group if known[i]]
    if len(both) < 3 or anchor not in both:
        _follow([i for i in group if present[i] and i != anchor], anchor, old, new, ratio)
        return
    turn = _turn(template[both] - template[both].mean(0), old[both] - old[both].mean(0))
    new[both] = new[anchor] + size * (template[both] - template[anchor]) @ turn.T
    _follow([i for i in group if present[i] and not known[i]], anchor, old, new, ratio)


def _hand(
    wrist: int, first: int, old: Array, new: Array, template: Array, known: npt.NDArray[np.bool_], size: float,
    ratio: float,
) -> None:  # fmt: skip
    palm = [first + i for i in _PALM if known[first + i]]
    factor = ratio
    if palm and known[first]:
        theirs = np.linalg.norm(template[palm] - template[first], axis=1).sum()
        factor = size * float(theirs / max(np.linalg.norm(old[palm] - old[first], axis=1).sum(), 1e-9))
    _follow(range(first, first + 21), wrist, old, new, factor)


def _follow(group: Sequence[int] | range, anchor: int, old: Array, new: Array, factor: float) -> None:
    for i in group:
        new[i] = new[anchor] + factor * (old[i] - old[anchor])


def _turn(a: Array, b: Array) -> Array:
    """The rotation (3, 3) that best takes vectors a (N, 3) to b (N, 3) (Kabsch 1976)."""
    u, _, v = np.linalg.svd(b.T @ a)
    return np.asarray(u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v)


def _length(joints: Array, bones: Sequence[tuple[int, int]]) -> float:
    return float(sum(np.linalg.norm(joints[a] - joints[b]) for a, b in bones))
