# SPDX-License-Identifier: GPL-3.0-or-later
"""People who stand: as joints, and as the file of an avatar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND

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


def make_avatar(path: Path) -> Path:
    """Write the file of a person without a network."""
    import torch

    from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
    from neural_avatar.neural_backend.avatar_file import save_avatar

    torch.manual_seed(0)
    person = Avatar(AvatarConfig(method="static", texture_size=16), *rest_skeleton())
    with torch.no_grad():
        person.textures.copy_(torch.rand(24, 3, 1, 1).expand_as(person.textures) * torch.linspace(0.6, 1, 16))
    save_avatar(path, person)
    return path
