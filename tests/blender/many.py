# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a crowd of whom few are in the picture. Arguments: avatar, output folder."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import scene as scenes  # noqa: E402
from neural_avatar.addon.preview_view import View, make_wish  # noqa: E402

scene = harness.new_scene(80, 60)
person = harness.add_person(avatar)
scene.render.use_motion_blur, scene.render.motion_blur_shutter, scene.neural_avatar_render.samples = False, 1.0, 3
facts = {}


def crowd(count):
    """People in a row, who run along it."""
    mesh = bpy.data.meshes.new("Row")
    mesh.from_pydata([((i - count // 2) * 1.2, 0, 0) for i in range(count)], [], [])
    row = bpy.data.objects.new("Row", mesh)
    row.instance_type = "VERTS"
    for frame, x in ((1, 0), (2, 3)):
        row.location.x = x
        row.keyframe_insert("location", frame=frame)
    scene.collection.objects.link(row)
    person.parent = row
    return row


for count in (13, 301):
    row = crowd(count)
    for kind, blurred in (("sharp", False), ("blurred", True)):
        scene.render.use_motion_blur = blurred
        facts[f"{kind} {count}"] = harness.render(scene, out / f"{kind}_{count}.exr")
    depsgraph = bpy.context.evaluated_depsgraph_get()
    people = scenes.avatar_instances(depsgraph)
    eye = scene.camera.evaluated_get(depsgraph)
    projection = np.array(eye.calc_matrix_camera(depsgraph, x=80, y=60), np.float64)
    wish = make_wish(View(80, 60, projection, np.array(eye.matrix_world.normalized().inverted(), np.float64)), people)
    facts[f"drawn {count}"] = [len(people), len(wish.people), wish.box is not None]
    bpy.data.objects.remove(row)
harness.tell(**facts)
