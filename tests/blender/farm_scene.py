# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: makes the files of a farm's job. Arguments: avatar, folder, Python for the file (may be empty).

shot.blend: an animated person, frames 1 to 6, //avatar.avatar into //renders/. fails.blend: nothing can be drawn in
frame 3. set.blend: a set that shows the failing person's scene through its compositor.
"""

import math
import shutil
import sys
from pathlib import Path

import bpy
import harness

source, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
scene = harness.new_scene(90, 120)
shutil.copy(source, out / "avatar.avatar")
person = harness.add_person(source)
bone = person.pose.bones["LElbow"]
for frame, angle in ((1, 0.0), (6, 1.2)):
    bone.rotation_euler.z = angle
    bone.keyframe_insert("rotation_euler", frame=frame)
    person.location.x = 0.2 * angle
    person.keyframe_insert("location", frame=frame)
scene.frame_start, scene.frame_end = 1, 6
harness.save_as(scene, "EXR")
scene.render.filepath = "//renders/"
scene.neural_avatar_batch.device = "cpu"
scene.neural_avatar_batch.python = sys.argv[3]


def save(name: str) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(out / name), relative_remap=False)


person.neural_avatar.avatar_path = "//avatar.avatar"
save("shot.blend")

knee = person.pose.bones["LKnee"]
for frame, angle in ((2, 0.0), (3, math.nan), (4, 0.0)):
    knee.rotation_euler.x = angle
    knee.keyframe_insert("rotation_euler", frame=frame)
save("fails.blend")

stage = bpy.data.scenes.new("Set")
stage.render.engine = "CYCLES"
stage.cycles.samples, stage.cycles.use_denoising = 1, False
for name in ("resolution_x", "resolution_y", "resolution_percentage"):
    setattr(stage.render, name, getattr(scene.render, name))
stage.camera = scene.camera
stage.collection.objects.link(scene.camera)
stage.frame_start, stage.frame_end = 1, 4
harness.save_as(stage, "PNG")
stage.render.filepath = "//set/"
if bpy.app.version >= (5, 0):
    tree = stage.compositing_node_group = bpy.data.node_groups.new("Set", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    end = tree.nodes.new("NodeGroupOutput")
    over = tree.nodes.new("CompositorNodeAlphaOver")
    behind, front = over.inputs[0], over.inputs[1]
else:
    stage.use_nodes = True
    tree = stage.node_tree
    tree.nodes.clear()
    end, over = tree.nodes.new("CompositorNodeComposite"), tree.nodes.new("CompositorNodeAlphaOver")
    behind, front = over.inputs[1], over.inputs[2]
layers = []
for which in (stage, scene):
    layers.append(tree.nodes.new("CompositorNodeRLayers"))
    layers[-1].scene = which
tree.links.new(layers[0].outputs["Image"], behind)
tree.links.new(layers[1].outputs["Image"], front)
tree.links.new(over.outputs["Image"], end.inputs[0])
bpy.context.window.scene = stage
save("set.blend")
