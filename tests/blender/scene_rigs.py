# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: rigs in a set whose pose depends on the scene that they are in. Arguments: avatar, output
folder."""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()


def said(action):
    """What Blender prints meanwhile."""
    libc = ctypes.CDLL(None)
    kept = [os.dup(i) for i in (1, 2)]
    with tempfile.TemporaryFile() as file:
        for i in (1, 2):
            os.dup2(file.fileno(), i)
        try:
            action()
        finally:
            libc.fflush(None)
            for i, own in zip((1, 2), kept, strict=True):
                os.dup2(own, i)
                os.close(own)
        file.seek(0)
        return [line for line in file.read().decode().splitlines() if "WARNING" in line or line.startswith("Warning")]


def film(name, first, last):
    scene.render.filepath = str(out / f"{name}_")
    scene.frame_start, scene.frame_end = first, last
    bpy.ops.render.render(animation=True)


scene = harness.new_scene(80, 60)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
harness.save_as(scene, "PNG")
person = harness.add_person(avatar)
facts = {}

# A bone is driven by a property of whatever scene is evaluated.
driver = person.pose.bones["LElbow"].driver_add("rotation_euler", 0).driver
person.pose.bones["LElbow"].rotation_mode = "XYZ"
driver.type = "SUM"
variable = driver.variables.new()
variable.type = "CONTEXT_PROP"
target = variable.targets[0]
target.context_property, target.data_path = "ACTIVE_SCENE", '["wave"]'
scene["wave"], scene["words"], scene["places"] = 0.0, "as told", [1.0, 2.0]
facts["plain"] = said(lambda: bpy.ops.neural_avatar.setup_compositing())
people = next(s for s in bpy.data.scenes if s != scene)
for i, wave in enumerate((0.0, 0.75, 1.5)):
    scene["wave"] = wave
    scene.update_tag()
    film(f"still{i}", 1, 1)
facts["copied"] = [people["wave"], people["words"], list(people["places"])]
for frame, wave in ((1, 0.0), (3, 1.5)):
    scene["wave"] = wave
    scene.keyframe_insert('["wave"]', frame=frame)
action = scene.animation_data.action
curves = action.fcurves if hasattr(action, "fcurves") else action.layers[0].strips[0].channelbags[0].fcurves
for point in curves[0].keyframe_points:
    point.interpolation = "LINEAR"
scene.frame_set(1)
film("moving", 1, 3)
scene.frame_set(1)
film("part", 3, 3)
facts["again"] = said(lambda: bpy.ops.neural_avatar.setup_compositing())

# Who stands on what falls, falls in the set alone.
bpy.ops.mesh.primitive_cube_add(size=0.2, location=(0, 0, 3))
box = bpy.context.object
bpy.ops.rigidbody.object_add()
person.parent = box
for frame in range(1, 9):
    scene.frame_set(frame)
facts["fallen"] = box.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world.translation.z < 2.9
facts["apart"] = said(lambda: bpy.ops.neural_avatar.setup_compositing())
facts["frame"] = [scene.frame_current, people.frame_current]
facts["name"] = person.name
harness.tell(**facts)
