# SPDX-License-Identifier: GPL-3.0-or-later
"""The skeleton that every room speaks: OpenPose BODY_25, 21 joints for each hand, 70 face landmarks.

Names and order follow the OpenPose output format (pose_keypoints_2d, hand_left/right_keypoints_2d, face_keypoints_2d).
Hands and face are optional; a joint that is absent has confidence 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Blender's start imports this module for its names, and must not wait for numpy
    import numpy as np
    import numpy.typing as npt

BODY_JOINTS: tuple[str, ...] = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "MidHip", "RHip", "RKnee",
    "RAnkle", "LHip", "LKnee", "LAnkle", "REye", "LEye", "REar", "LEar", "LBigToe", "LSmallToe", "LHeel", "RBigToe",
    "RSmallToe", "RHeel",
)  # fmt: skip
_HAND = (
    "Wrist",
    *(f"Hand{finger}{i}" for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky") for i in (1, 2, 3, 4)),
)
LEFT_HAND_JOINTS: tuple[str, ...] = tuple(f"LHand_{name}" for name in _HAND)
RIGHT_HAND_JOINTS: tuple[str, ...] = tuple(f"RHand_{name}" for name in _HAND)
FACE_JOINTS: tuple[str, ...] = tuple(f"Face_{i}" for i in range(70))

#: All 137 joints in the order of every joint array inside the program.
JOINTS: tuple[str, ...] = BODY_JOINTS + LEFT_HAND_JOINTS + RIGHT_HAND_JOINTS + FACE_JOINTS
JOINT_COUNT = len(JOINTS)
INDEX: dict[str, int] = {name: i for i, name in enumerate(JOINTS)}

LEFT_HAND = len(BODY_JOINTS)
RIGHT_HAND = LEFT_HAND + len(_HAND)
FACE = RIGHT_HAND + len(_HAND)



def _mirrored() -> tuple[int, ...]:
    order = list(range(JOINT_COUNT))

    def swap(a: int, b: int) -> None:
        order[a], order[b] = b, a

    for name, i in INDEX.items():
        if name.startswith("L"):
            swap(i, INDEX["R" + name[1:]])
    # Jaw, brows, nostrils, eyes, lips outside and inside, pupils: of each chain its first landmark, its last, and how
    # many are mirrored.
    for first, last, count in (
        (0, 16, 8), (17, 26, 5), (31, 35, 2), (36, 45, 4), (40, 47, 2), (48, 54, 3), (55, 59, 2), (60, 64, 2),
        (65, 67, 1), (68, 69, 1),
    ):  # fmt: skip
        for i in range(count):
            swap(FACE + first + i, FACE + last - i)
    return tuple(order)


#: Of each joint the one that takes its place in a mirror: left and right of body, hands and face exchanged.
MIRRORED: tuple[int, ...] = _mirrored()

#: The 24 body bones (pairs of joint indices), one bone-map channel each.
BODY_BONES: tuple[tuple[int, int], ...] = (
    (1, 8), (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11), (8, 12), (12, 13),
    (13, 14), (1, 0), (0, 15), (15, 17), (0, 16), (16, 18), (14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24),
)  # fmt: skip
_FINGERS = tuple((0 if i == 0 else 4 * f + i, 4 * f + i + 1) for f in range(5) for i in range(4))
LEFT_HAND_BONES: tuple[tuple[int, int], ...] = tuple((a + LEFT_HAND, b + LEFT_HAND) for a, b in _FINGERS)
RIGHT_HAND_BONES: tuple[tuple[int, int], ...] = tuple((a + RIGHT_HAND, b + RIGHT_HAND) for a, b in _FINGERS)


def _chain(first: int, last: int, closed: bool = False) -> tuple[tuple[int, int], ...]:
    edges = tuple((i, i + 1) for i in range(first, last))
    return edges + ((last, first),) if closed else edges


#: Jaw, brows, nose bridge and outer lips of the 70-point face: 39 edges, all in one bone-map channel.
FACE_BONES: tuple[tuple[int, int], ...] = tuple(
    (a + FACE, b + FACE)
    for a, b in _chain(0, 16) + _chain(17, 21) + _chain(22, 26) + _chain(27, 30) + _chain(48, 59, True)
)

#: Bones of each of the 27 bone-map channels: 24 body bones, left hand, right hand, face (paper section 4,
#: Architecture).
BONE_CHANNELS: tuple[tuple[tuple[int, int], ...], ...] = (
    *((bone,) for bone in BODY_BONES),
    LEFT_HAND_BONES,
    RIGHT_HAND_BONES,
    FACE_BONES,
)

#: Bones whose summed length measures the size of a body, independent of its pose.
SIZE_BONES: tuple[tuple[int, int], ...] = (
    (1, 8), (2, 3), (3, 4), (5, 6), (6, 7), (9, 10), (10, 11), (12, 13), (13, 14),
)  # fmt: skip


def reorder(
    joints: npt.ArrayLike, names: Sequence[str], confidence: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Bring joints under any subset of our names into the program's order.

    joints: (..., N, 3), in ``names``' order; names: N joint names; confidence: (..., N) in 0..1, or None for all 1.
    Returns joints (..., 137, 3) float32 and confidence (..., 137) float32; absent or non-finite joints are 0 with
    confidence 0. Raises ValueError when a name is unknown or appears twice.
    """
    import numpy as np

    given = np.asarray(joints, np.float32)
    unknown = [str(n) for n in names if str(n) not in INDEX]
    if unknown:
        raise ValueError(
            f"unknown joint names {unknown[:5]}; known names are OpenPose's, such as 'Neck' or 'LHand_Wrist'"
        )
    columns = [INDEX[str(n)] for n in names]
    if len(set(columns)) != len(columns) or given.shape[-2] != len(columns):
        raise ValueError(f"{given.shape[-2]} joints under {len(columns)} names ({len(set(columns))} different)")
    weight = np.ones(given.shape[:-1], np.float32) if confidence is None else np.asarray(confidence, np.float32)
    out = np.zeros((*given.shape[:-2], JOINT_COUNT, 3), np.float32)
    out_confidence = np.zeros((*given.shape[:-2], JOINT_COUNT), np.float32)
    finite = np.isfinite(given).all(-1) & np.isfinite(weight)
    out[..., columns, :] = np.where(finite[..., None], given, 0)
    out_confidence[..., columns] = np.where(finite, weight, 0)
    return out, out_confidence


def bone_lengths(joints: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Lengths of the 24 body bones. joints: (..., 137, 3) in any unit; returns (..., 24) in that unit."""
    import numpy as np

    j = np.asarray(joints, np.float64)
    a, b = np.asarray(BODY_BONES).T
    return np.asarray(np.linalg.norm(j[..., a, :] - j[..., b, :], axis=-1))
