# SPDX-License-Identifier: GPL-3.0-or-later
"""Local frames of the body's segments, from joints alone.

A frame is an origin, an end point and three orthonormal axes: ``left`` (towards the person's left at rest), ``front``
(towards where the person looks at rest) and ``along`` (from the origin to the end). Limbs take their axes from their
parent by the smallest rotation that brings the parent's rest direction onto the bone, so that a point of the skin
keeps its angle around the bone from pose to pose; elbows, hands and feet add the twist that their own joints show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import skeleton
from .camera import Camera
from .skeleton import INDEX, LEFT_HAND, RIGHT_HAND, SIZE_BONES

Array = npt.NDArray[np.float64]

_LIMBS = ("uarm", "farm", "hand", "thigh", "calf", "foot")
_FINGERS = tuple(f"finger{f}{s}" for f in range(5) for s in range(2))
#: Names of all frames, in the order of every frame array.
FRAMES: tuple[str, ...] = (
    "torso",
    "pelvis",
    "head",
    "neck",
    *(f"{n}{s}" for s in "LR" for n in ("clavicle", *_LIMBS, *_FINGERS)),
)
FRAME_INDEX: dict[str, int] = {name: i for i, name in enumerate(FRAMES)}

#: Joints without which no frame of the trunk can be built.
REQUIRED_JOINTS: tuple[str, ...] = ("Neck", "RShoulder", "LShoulder", "MidHip", "RHip", "LHip")


@dataclass(frozen=True)
class BodyFrames:
    """Frames of B bodies, in the unit and axes of the joints they were made from.

    origin, end: (B, F, 3). axes: (B, F, 3, 3), rows left, front, along. twist: (B, F, 2), the angle (radians, around
    ``along``, from ``front`` towards ``left``) by which the skin has turned at the origin and at the end. joints: (B,
    137, 3), completed.
    """

    origin: Array
    end: Array
    axes: Array
    twist: Array
    joints: Array


def frames_in_camera(frames: BodyFrames, cameras: Sequence[Camera], scale: Array) -> BodyFrames:
    """Frames in world axes and body units (scene units / scale) to camera axes and body units."""
    rotation = np.stack([c.R for c in cameras])
    shift = np.stack([c.t for c in cameras])[:, None] / scale[:, None, None]

    def point(x: Array) -> Array:
        return np.asarray(np.einsum("bij,bnj->bni", rotation, x) + shift)

    axes = np.einsum("bij,bnkj->bnki", rotation, frames.axes)
    return BodyFrames(point(frames.origin), point(frames.end), axes, frames.twist, point(frames.joints))


def body_scale(joints: npt.ArrayLike, confidence: npt.ArrayLike, rest_joints: npt.ArrayLike) -> Array:
    """Size of each body relative to the avatar's: summed bone lengths over those of the rest skeleton, (B,).

    joints: (B, 137, 3); confidence: (B, 137); rest_joints: (137, 3). Bones with an absent joint are left out of both
    sums.
    """
    j, c, r = (np.asarray(x, np.float64) for x in (joints, confidence, rest_joints))
    a, b = np.asarray(SIZE_BONES).T
    known = (c[:, a] > 0) & (c[:, b] > 0)
    length = np.linalg.norm(j[:, a] - j[:, b], axis=-1)
    rest = np.linalg.norm(r[a] - r[b], axis=-1)
    total = np.where(known, length, 0).sum(1)
    reference = np.where(known, rest, 0).sum(1)
    return np.asarray(np.where(reference > 0, total / np.maximum(reference, 1e-9), 1.0).clip(1e-9))


def _unit(v: Array) -> Array:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))


def _reject(v: Array, axis: Array) -> Array:
    """The part of v at right angles to the unit vector axis."""
    return np.asarray(v - (v * axis).sum(-1, keepdims=True) * axis)


def _orthonormal(left: Array, along: Array, front_hint: Array) -> Array:
    """Axes (..., 3, 3) with exact ``along``, ``left`` as near as can be, ``front`` on the side of the hint."""
    along = _unit(along)
    left = _unit(_reject(left, along))
    front = _unit(np.cross(along, left))
    front = front * np.where((front * front_hint).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    return np.stack([left, front, along], -2)


def _swing(axes: Array, rest: Array, bone: Array) -> Array:
    """Turn parent axes by the smallest rotation that takes direction ``rest`` to ``bone``; ``along`` becomes the
    bone."""
    u, v = _unit(rest), _unit(bone)
    cross = np.cross(u, v)
    cosine = (u * v).sum(-1, keepdims=True)
    factor = 1.0 / np.maximum(1.0 + cosine, 1e-6)

    def turn(x: Array) -> Array:
        first = np.cross(cross, x)
        return np.asarray(x + first + np.cross(cross, first) * factor)

    # Where the parent's axis is along the rest direction itself, left and front stay as they are in the parent's plane.
    return _orthonormal(turn(axes[..., 0, :]), v, turn(axes[..., 1, :]))


def _roll(axes: Array, angle: Array) -> Array:
    """Axes turned around ``along`` by angle (...,), from front towards left."""
    c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
    left, front, along = (axes[..., i, :] for i in range(3))
    return np.stack([left * c - front * s, front * c + left * s, along], -2)


def _angle_to(axes: Array, front: Array) -> Array:
    """Angle (...,) by which to roll the axes so that their front lies nearest to the given direction."""
    return np.asarray(np.arctan2((front * axes[..., 0, :]).sum(-1), (front * axes[..., 1, :]).sum(-1)))


#: Typical places (left, front, along) of joints that a skeleton may lack, seen from the frame and the joint that they
#: hang on, per length of the spine: head from the trunk and the neck, limbs from their parents, the left foot from
#: the shin and the ankle, the left hand (21 joints) from the forearm and the wrist.
_TYPICAL: dict[str, tuple[float, float, float]] = {
    "Nose": (0.0, 0.346, 0.304), "REye": (-0.062, 0.277, 0.387), "LEye": (0.062, 0.277, 0.387),
    "REar": (-0.180, 0.083, 0.408), "LEar": (0.180, 0.083, 0.408),
    "LElbow": (0.42, 0.0, -0.42), "LWrist": (0.0, 0.0, 0.5),
    "LKnee": (0.0, 0.0, -0.94), "LAnkle": (0.0, 0.0, 0.92), "LBigToe": (-0.090, 0.412, 0.066),
    "LSmallToe": (0.090, 0.367, 0.080), "LHeel": (0.0, -0.111, 0.073),
}  # fmt: skip
_TYPICAL_HAND = np.array(
    [
        [0, 0, 0], [-57, 57, 50], [-79, 82, 76], [-110, 93, 142], [-141, 104, 194], [-11, 46, 194], [-55, 33, 268],
        [-103, 28, 284], [-153, 19, 282], [0, 0, 186], [-62, -19, 258], [-125, -25, 268], [-165, -26, 259],
        [-3, -49, 174], [-60, -68, 244], [-117, -72, 255], [-159, -73, 247], [-11, -96, 158], [-58, -109, 216],
        [-98, -115, 228], [-131, -119, 228],
    ]
) / 1000  # fmt: skip


def _typical(names: Sequence[str]) -> Array:
    """(N, 3) places from the tables above, the right side mirrored."""
    rows = []
    for name in names:
        right = name not in _TYPICAL and name.startswith("R")
        left = "L" + name[1:] if right else name
        place = _TYPICAL_HAND[INDEX[left] - LEFT_HAND] if "Hand_" in left else np.array(_TYPICAL[left])
        rows.append(place * (-1.0 if right else 1.0, 1.0, 1.0))
    return np.array(rows)


class _Builder:
    """Builds frames in order from the trunk outwards and completes absent joints from the rest skeleton on the way."""

    def __init__(self, joints: Array, known: npt.NDArray[np.bool_], rest: BodyFrames | None) -> None:
        self.joints, self.known, self.rest = joints.copy(), known, rest
        b = len(joints)
        self.origin, self.end = np.zeros((2, b, len(FRAMES), 3))
        self.axes = np.zeros((b, len(FRAMES), 3, 3))
        self.twist = np.zeros((b, len(FRAMES), 2))

    def at(self, name: str) -> Array:
        return self.joints[:, INDEX[name]]

    def complete(self, names: Sequence[str], parent: str, anchor: str) -> None:
        """Places absent joints as they lie at rest, seen from the parent frame and measured from the anchor joint."""
        columns = [INDEX[n] for n in names]
        absent = ~self.known[:, columns]
        if not absent.any():
            return
        f = FRAME_INDEX[parent]
        if self.rest is not None:
            local = (self.rest.joints[0, columns] - self.rest.joints[0, INDEX[anchor]]) @ self.rest.axes[0, f].T
        else:
            spine = np.linalg.norm(self.at("Neck") - self.at("MidHip"), axis=-1).mean()
            local = _typical(names) * spine
        placed = np.einsum("ki,bij->bkj", local, self.axes[:, f]) + self.at(anchor)[:, None]
        self.joints[:, columns] = np.where(absent[..., None], placed, self.joints[:, columns])

    def put(self, name: str, origin: Array, end: Array, axes: Array) -> Array:
        f = FRAME_INDEX[name]
        self.origin[:, f], self.end[:, f], self.axes[:, f] = origin, end, axes
        return axes


def body_frames(
    joints: npt.ArrayLike, confidence: npt.ArrayLike | None = None, rest: BodyFrames | None = None
) -> BodyFrames:
    """Frames of all segments of B bodies.

    joints: (B, 137, 3); confidence: (B, 137), joints at 0 are absent and are completed from ``rest`` (the frames of the
    avatar's rest pose, in the same unit). Hand and face joints may always be absent.
    """
    j = np.asarray(joints, np.float64)
    known = np.ones(j.shape[:2], bool) if confidence is None else np.asarray(confidence) > 0
    w = _Builder(j, known, rest)
    _trunk(w)
    for side, hand in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
        _arm(w, side, hand)
        _leg(w, side)
    return BodyFrames(w.origin, w.end, w.axes, w.twist, w.joints)


def _trunk(w: _Builder) -> None:
    hip, neck = w.at("MidHip"), w.at("Neck")
    spine = _unit(neck - hip)
    hips_left, chest_left = w.at("LHip") - w.at("RHip"), w.at("LShoulder") - w.at("RShoulder")
    mean_left = _unit(_reject(hips_left, spine)) + _unit(_reject(chest_left, spine))
    front = np.cross(_unit(mean_left), spine)
    torso = w.put("torso", hip, neck, _orthonormal(mean_left, spine, front))
    w.put("pelvis", w.at("RHip"), w.at("LHip"), _orthonormal(spine, hips_left, front))
    for end, left in enumerate((hips_left, chest_left)):
        w.twist[:, FRAME_INDEX["torso"], end] = _angle_to(torso, np.cross(_unit(left), spine))
    w.complete(("Nose", "REye", "LEye", "REar", "LEar"), "torso", "Neck")
    ears = (w.at("LEar") + w.at("REar")) / 2
    ears_left = _unit(w.at("LEar") - w.at("REar"))
    look = _unit(_reject((w.at("LEye") + w.at("REye")) / 2 - ears, ears_left))
    up = np.cross(look, ears_left)
    up = up * np.where((up * (ears - neck)).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    # Where a skeleton puts eyes and ears differs: the rest pose, in which the head is level, tells the constant pitch
    # between.
    pitch = _rest_pitch(w.rest)
    look, up = look * np.cos(pitch) - up * np.sin(pitch), up * np.cos(pitch) + look * np.sin(pitch)
    size = np.linalg.norm(neck - hip, axis=-1, keepdims=True) * 0.4
    w.put("head", ears, ears + up * size, _orthonormal(ears_left, up, look))
    w.put("neck", neck, ears, _orthonormal(chest_left + ears_left, ears - neck, front + look))


def _rest_pitch(rest: BodyFrames | None) -> float:
    """Angle (radians) by which the line from ears to eyes points above the horizon at rest."""
    if rest is None:
        return 0.0
    look, torso = rest.axes[0, FRAME_INDEX["head"], 1], rest.axes[0, FRAME_INDEX["torso"]]
    return float(np.arctan2(look @ torso[2], look @ torso[1]))


def _arm(w: _Builder, s: str, hand: int) -> None:
    torso = w.axes[:, FRAME_INDEX["torso"]]
    outward = torso[:, 0] if s == "L" else -torso[:, 0]
    chest = _roll(torso, w.twist[:, FRAME_INDEX["torso"], 1])
    w.complete((f"{s}Elbow",), "torso", f"{s}Shoulder")
    shoulder, elbow = w.at(f"{s}Shoulder"), w.at(f"{s}Elbow")
    w.put(f"clavicle{s}", w.at("Neck"), shoulder, _orthonormal(torso[:, 2], shoulder - w.at("Neck"), chest[:, 1]))
    # Rest direction half way between hanging and spread: the singular direction is then where no arm goes.
    hanging = _swing(chest, -torso[:, 2], outward - torso[:, 2])
    uarm = _swing(hanging, outward - torso[:, 2], elbow - shoulder)
    w.put(f"uarm{s}", shoulder, elbow, uarm)
    w.complete((f"{s}Wrist",), f"uarm{s}", f"{s}Elbow")
    wrist = w.at(f"{s}Wrist")
    bone = _unit(wrist - elbow)
    flexion = np.cross(uarm[:, 2], bone)
    bend = np.linalg.norm(flexion, axis=-1)
    # A bent elbow folds to the front: where it is bent, it shows how far the upper arm has turned.
    trust = np.clip((bend - 0.15) / 0.35, 0, 1)
    roll = _angle_to(uarm, _unit(_reject(bone, uarm[:, 2]))) * trust * trust * (3 - 2 * trust)
    roll = np.where(np.abs(roll) > 2.6, 0, roll)
    w.twist[:, FRAME_INDEX[f"uarm{s}"], 1] = roll
    farm = _swing(_roll(uarm, roll), uarm[:, 2], bone)
    w.put(f"farm{s}", elbow, wrist, farm)
    _hand(w, s, hand, farm)


def _hand(w: _Builder, s: str, hand: int, farm: Array) -> None:
    names = skeleton.JOINTS[hand : hand + 21]
    w.joints[:, hand] = np.where(w.known[:, hand, None], w.joints[:, hand], w.at(f"{s}Wrist"))
    w.complete(names[1:], f"farm{s}", f"{s}Wrist")
    wrist, index, middle, pinky = (w.joints[:, hand + i] for i in (0, 5, 9, 17))
    along = _unit(middle - wrist)
    across = _unit(_reject(index - pinky, along))
    back = np.cross(across, along) * (1.0 if s == "L" else -1.0)
    # The hand's front is its back side; with the arm hanging, the thumb (left) points where the forearm's front points.
    swung = _swing(farm, farm[:, 2], along)
    axes = w.put(f"hand{s}", wrist, middle, _orthonormal(across, along, back))
    turn = _angle_to(swung, across)
    w.twist[:, FRAME_INDEX[f"farm{s}"], 1] = turn
    for f in range(5):
        chain = [hand + 1 + 4 * f + i for i in range(4)]
        root, knuckle, tip = (w.joints[:, chain[i]] for i in (0, 1, 3))
        if f == 0:
            root, knuckle = w.joints[:, chain[1]], w.joints[:, chain[2]]
        for i, (a, b) in enumerate(((root, knuckle), (knuckle, tip))):
            w.put(f"finger{f}{i}{s}", a, b, _swing(axes, axes[:, 2], b - a))


def _leg(w: _Builder, s: str) -> None:
    torso = w.axes[:, FRAME_INDEX["torso"]]
    pelvis = _roll(torso, w.twist[:, FRAME_INDEX["torso"], 0])
    w.complete((f"{s}Knee",), "torso", f"{s}Hip")
    hip, knee = w.at(f"{s}Hip"), w.at(f"{s}Knee")
    thigh = w.put(f"thigh{s}", hip, knee, _swing(pelvis, -torso[:, 2], knee - hip))
    w.complete((f"{s}Ankle",), f"thigh{s}", f"{s}Knee")
    ankle = w.at(f"{s}Ankle")
    calf = w.put(f"calf{s}", knee, ankle, _swing(thigh, thigh[:, 2], ankle - knee))
    w.complete((f"{s}BigToe", f"{s}SmallToe", f"{s}Heel"), f"calf{s}", f"{s}Ankle")
    toes = (w.at(f"{s}BigToe") + w.at(f"{s}SmallToe")) / 2
    heel = w.at(f"{s}Heel")
    across = w.at(f"{s}SmallToe") - w.at(f"{s}BigToe") if s == "L" else w.at(f"{s}BigToe") - w.at(f"{s}SmallToe")
    up = _unit(_reject(ankle - (heel + toes) / 2, _unit(toes - heel)))
    left = np.cross(up, _unit(toes - heel))
    left = left * np.where((left * across).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    w.put(f"foot{s}", heel, toes, _orthonormal(left, toes - heel, up))
    # The foot's left side, not its direction, tells the shin's turn: a pointed foot lies along the shin.
    foot_left = w.axes[:, FRAME_INDEX[f"foot{s}"], 0]
    turn = np.arctan2(-(foot_left * calf[:, 1]).sum(-1), (foot_left * calf[:, 0]).sum(-1))
    w.twist[:, FRAME_INDEX[f"calf{s}"], 1] = np.clip(turn, -0.8, 0.8)
