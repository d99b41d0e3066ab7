# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature of an avatar's own: one bone for each joint, ending in it and named after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from ..neural_backend.interface.skeleton import BODY_BONES, FACE, INDEX, JOINTS, LEFT_HAND_BONES, RIGHT_HAND_BONES
from . import mapping
from .properties import fill_rows

if TYPE_CHECKING:
    from ..neural_backend.interface.avatar_header import AvatarHeader

#: A bone shorter than this (in body heights of about 1.7 units) would vanish in Blender.
_SHORTEST = 1e-3


def create(context: Any, name: str, header: AvatarHeader, path: str) -> Any:
    """Add an armature with the avatar's rest joints, standing on the floor, with the avatar set; makes it the active
    object."""
    joints = np.asarray(header.rest_joints, np.float64)
    known = np.asarray(header.rest_confidence) > 0
    data = bpy.data.armatures.new(name)
    obj: Any = bpy.data.objects.new(name, data)
    context.collection.objects.link(obj)
    for other in context.selected_objects:
        other.select_set(False)
    context.view_layer.objects.active = obj
    obj.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        _add_bones(data, joints, known)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    feet = joints[[INDEX[j] for j in ("LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel")]]
    obj.location = context.scene.cursor.location
    obj.location.z -= float(feet[:, 2].min())
    fill_rows(obj, mapping.apply(mapping.OWN, [b.name for b in data.bones]))
    obj.neural_avatar.avatar_path = path
    return obj


def _add_bones(data: bpy.types.Armature, joints: np.ndarray, known: np.ndarray) -> None:
    hip = joints[INDEX["MidHip"]]
    root = data.edit_bones.new("MidHip")
    root.tail = hip
    root.head = hip - (0.0, 0.0, 0.1 * float(np.linalg.norm(joints[INDEX["Neck"]] - hip)))
    for parent, child in _tree():
        if JOINTS[parent] not in data.edit_bones or not known[child]:
            continue
        if np.linalg.norm(joints[child] - joints[parent]) < _SHORTEST:
            continue
        bone = data.edit_bones.new(JOINTS[child])
        bone.head, bone.tail = joints[parent], joints[child]
        bone.parent = data.edit_bones[JOINTS[parent]]
        bone.use_connect = True


def _tree() -> list[tuple[int, int]]:
    """Pairs of parent and child from the hips outwards; fingers hang on the body's wrists, the face on the nose."""
    pairs = {b: a for a, b in BODY_BONES}
    # BODY_25 draws the trunk from the neck; an animator moves it from the hips.
    pairs[INDEX["Neck"]] = INDEX["MidHip"]
    pairs.pop(INDEX["MidHip"], None)
    for side, bones in (("L", LEFT_HAND_BONES), ("R", RIGHT_HAND_BONES)):
        wrist = INDEX[f"{side}Wrist"]
        pairs.update({b: wrist if JOINTS[a].endswith("Hand_Wrist") else a for a, b in bones})
    pairs.update(dict.fromkeys(range(FACE, len(JOINTS)), INDEX["Nose"]))
    ordered: list[tuple[int, int]] = []
    reached = {INDEX["MidHip"]}
    while pairs:
        ready = [(a, b) for b, a in pairs.items() if a in reached]
        for a, b in ready:
            ordered.append((a, b))
            reached.add(b)
            del pairs[b]
    return ordered
