# SPDX-License-Identifier: GPL-3.0-or-later
"""MediaPipe's landmarks (33 of the body, 21 of each hand, 468 or 478 of the face) as the program's 137 joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from .records import Floats

#: BODY_25 joints that MediaPipe has, by its own numbers. Its 'foot index' lies at the tip of the big toe's side of the
#: foot; it has no small toe.
BODY: dict[str, int] = {
    "Nose": 0, "LEye": 2, "REye": 5, "LEar": 7, "REar": 8, "LShoulder": 11, "RShoulder": 12, "LElbow": 13, "RElbow": 14,
    "LWrist": 15, "RWrist": 16, "LHip": 23, "RHip": 24, "LKnee": 25, "RKnee": 26, "LAnkle": 27, "RAnkle": 28,
    "LHeel": 29, "RHeel": 30, "LBigToe": 31, "RBigToe": 32,
}  # fmt: skip

#: BODY_25 joints that lie halfway between two others.
BETWEEN: dict[str, tuple[str, str]] = {"Neck": ("LShoulder", "RShoulder"), "MidHip": ("LHip", "RHip")}

#: The 68 landmarks of iBUG 300-W on MediaPipe's face mesh (canonical_face_model), in iBUG's order: from the person's
#: right to the left. The jaw follows the mesh's face oval in even steps; left and right are each other's mirror images.
IBUG_68: tuple[int, ...] = (
    127, 234, 93, 132, 58, 136, 149, 148, 152, 377, 378, 365, 288, 361, 323, 454, 356,  # jaw, 0-16
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows, 17-26
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose, 27-35
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes, 36-47
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips, 48-59
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips, 60-67
)  # fmt: skip

#: The pupils, 68 right and 69 left: the centres of the irises of the refined mesh; of the plain one the eyes' corners.
_IRIS = (468, 473)
_CORNERS = ((33, 133), (362, 263))

#: What a hand or a face is worth that agrees with the body: the model says that they are there, not how well.
_PRESENT = 0.9

#: What remains of a joint's confidence outside of the picture, where the model guesses.
_OUTSIDE = 0.2


@dataclass(frozen=True)
class Landmarks:
    """MediaPipe's landmarks of one person. body: (33, 3) pixels x, y of the film and visibility; world: (33, 3) metres;
    left, right: (21, 3), face: (468 or 478, 3), pixels x, y and depth in pixels, or None."""

    body: Floats
    world: Floats
    left: Floats | None = None
    right: Floats | None = None
    face: Floats | None = None


@dataclass(frozen=True)
class Joints:
    """One person in one frame: points (137, 2), confidence (137,), world (137, 3); as in records.Detections."""

    points: Floats
    confidence: Floats
    world: Floats


def to_joints(found: Landmarks, width: int, height: int) -> Joints:
    """Landmarks as joints. width, height: of the film, pixels.

    World positions of hands and face, which MediaPipe does not give, are their pixels and depths scaled to metres by
    the body's own scale in the picture, hung on the body's wrist or nose.
    """
    points = np.zeros((JOINT_COUNT, 2), np.float32)
    confidence = np.zeros(JOINT_COUNT, np.float32)
    world = np.full((JOINT_COUNT, 3), np.nan, np.float32)
    rows, columns = [INDEX[name] for name in BODY], list(BODY.values())
    points[rows], confidence[rows], world[rows] = found.body[columns, :2], found.body[columns, 2], found.world[columns]
    for name, ends in BETWEEN.items():
        a, b = (INDEX[e] for e in ends)
        points[INDEX[name]] = (points[a] + points[b]) / 2
        confidence[INDEX[name]] = min(confidence[a], confidence[b])
        world[INDEX[name]] = (world[a] + world[b]) / 2
    scale = _metres_per_pixel(points[rows], world[rows], confidence[rows])
    hands = {"L": (LEFT_HAND, found.left), "R": (RIGHT_HAND, found.right)}
    worth = {side: _hand_worth(hand, points, confidence, f"{side}Wrist") for side, (_, hand) in hands.items()}
    if found.left is not None and found.right is not None and _same(found.left, found.right):
        worth[min(worth, key=lambda side: worth[side])] = 0.0
    for side, (first, hand) in hands.items():
        if hand is not None and worth[side] > 0:
            wrist = world[INDEX[f"{side}Wrist"]]
            points[first : first + 21], confidence[first : first + 21] = hand[:, :2], worth[side]
            world[first : first + 21] = wrist + (hand - hand[0]) * scale
    if found.face is not None:
        face = ibug_70(found.face)
        size = np.linalg.norm(face[16, :2] - face[0, :2]) + 1e-6
        off = np.linalg.norm(face[30, :2] - points[INDEX["Nose"]]) / size
        points[FACE:], confidence[FACE:] = face[:, :2], _PRESENT * np.exp(-((off / 0.5) ** 2))
        world[FACE:] = world[INDEX["Nose"]] + (face - face[30]) * scale
    outside = (points < 0).any(1) | (points[:, 0] > width) | (points[:, 1] > height)
    confidence[outside] *= _OUTSIDE
    confidence[~np.isfinite(points).all(1)] = 0
    world -= world[INDEX["MidHip"]]
    absent = confidence <= 0
    points[absent], world[absent] = 0, np.nan
    return Joints(points, np.clip(confidence, 0, 1), world)


def ibug_70(mesh: Floats) -> Floats:
    """(468 or 478, D) landmarks of the face mesh as the 70 of OpenPose, (70, D)."""
    if len(mesh) > max(_IRIS):
        pupils = mesh[list(_IRIS)]
    else:
        pupils = np.stack([mesh[list(corners)].mean(0) for corners in _CORNERS])
    return np.concatenate([mesh[list(IBUG_68)], pupils]).astype(np.float32)


def _metres_per_pixel(points: Floats, world: Floats, confidence: Floats) -> float:
    """The body's scale, as if it were seen from afar. (N, 2), (N, 3), (N,) with N body joints."""
    sure = confidence > 0.5 if (confidence > 0.5).sum() > 3 else np.ones(len(points), bool)
    pixels, metres = points[sure] - points[sure].mean(0), world[sure, :2] - world[sure, :2].mean(0)
    return float(np.sqrt((metres**2).sum() / max((pixels**2).sum(), 1e-6)))


def _hand_worth(hand: Floats | None, points: Floats, confidence: Floats, wrist: str) -> float:
    """Confidence of a hand: less the farther its wrist is from the body's, and where the body's is not seen."""
    if hand is None:
        return 0.0
    size = float(np.linalg.norm(hand[9, :2] - hand[0, :2])) + 1e-6
    elbow = points[INDEX[wrist.replace("Wrist", "Elbow")]]
    size = max(size, 0.3 * float(np.linalg.norm(points[INDEX[wrist]] - elbow)))
    off = float(np.linalg.norm(hand[0, :2] - points[INDEX[wrist]])) / size
    return float(_PRESENT * np.exp(-((off / 0.7) ** 2)) * min(1.0, confidence[INDEX[wrist]] / 0.5))


def _same(left: Floats, right: Floats) -> bool:
    """True where the model took one hand for both."""
    size = np.linalg.norm(left[9, :2] - left[0, :2]) + np.linalg.norm(right[9, :2] - right[0, :2])
    return bool(np.linalg.norm(left[:, :2] - right[:, :2], axis=1).mean() < 0.3 * size)


assert set(BODY) | set(BETWEEN) | {"LSmallToe", "RSmallToe"} == set(BODY_JOINTS)
