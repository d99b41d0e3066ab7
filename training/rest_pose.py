# SPDX-License-Identifier: GPL-3.0-or-later
"""The rest pose of a person: the proportions of the footage in an upright A-pose, facing -Y, hips at the origin's
height."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.body import FRAME_INDEX, body_frames
from ..neural_backend.interface.skeleton import INDEX, JOINT_COUNT, JOINTS, LEFT_HAND, RIGHT_HAND

Array = npt.NDArray[np.float64]

_X, _Y, _Z = np.eye(3)

_HEAD = ("Nose", "REye", "LEye", "REar", "LEar")


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

    def length(a: str, b: str) -> float:
        known = (c[:, INDEX[a]] > 0) & (c[:, INDEX[b]] > 0)
        distance = np.linalg.norm(frames.joints[:, INDEX[a]] - frames.joints[:, INDEX[b]], axis=-1)
        return float(np.median(distance[known] if known.any() else distance))

    def local(frame: str, anchor: str, names: tuple[str, ...]) -> Array:
        """Median places of the named joints as the frame sees them from the anchor; typical ones where never seen."""
        columns = [INDEX[n] for n in names]
        seen = (c[:, columns] > 0).all(1) & (c[:, INDEX[anchor]] > 0)
        rows = seen if seen.any() else np.ones(len(j), bool)
        offset = frames.joints[rows][:, columns] - frames.joints[rows][:, [INDEX[anchor]]]
        return np.asarray(np.median(np.einsum("bij,bkj->bki", frames.axes[rows, FRAME_INDEX[frame]], offset), 0))

    rest = np.zeros((JOINT_COUNT, 3))
    upright = np.stack([_X, -_Y, _Z])

    def place(names: tuple[str, ...], anchor: str, points: Array, axes: Array) -> None:
        for name, point in zip(names, points, strict=True):
            rest[INDEX[name]] = rest[INDEX[anchor]] + point @ axes

    rest[INDEX["Neck"]] = _Z * length("MidHip", "Neck")
    place(_HEAD, "Neck", local("torso", "Neck", _HEAD), upright)
    for s, left in (("L", _X), ("R", -_X)):
        hip = local("torso", "MidHip", (f"{s}Hip",))
        shoulder = local("torso", "Neck", (f"{s}Shoulder",))
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
        foot = local(f"foot{s}", f"{s}Ankle", _toes(s))
        place(_toes(s), f"{s}Ankle", foot, np.stack([_X, _Z, -_Y]))
        first = LEFT_HAND if s == "L" else RIGHT_HAND
        hand = local(f"hand{s}", f"{s}Wrist", JOINTS[first : first + 21])
        across = -_Y
        back = np.cross(across, down) * mirror[0]
        place(JOINTS[first : first + 21], f"{s}Wrist", hand, np.stack([across, back, down]))
    rest[:, 2] -= rest[: len(JOINTS) - 70, 2].min()
    return rest, np.asarray((c > 0).any(0), np.float64)
