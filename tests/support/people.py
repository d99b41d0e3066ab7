# SPDX-License-Identifier: GPL-3.0-or-later
"""People who stand: as joints, and as the file of an avatar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND

# A person who stands and faces -Y, metres; the right side is at -X. Left joints mirror the right ones.
_RIGHT = {
    "Shoulder": (-0.18, 0, 1.42), "Elbow": (-0.32, 0, 1.16), "Wrist": (-0.42, -0.06, 0.93), "Hip": (-0.1, 0, 0.92),
    "Knee": (-0.11, -0.01, 0.5), "Ankle": (-0.12, 0.02, 0.09), "Eye": (-0.03, -0.11, 1.65), "Ear": (-0.075, 0, 1.63),
    "BigToe": (-0.12, -0.17, 0.02), "SmallToe": (-0.18, -0.14, 0.02), "Heel": (-0.12, 0.06, 0.02),
}  # fmt: skip


_MIDDLE = {"Nose": (0, -0.13, 1.61), "Neck": (0, 0, 1.45), "MidHip": (0, 0, 0.93)}


def standing(kind: Any = np.float32) -> npt.NDArray[Any]:
    """(25, 3) body joints."""
    sides = {"R" + name: place for name, place in _RIGHT.items()}
    sides |= {"L" + name: (-x, y, z) for name, (x, y, z) in _RIGHT.items()}
    return np.array([(_MIDDLE | sides)[name] for name in BODY_JOINTS], kind)


_LEFT = {
    "LShoulder": (0.155, 0, 1.38), "LElbow": (0.30, 0.01, 1.15), "LWrist": (0.42, -0.03, 0.96), "LHip": (0.08, 0, 0.92),
    "LKnee": (0.085, -0.01, 0.49), "LAnkle": (0.09, 0.01, 0.07), "LEye": (0.03, -0.12, 1.57),
    "LEar": (0.075, -0.02, 1.56), "LBigToe": (0.08, -0.17, 0.0), "LSmallToe": (0.15, -0.14, 0.0),
    "LHeel": (0.09, 0.06, 0.02),
}  # fmt: skip


def rest_skeleton() -> tuple[np.ndarray, np.ndarray]:
    """A body that stands, with hands."""
    joints, confidence = np.zeros((JOINT_COUNT, 3)), np.zeros(JOINT_COUNT)
    for name, place in {"Nose": (0, -0.13, 1.53), "Neck": (0, 0, 1.38), "MidHip": (0, 0, 0.92), **_LEFT}.items():
        joints[INDEX[name]] = place
        if name.startswith("L"):
            joints[INDEX["R" + name[1:]]] = np.multiply(place, (-1, 1, 1))
    confidence[:25] = 1
    for first, side, sign in ((LEFT_HAND, "L", 1), (RIGHT_HAND, "R", -1)):
        wrist = joints[first] = joints[INDEX[f"{side}Wrist"]]
        along = wrist - joints[INDEX[f"{side}Elbow"]]
        along = along / np.linalg.norm(along)
        for finger in range(5):
            for i in range(4):
                side_step = np.array([0, (finger - 2) * 0.02, 0])
                joints[first + 1 + 4 * finger + i] = wrist + along * (0.05 + 0.03 * i) + side_step * sign
        confidence[first : first + 21] = 1
    return joints, confidence


# The face's landmarks, iBUG's 68 and the pupils: x and z in centimetres from the nose's tip, the right side at -x.
_FACE = (
    *((x, abs(x) - 8) for x in range(-8, 9)),  # jaw
    *((x, 4) for x in (-7, -6, -5, -4, -3, 3, 4, 5, 6, 7)),  # brows
    (0, 3), (0, 2), (0, 1), (0, 0), (-2, -1), (-1, -1), (0, -1), (1, -1), (2, -1),  # nose
    (-6, 3), (-5, 3.5), (-4, 3.5), (-3, 3), (-4, 2.5), (-5, 2.5),
    (3, 3), (4, 3.5), (5, 3.5), (6, 3), (5, 2.5), (4, 2.5),
    (-3, -3), (-2, -2.5), (-1, -2), (0, -2.2), (1, -2), (2, -2.5), (3, -3), (2, -4), (1, -4.5), (0, -4.6), (-1, -4.5),
    (-2, -4), (-2, -3), (-1, -2.7), (0, -2.8), (1, -2.7), (2, -3), (1, -3.5), (0, -3.6), (-1, -3.5),  # lips
    (-4.5, 3), (4.5, 3),
)  # fmt: skip


def make_avatar(path: Path, with_face: bool = False) -> Path:
    """Write the file of a person without a network."""
    import torch

    from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
    from neural_avatar.neural_backend.avatar_file import save_avatar

    torch.manual_seed(0)
    rest, confidence = rest_skeleton()
    if with_face:
        rest[FACE:] = [(x / 100, -0.13 + x * x / 1000, 1.53 + z / 100) for x, z in _FACE]
        confidence[FACE:] = 1
    person = Avatar(AvatarConfig(method="static", texture_size=16), rest, confidence)
    with torch.no_grad():
        person.textures.copy_(torch.rand(24, 3, 1, 1).expand_as(person.textures) * torch.linspace(0.6, 1, 16))
    save_avatar(path, person)
    return path
