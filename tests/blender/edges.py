# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a large picture of an avatar in a set, whose soft edges are many pixels wide. Arguments: avatar,
output folder."""

import sys
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import compositing, compositor  # noqa: E402

scene = harness.new_scene(900, 1080)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
harness.glowing_box("Wall", (0, 3, 1), (12, 0.1, 8), (0.8, 0.8, 0.8))
harness.glowing_box("Front", (0.0, -1.0, 0.3), (3, 0.05, 0.6), (0, 0.4, 0))
harness.add_person(avatar)
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
people = compositing.scene_of_avatars(scene)


def picture(name: str) -> None:
    settings = scene.render.image_settings
    if bpy.app.version >= (5, 0):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = str(out / f"{name}.exr")
    bpy.ops.render.render(write_still=True)


picture("joined")
scene.render.use_motion_blur, scene.neural_avatar_render.samples = True, 2
scene.camera.keyframe_insert("location", frame=0)
scene.camera.location.x += 0.3
scene.camera.keyframe_insert("location", frame=2)
scene.frame_set(1)
scene.render.use_border, scene.render.border_min_x, scene.render.border_max_x = True, 0.3, 0.7
scene.render.border_min_y, scene.render.border_max_y = 0.3, 0.95
picture("blurred_joined")
people.view_layers[0].use_pass_cryptomatte_object = False
people.render.image_settings.exr_codec = "ZIP"
error = harness.render(people, out / "blurred_alone.exr")
scene.render.use_border = scene.render.use_motion_blur = False
scene.camera.animation_data_clear()
scene.camera.location.x = 0.6
compositing.before_save()
error += harness.render(people, out / "alone.exr")
harness.tell(error=error)

# A group of an earlier version stays until the scene is mended, and its settings stay then too.
node = compositor.marked(compositor.tree_of(scene), "join")[0]
node.node_tree[compositor.MADE] = 1
node.inputs["Tolerance"].default_value = 0.125
tree = compositor.tree_of(scene)
person = compositor.marked(tree, "person")[0]
tree.links.new(person.outputs["Depth"], node.inputs["Avatar Depth"])
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
node = compositor.marked(tree, "join")[0]
groups = [t.name for t in bpy.data.node_groups if t.name.startswith(compositor.GROUP)]
source = node.inputs["Avatar Depth"].links[0].from_socket.name
harness.tell(mended=[node.inputs["Tolerance"].default_value, len(groups), source, node.outputs["Image"].is_linked])
