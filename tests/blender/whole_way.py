# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a dataset's joints as an armature and its cameras as Blender's, rendered to PNG.

Arguments: avatar, dataset, output folder, jobs (JSON: a list of {name, row, camera, factor, kind}). factor scales the
whole scene. kind: 'perspective' (the dataset's camera), 'orthographic' (the same view without perspective), 'far'
(the same from a hundred times the distance through a lens a hundred times as long).
"""

import json
import math
import sys
from pathlib import Path

import bpy
import harness
import numpy as np
from mathutils import Matrix

FAR = 100.0


def build_armature(joints: np.ndarray, names: list[str], path: str) -> bpy.types.Object:
    """One bone for each joint, its head there; bones have the world's axes, so that a joint moves by the bone's
    location."""
    data = bpy.data.armatures.new("Joints")
    obj = bpy.data.objects.new("Joints", data)
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    bpy.ops.object.mode_set(mode="EDIT")
    for name, place in zip(names, joints, strict=True):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail, bone.roll = place, place + np.array([0, 0.05, 0]), 0.0
    bpy.ops.object.mode_set(mode="OBJECT")
    obj.neural_avatar.avatar_path = path
    for row in obj.neural_avatar.rows:
        row.bone, row.end, row.offset = (row.joint if row.joint in names else ""), "HEAD", (0, 0, 0)
    return obj


def place_camera(scene: bpy.types.Scene, c: dict, factor: float, kind: str, hips: np.ndarray) -> None:
    """The scene's camera as the dataset's, around the hips (world, unscaled) where it differs from it."""
    k, rotation, shift = (np.array(c[n], float) for n in ("K", "R", "t"))
    depth = float(rotation[2] @ hips + shift[2])
    away = depth * (FAR - 1) if kind == "far" else 0.0
    world = np.eye(4)
    world[:3, :3] = rotation.T @ np.diag([1, -1, -1])
    world[:3, 3] = (rotation.T @ -shift - rotation[2] * away) * factor
    camera = scene.camera
    camera.matrix_world = Matrix(world.tolist())
    lens = camera.data
    lens.sensor_fit, lens.sensor_width = "HORIZONTAL", 36.0
    width = c["width"]
    lens.type = "ORTHO" if kind == "orthographic" else "PERSP"
    focal = k[0, 0] * (FAR if kind == "far" else 1)
    lens.lens = focal * lens.sensor_width / width
    lens.ortho_scale = width * depth / k[0, 0] * factor
    lens.shift_x, lens.shift_y = -(k[0, 2] / width - 0.5), (k[1, 2] - c["height"] / 2) / width
    lens.clip_start, lens.clip_end = 0.01 * factor, 1e5 * factor


avatar, dataset, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
harness.enable()
data = np.load(dataset / "joints.npz", allow_pickle=False)
cameras = {c["name"]: c for c in json.loads((dataset / "cameras.json").read_text("utf-8"))["cameras"]}
names = [str(n) for n in data["names"]]
first = next(iter(cameras.values()))
scene = harness.new_scene(first["width"], first["height"])
armature, built = None, math.nan
for job in json.loads(sys.argv[4]):
    joints = data["joints"][job["row"]].astype(float)
    if built != job["factor"]:
        if armature is not None:
            bpy.data.objects.remove(armature)
        armature, built = build_armature(data["joints"][0].astype(float) * job["factor"], names, avatar), job["factor"]
    for name, place in zip(names, joints * job["factor"], strict=True):
        armature.pose.bones[name].location = place - np.array(armature.data.bones[name].head_local)
    place_camera(scene, cameras[job["camera"]], job["factor"], job["kind"], joints[names.index("MidHip")])
    bpy.context.view_layer.update()
    error = harness.render(scene, out / f"{job['name']}.png", "PNG")
    assert not error, error
