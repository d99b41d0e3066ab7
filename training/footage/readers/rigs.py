# SPDX-License-Identifier: GPL-3.0-or-later
"""From the joints of other programs' skeletons, known by their names, to ours.

Joints that a rig lacks are not guessed frame by frame: over the whole take they lie, on average, where they usually do
as seen from trunk and shin, and each is fixed to its bone there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.body import body_frames
from ....neural_backend.interface.messages import BackendError
from ....neural_backend.interface.skeleton import INDEX, JOINT_COUNT
from .fields import POSES

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

#: Names without case, separators and prefix, the most telling first; {s} is the side, before or behind. Character
#: Creator, Mixamo, CMU, MotionBuilder, Rigify, MakeHuman, Unreal, Biped, VRM, Poser, SMPL and others are among them.
_LIMBS = {
    "Shoulder": "upperarm arm upperarm01 shldrbend shldr uparm shoulder",
    "Elbow": "forearm lowerarm lowerarm01 forearmbend elbow lowarm",
    "Wrist": "wrist hand",
    "Hip": "upleg thigh upperleg upperleg01 thighbend hip",
    "Knee": "calf shin knee lowerleg lowerleg01 lowleg leg",
    "Ankle": "ankle foot",
    "Toes": "toebase toe toes toe0 ball toe21",
    "Eye": "eye",
}
_FINGERS = {
    "Thumb": "handthumb{i} thumb{i} thumb0{i} finger1{i}",
    "Index": "handindex{i} index{i} findex0{i} index0{i} finger2{i}",
    "Middle": "handmiddle{i} mid{i} middle{i} fmiddle0{i} middle0{i} finger3{i}",
    "Ring": "handring{i} ring{i} fring0{i} ring0{i} finger4{i}",
    "Pinky": "handpinky{i} pinky{i} fpinky0{i} pinky0{i} little{i} finger5{i}",
}  # fmt: skip
_PREFIXES = ("mixamorig", "ccbase", "bip001", "bip01", "jbip", "jadj", "def-", "mcaucasianmale")
_SIDES = (("left", "right"), ("l", "r"))
_NEEDED = tuple(f"{s}{j}" for j in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle") for s in "LR")
_HEAD = tuple(INDEX[n] for n in ("Nose", "REye", "LEye", "REar", "LEar"))

#: Toes and heel of the left foot around the ankle (left, front, down), per length of the spine, and the ball of the
# foot.
_FOOT = {"BigToe": (-0.090, 0.412, 0.066), "SmallToe": (0.090, 0.367, 0.080), "Heel": (0.0, -0.111, 0.073)}
_BALL = np.array([0.0, 0.242, 0.057])


def joints_of(names: Sequence[str], positions: Array, rotations: Array, source: str) -> tuple[Array, Floats]:
    """Our joints from a rig's.

    names: B bones. positions: (T, B, 3); rotations: (T, B, 3, 3), bone to world. Returns joints (T, 137, 3) in the same
    unit and axes, and confidence (T, 137), 1 or 0. Raises BackendError 'poses-corrupt' when a limb is not found.
    """
    found = match(names)
    missing = [joint for joint in _NEEDED if joint not in found]
    if missing:
        some = ", ".join(names[:6])
        raise BackendError(
            POSES,
            f"{source}: there is no bone for {', '.join(missing[:6])}; bones are known by the names of common rigs; "
            f"these are {some}.",
        )
    joints, present = np.zeros((len(positions), JOINT_COUNT, 3)), np.zeros(JOINT_COUNT, bool)
    for joint, bone in found.items():
        if joint in INDEX:
            joints[:, INDEX[joint]], present[INDEX[joint]] = positions[:, bone], True
    for name, left, right in (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip")):
        joints[:, INDEX[name]] = (joints[:, INDEX[left]] + joints[:, INDEX[right]]) / 2
        present[INDEX[name]] = True
    for side in "LR":
        hand = INDEX[f"{side}Hand_Wrist"]
        if present[hand + 1 : hand + 21].any():
            joints[:, hand], present[hand] = joints[:, INDEX[f"{side}Wrist"]], True
        _foot(side, joints, present, positions, rotations, found)
    if "Head" in found:
        _head(joints, present, positions[:, found["Head"]], rotations[:, found["Head"]])
    return joints, np.tile(present.astype(np.float32), (len(joints), 1))


def match(names: Sequence[str]) -> dict[str, int]:
    """Joint (ours, 'Head', 'LToes', 'RToes') → index of the bone, under whichever words for the sides find most."""
    plain: dict[str, int] = {}
    for i, name in enumerate(names):
        plain.setdefault(_plain(name), i)
    return max((_match(plain, sides) for sides in _SIDES), key=len)


def _match(plain: dict[str, int], sides: tuple[str, str]) -> dict[str, int]:
    found = {"Head": plain["head"]} if "head" in plain else {}
    taken = set(found.values())

    def look(joint: str, words: Sequence[str], side: str) -> None:
        for word in words:
            for name in (f"{side}{word}", f"{word}{side}"):
                if name in plain and plain[name] not in taken:
                    found[joint] = plain[name]
                    taken.add(plain[name])
                    return

    for ours, theirs in zip("LR", sides, strict=True):
        for joint, words in _LIMBS.items():
            look(f"{ours}{joint}", words.split(), theirs)
        for finger, patterns in _FINGERS.items():
            for i in (1, 2, 3, 4):
                look(f"{ours}Hand_Hand{finger}{i}", patterns.replace("{i}", str(i)).split(), theirs)
    return found


def _plain(name: str) -> str:
    bare = name.replace("|", ":").rsplit(":", 1)[-1].lower()
    for sign in "_ .":
        bare = bare.replace(sign, "")
    for prefix in _PREFIXES:
        if bare.startswith(prefix):
            return bare[len(prefix) :].lstrip("0123456789")
    return bare


def leg_length(joints: Array, confidence: Floats) -> float:
    """Median over frames and sides of thigh and shin together, in the joints' unit; NaN without legs."""
    legs = []
    for side in "LR":
        hip, knee, ankle = (INDEX[f"{side}{j}"] for j in ("Hip", "Knee", "Ankle"))
        known = (confidence[:, [hip, knee, ankle]] > 0).all(1)
        j = joints[known]
        legs += list(
            np.linalg.norm(j[:, hip] - j[:, knee], axis=-1) + np.linalg.norm(j[:, knee] - j[:, ankle], axis=-1)
        )
    return float(np.median(legs)) if legs else float("nan")


def upwards(joints: Array, confidence: Floats) -> str:
    """The axis nearest to the mean direction from the ankles to the neck: people stand more than they lie."""
    rows = [INDEX["Neck"], INDEX["LAnkle"], INDEX["RAnkle"]]
    known = (confidence[:, rows] > 0).all(1)
    j = joints[known][:, rows]
    way = (j[:, 0] - (j[:, 1] + j[:, 2]) / 2).mean(0) if len(j) else np.array([0.0, 0.0, 1.0])
    axis = int(np.abs(way).argmax())
    return ("-" if way[axis] < 0 else "") + "xyz"[axis]


def _fix(joints: Array, column: int, wanted: Array, origin: Array, rotation: Array) -> None:
    """Fix a joint to a bone where the wanted places (T, 3) are on average (median), as the bone sees them."""
    local = np.median(np.einsum("tji,tj->ti", rotation, wanted - origin), axis=0)
    joints[:, column] = origin + rotation @ local


def _head(joints: Array, present: npt.NDArray[np.bool_], origin: Array, rotation: Array) -> None:
    known = np.tile(present & ~np.isin(np.arange(JOINT_COUNT), _HEAD), (len(joints), 1))
    usual = body_frames(joints, known.astype(np.float32)).joints
    eyes = [INDEX["LEye"], INDEX["REye"]]
    shift = np.zeros(3)
    if present[eyes].all():
        way = (joints[:, eyes] - usual[:, eyes]).mean(1)
        shift = np.median(np.einsum("tji,tj->ti", rotation, way), axis=0)
    for column in _HEAD:
        if not present[column]:
            _fix(joints, column, usual[:, column] + rotation @ shift, origin, rotation)
            present[column] = True


def _foot(
    side: str, joints: Array, present: npt.NDArray[np.bool_], positions: Array, rotations: Array, found: dict[str, int]
) -> None:
    """Toes and heel, turned as the toes' bone lies, or, without one, at right angles to the shin."""
    ankle, knee = joints[:, INDEX[f"{side}Ankle"]], joints[:, INDEX[f"{side}Knee"]]
    spine = np.median(np.linalg.norm(joints[:, INDEX["Neck"]] - joints[:, INDEX["MidHip"]], axis=-1))
    mirror = np.array([1.0 if side == "L" else -1.0, 1.0, 1.0])
    down = ankle - knee
    if f"{side}Toes" in found:
        forward, ball = positions[:, found[f"{side}Toes"]] - ankle, _BALL
    else:
        across = joints[:, INDEX["LHip"]] - joints[:, INDEX["RHip"]]
        forward, ball = np.cross(down, across), np.array([0.0, 1.0, 0.0])
    here, there = _axes(forward, down), _axes(ball[None], np.array([[0.0, 0.0, 1.0]]))[0]
    foot = found[f"{side}Ankle"]
    for name, place in _FOOT.items():
        column = INDEX[f"{side}{name}"]
        local = there @ (np.array(place) * mirror * spine)
        _fix(joints, column, ankle + np.einsum("tij,i->tj", here, local), positions[:, foot], rotations[:, foot])
        present[column] = True


def _axes(first: Array, hint: Array) -> Array:
    """Orthonormal rows (T, 3, 3): the first direction, the hint's part at right angles to it, and their cross
    product."""
    a = first / np.maximum(np.linalg.norm(first, axis=-1, keepdims=True), 1e-12)
    b = hint - (hint * a).sum(-1, keepdims=True) * a
    b = b / np.maximum(np.linalg.norm(b, axis=-1, keepdims=True), 1e-12)
    return np.stack([a, b, np.cross(a, b)], -2)
