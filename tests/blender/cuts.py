# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: an avatar in a set whose markers change the camera. Arguments: avatar, output folder."""

import sys
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import compositing  # noqa: E402

scene = harness.new_scene(80, 60)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
bpy.ops.mesh.primitive_cube_add(size=1, location=(0.4, 0, 0.3))
bpy.ops.object.select_all(action="DESELECT")
harness.add_person(avatar)
scene.camera.name = "Right"
cameras = {"Right": scene.camera}
for name, x in (("Left", -0.4), ("Middle", 0.2), ("Hidden", 0.9)):
    camera = cameras[name] = bpy.data.objects.new(name, scene.camera.data.copy())
    camera.matrix_world = scene.camera.matrix_world.copy()
    camera.location.x += x
    scene.collection.objects.link(camera)
cameras["Hidden"].hide_render = True
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
harness.save_as(scene, "PNG")
scene.render.image_settings.color_mode = "RGBA"


def film(name, first, last):
    """Render frames, and tell whose eyes the set and the avatars were seen through."""
    seen = []

    def watch(*_):
        eyes = compositing.scene_of_avatars(scene) or scene
        seen.append([scene.frame_current, scene.camera.name, eyes.camera.name])

    bpy.app.handlers.render_post.append(watch)
    scene.frame_start, scene.frame_end = first, last
    scene.render.filepath = str(out / f"{name}_")
    bpy.ops.render.render(animation=True)
    bpy.app.handlers.render_post.remove(watch)
    harness.tell(**{name: seen})


# What each camera sees, without any marker.
for name in ("Right", "Left", "Middle"):
    scene.camera = cameras[name]
    film(name.lower(), 1, 1)

# The earliest marker counts before it too, a hidden camera's never, and of two at one frame the first.
for name, frame in (("Left", 3), ("Middle", 5), ("Right", 5), ("Right", 2), ("Hidden", 4)):
    scene.timeline_markers.new(name, frame=frame).camera = cameras[name]
scene.frame_set(1)
film("whole", 1, 5)
# A part of the film on another machine, which opens the file where it was saved.
scene.frame_set(1)
film("part", 3, 4)
scene.frame_set(5)
film("back", 1, 1)

# A cut within the shutter time, where nothing moves, blurs nothing.
bpy.ops.neural_avatar.remove_compositing()
scene.render.engine = "NEURAL_AVATAR"
scene.neural_avatar_render.samples = 4
scene.render.motion_blur_shutter, scene.render.motion_blur_position = 1.0, "CENTER"
for name, blurred in (("sharp", False), ("blurred", True)):
    scene.render.use_motion_blur = blurred
    film(name, 2, 3)
