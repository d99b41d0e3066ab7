# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: clips baked of the same frames that are rendered. Arguments: avatar, folder.

For each case: NAME.npz, the pictures NAME/0001.png… and, for one of them, multilayer EXRs.
"""

import shutil
import sys
from pathlib import Path

import bpy
import harness

source, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
scene = harness.new_scene(90, 120)
render, camera = scene.render, scene.camera
person = harness.add_person(source)
shutil.copy(source, out / "avatar.avatar")
bpy.ops.wm.save_as_mainfile(filepath=str(out / "shot.blend"))
person.neural_avatar.avatar_path = "//avatar.avatar"
bone = person.pose.bones["LElbow"]
for frame, angle in ((2, 0.0), (6, 1.2)):
    bone.rotation_euler.z = angle
    bone.keyframe_insert("rotation_euler", frame=frame)
    person.location.x = 0.1 * angle
    person.keyframe_insert("location", frame=frame)
scene.frame_start, scene.frame_end = 2, 6
render.fps, render.fps_base = 30, 1.001
told = {}


def bake(name: str, **settings) -> str:
    try:
        outcome = bpy.ops.neural_avatar.bake_clip(filepath=str(out / f"{name}.npz"), **settings)
    except RuntimeError as error:
        return str(error).strip()
    assert outcome == {"FINISHED"}, outcome
    return ""


def case(name: str, kind: str = "PNG") -> None:
    """Bake, and render the same frames."""
    scene.frame_set(4)
    before = scene.frame_current, scene.camera
    told[name] = bake(name)
    assert (scene.frame_current, scene.camera) == before
    harness.save_as(scene, kind)
    render.filepath = f"//{name}/"
    bpy.ops.render.render(animation=True)


case("plain")
case("passes", "EXR")
told["between"] = bake("between", step=0.25, frame_start=2, frame_end=3)

scene.frame_step = 2
camera.data.shift_x, camera.data.shift_y = 0.1, -0.05
camera.data.sensor_fit = "VERTICAL"
render.resolution_percentage = 80
render.pixel_aspect_x = 1.5
case("lens")
scene.frame_step, render.resolution_percentage, render.pixel_aspect_x = 1, 100, 1.0
camera.data.shift_x = camera.data.shift_y = 0.0

# Markers switch between two cameras, one of them orthographic, and the person is away for a while.
other = bpy.data.objects.new("Other", bpy.data.cameras.new("Other"))
other.data.type, other.data.ortho_scale = "ORTHO", 2.5
other.location, other.rotation_euler = (2.5, -3.0, 1.2), (1.45, 0.0, 0.7)
scene.collection.objects.link(other)
for frame, which in ((2, camera), (4, other)):
    scene.timeline_markers.new(which.name, frame=frame).camera = which
for frame, hidden in ((2, False), (5, True), (6, False)):
    person.hide_render = hidden
    person.keyframe_insert("hide_render", frame=frame)
case("cuts")
scene.timeline_markers.clear()
scene.camera = camera
person.animation_data_clear()
person.hide_render = False

render.use_border = render.use_crop_to_border = True
render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.2, 0.8, 0.1, 0.9
case("border")
render.use_border = False

second = harness.add_person(source, (0.5, 0.3, 0.0))
second.name = "Second one"
person.select_set(True)
told["both"] = bake("both")
told["again"] = bake("both", check_existing=True)
told["replaced"] = bake("both", check_existing=False)
told["range"] = bake("range", frame_start=5, frame_end=4)
told["nowhere"] = bake("missing_folder/clip")
second.select_set(False)
scene.camera = None
told["no_camera"] = bake("no_camera")
scene.camera = camera
person.hide_render = True
told["never"] = bake("never")
person.hide_render = False

# What counts is what renders show, not what this view does.
others = bpy.data.collections.new("Others")
scene.collection.children.link(others)
others.objects.link(person)
scene.collection.objects.unlink(person)
others.hide_render = True
told["not_rendered"] = bake("not_rendered")
empty = bpy.data.objects.new("Instance", None)
empty.instance_type, empty.instance_collection = "COLLECTION", bpy.data.collections.new("In")
empty.instance_collection.objects.link(person)
scene.collection.objects.link(empty)
told["instance"] = bake("instance")
empty.hide_render = True
told["no_instance"] = bake("no_instance")
bpy.data.objects.remove(empty)
others.hide_render = False
bpy.context.view_layer.layer_collection.children["Others"].exclude = False
person.hide_set(True)
bpy.context.view_layer.objects.active = person
told["unseen"] = bake("unseen")
person.hide_set(False)
person.select_set(True)
person.neural_avatar.avatar_path = "//gone.avatar"
told["gone"] = bake("gone")
harness.tell(told=told, left=sorted(p.name for p in out.iterdir()))
