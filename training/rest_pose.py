# SPDX-License-Identifier: GPL-3.0-or-later
"""The rest pose of a person: the proportions of the footage in an upright A-pose, facing -Y, hips at the origin's
height."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.body import FRAME_INDEX, body_frames
from ..neural_backend.interface.skeleton import INDEX, JOINT_COUNT, JOINTS, LEFT_HAND, RIGHT_HAND, SIZE_BONES

Array = npt.NDArray[np.float64]

_X, _Y, _Z = np.eye(3)

#: Typical extremities in their own frames (left, front, along), per unit of body size, for footage that lacks these
#: joints.
_HEAD = ("Nose", "REye", "LEye", "REar", "LEar")
_TYPICAL_HEAD = np.array(
    [[0.0, 0.050, 0.044], [-0.009, 0.040, 0.056], [0.009, 0.040, 0.056], [-0.026, 0.012, 0.059], [0.026, 0.012, 0.059]]
)
_TYPICAL_FOOT = np.array([[-0.013, -0.0095, 0.0595], [0.013, -0.0115, 0.053], [0.0, -0.0105, -0.016]])
_TYPICAL_HAND = np.array(
    [
        [0, 0, 0], [8.2, -8.2, 7.2], [11.8, -11.4, 11], [13.4, -15.9, 20.5], [15.1, -20.3, 28.1],
        [6.7, -1.6, 28.1], [4.7, -8, 38.7], [4.1, -14.9, 41], [2.7, -22.1, 40.8],
        [0, 0, 26.9], [-2.7, -9, 37.2], [-3.6, -18, 38.7], [-3.7, -23.9, 37.4],
        [-7.1, -0.4, 25.2], [-9.8, -8.6, 35.3], [-10.4, -16.9, 36.9], [-10.6, -22.9, 35.7],
        [-13.9, -1.6, 22.8], [-15.8, -8.4, 31.2], [-16.6, -14.1, 33], [-17.2, -18.9, 33],
    ]
) / 1000  # fmt: skip


def _toes(side: str) -> tuple[str, ...]:
    return (f"{side}BigToe", f"{side}SmallToe", f"{side}Heel")


def rest_pose(joints: npt.ArrayLike, confidence: npt.ArrayLike) -> tuple[Array, Array]:
    """Rest joints (137, 3), metres, Z up, facing -Y, feet on the floor, and confidence (137,), 1 where the joint was
    ever seen.

    joints: (T, 137, 3) metres, any pose; confidence: (T, 137). Bone lengths and the shapes of trunk, head, hands and
    feet are medians over the footage; hands, feet and face that were never seen are typical ones, with confidence 0.
    """
    j, c = np.asarray(joints, np.float64), np.asarray(confidence, np.float64)
    frames = body_frames(j, c)

    def length(a: str, b: str, otherwise: float = 0.1) -> float:
        known = (c[:, INDEX[a]] > 0) & (c[:, INDEX[b]] > 0)
        distance = np.linalg.norm(j[:, INDEX[a]] - j[:, INDEX[b]], axis=-1)[known]
        return float(np.median(distance)) if len(distance) else otherwise

    size = sum(length(JOINTS[a], JOINTS[b], 0.3) for a, b in SIZE_BONES)

    def local(frame: str, anchor: str, names: tuple[str, ...], typical: Array) -> Array:
        """Median positions of the named joints as the frame sees them from the anchor."""
        columns = [INDEX[n] for n in names]
        seen = (c[:, columns] > 0).all(1) & (c[:, INDEX[anchor]] > 0)
        if not seen.any():
            return typical * size
        offset = j[seen][:, columns] - j[seen][:, [INDEX[anchor]]]
        return np.asarray(np.median(np.einsum("bij,bkj->bki", frames.axes[seen, FRAME_INDEX[frame]], offset), 0))

    rest = np.zeros((JOINT_COUNT, 3))
    upright = np.stack([_X, -_Y, _Z])

    def place(names: tuple[str, ...], anchor: str, points: Array, axes: Array) -> None:
        for name, point in zip(names, points, strict=True):
            rest[INDEX[name]] = rest[INDEX[anchor]] + point @ axes

    rest[INDEX["Neck"]] = _Z * length("MidHip", "Neck")
    place(_HEAD, "Neck", local("torso", "Neck", _HEAD, _TYPICAL_HEAD), upright)
    for s, left in (("L", _X), ("R", -_X)):
        hip = local("torso", "MidHip", (f"{s}Hip",), np.zeros((1, 3)))
        shoulder = local("torso", "Neck", (f"{s}Shoulder",), np.zeros((1, 3)))
        place((f"{s}Hip",), "MidHip", hip, upright)
        place((f"{s}Shoulder",), "Neck", shoulder, upright)
        down = (left - _Z) / np.sqrt(2)
        for a, b, way in (
            ("Shoulder", "Elbow", down),
            ("Elbow", "Wrist", down),
            ("Hip", "Knee", -_Z),
            ("Knee", "Ankle", -_Z),
        ):
            rest[INDEX[s + b]] = rest[INDEX[s + a]] + way * length(s + a, s + b)
        mirror = np.array([1.0 if s == "L" else -1.0, 1, 1])
        foot = local(f"foot{s}", f"{s}Ankle", _toes(s), _TYPICAL_FOOT * mirror)
        place(_toes(s), f"{s}Ankle", foot, np.stack([_X, _Z, -_Y]))
        first = LEFT_HAND if s == "L" else RIGHT_HAND
        hand = local(f"hand{s}", f"{s}Wrist", JOINTS[first : first + 21], _TYPICAL_HAND)
        across = -_Y
        back = np.cross(across, down) * mirror[0]
        place(JOINTS[first : first + 21], f"{s}Wrist", hand, np.stack([across, back, down]))
    rest[:, 2] -= rest[: len(JOINTS) - 70, 2].min()
    return rest, np.asarray((c > 0).any(0), np.float64)
