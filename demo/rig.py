# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts motion on armatures: the procedural walk on the avatar's own armature, or a BVH file. Runs inside Blender."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import bpy
import numpy as np
import numpy.typing as npt
from mathutils import Matrix, Vector


def pose_to_joints(
    armature: bpy.types.Object, joints: npt.NDArray[np.float64], index: Mapping[str, int], first: int
) -> None:
    """Key every bone so that it ends in the joint it is named after, with the least twist against its parent.

    joints: (T, J, 3) in the armature's own axes, bone lengths those of its rest pose; index: joint name to row.
    """
    bones = [b for b in armature.data.bones if b.name in index]  # parents come first
    for bone in bones:
        armature.pose.bones[bone.name].rotation_mode = "QUATERNION"
    for k, frame in enumerate(joints):
        poses: dict[str, tuple[Matrix, Matrix]] = {}
        for bone in bones:
            rest = bone.matrix_local
            tail = Vector(frame[index[bone.name]])
            if bone.parent is None:
                turn, pose = Matrix.Identity(3), Matrix.Translation(tail - bone.tail_local) @ rest
                basis = rest.inverted() @ pose
            else:
                parent_turn, parent_pose = poses[bone.parent.name]
                carried = parent_pose @ bone.parent.matrix_local.inverted() @ rest
                wanted = (tail - carried.translation).normalized()
                turn = carried.to_3x3().col[1].rotation_difference(wanted).to_matrix() @ parent_turn
                pose = Matrix.Translation(carried.translation) @ (turn @ rest.to_3x3()).to_4x4()
                basis = carried.inverted() @ pose
            poses[bone.name] = turn, pose
            posed = armature.pose.bones[bone.name]
            rotation = basis.to_quaternion()
            rotation.make_compatible(posed.rotation_quaternion)
            posed.rotation_quaternion = rotation
            posed.keyframe_insert("rotation_quaternion", frame=first + k)
            if bone.parent is None:
                posed.location = basis.translation
                posed.keyframe_insert("location", frame=first + k)


def bvh_length(path: Path) -> tuple[int, float]:
    """Number of frames and seconds a frame of a BVH file. Raises ValueError with a sentence."""
    count, seconds = 0, 0.0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            word, _, value = line.partition(":")
            if word.strip() == "Frames":
                count = int(value)
            elif word.strip() == "Frame Time":
                seconds = float(value)
                break
    if count < 1 or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"'{path}' is not a BVH file: it names no frames and no frame time.")
    return count, seconds


def import_bvh(scene: bpy.types.Scene, path: Path, first: int) -> bpy.types.Object:
    """Import a BVH file at the scene's frame rate; returns its armature, upright."""
    options = {"filepath": str(path), "use_fps_scale": True, "frame_start": first, "rotate_mode": "NATIVE"}
    for axes in ({"axis_forward": "-Z", "axis_up": "Y"}, {"axis_forward": "Y", "axis_up": "Z"}):
        bpy.ops.import_anim.bvh(**options, **axes)
        armature = bpy.context.object
        if _is_upright(scene, armature, first):
            return armature
        bpy.data.objects.remove(armature)
    raise ValueError(f"The person in '{path}' does not stand upright at the first frame, neither with Y nor with Z up.")


def _is_upright(scene: bpy.types.Scene, armature: bpy.types.Object, frame: int) -> bool:
    """Does the body reach higher than it reaches wide?"""
    scene.frame_set(frame)
    bones = armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    # Not from the first bone's head: many files have a root on the floor, far from the body.
    points = np.array([armature.matrix_world @ bone.tail for bone in bones if bone.parent is not None])
    extent = np.ptp(points, axis=0)
    return bool(extent[2] > 0.7 * extent[:2].max())
