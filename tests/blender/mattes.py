# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: mattes, object indices, exposure and motion blur. Arguments: avatar, output folder."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1], Path(sys.argv[2])
FIVE = bpy.app.version >= (5, 0)
harness.enable()
from neural_avatar.addon import matte  # noqa: E402


def picture(name):
    error = harness.render(scene, out / f"{name}.exr")
    assert not error, error


scene = harness.new_scene()
layer = scene.view_layers[0]
near = harness.add_person(avatar)
near.name, near.pass_index = "Änne", 3
far = harness.add_person(avatar, (0.15, 0.6, 0.0))
far.name, far.pass_index = "Bert", 7
layer.use_pass_object_index = layer.use_pass_cryptomatte_object = True
layer.pass_cryptomatte_depth = 4
picture("both")
far.hide_render = True
picture("near")
far.hide_render, near.hide_render = False, True
picture("far")
near.hide_render = False
numbers = {person.name: matte.number(person.name) for person in (near, far)}

# Blender's own Cryptomatte node finds Bert.
tree, end = harness.compositor(scene, "Matte")
layers, node = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("CompositorNodeCryptomatteV2")
layers.scene = node.scene = scene
facts = {"layer": node.layer_name, "names": {}}
for person in (near, far):
    node.matte_id = person.name
    facts["names"][person.name] = int(np.float32(node.entries[0].encoded_hash).view(np.uint32))
tree.links.new(layers.outputs["Image"], node.inputs[0])
tree.links.new(node.outputs["Matte"], end.inputs[0])
node.matte_id = "Bert"
picture("node")
if FIVE:
    scene.compositing_node_group = None
else:
    scene.use_nodes = False

# Exposure and white balance.
far.hide_render = True
layer.use_pass_cryptomatte_object = layer.use_pass_object_index = False
near.neural_avatar_look.exposure = 1.0
picture("exposed")
near.neural_avatar_look.exposure, near.neural_avatar_look.temperature = 0.0, 9000
picture("warm")
near.neural_avatar_look.temperature = 6500
scene.neural_avatar_render.quality = 0.5
picture("coarse")
scene.neural_avatar_render.quality = 1.0

# Motion blur: off by default; the mean of the moments; the camera's motion too.
far.hide_render = False
layer.use_pass_cryptomatte_object = True
for frame, x in ((1, -0.5), (3, 0.5)):
    near.location.x = x
    near.keyframe_insert("location", frame=frame)
    scene.camera.location.z = 1.3 + 0.1 * x
    scene.camera.keyframe_insert("location", frame=frame)
scene.frame_set(2)
scene.neural_avatar_render.samples = 3
facts["off"] = not scene.render.use_motion_blur
picture("still")
scene.render.use_motion_blur = True
scene.render.motion_blur_shutter, scene.render.motion_blur_position = 0.75, "CENTER"
picture("blurred")
facts["frame"] = [scene.frame_current, scene.frame_subframe, round(near.location.x, 4)]
scene.render.use_motion_blur = False
for i, moment in enumerate((-0.25, 0.0, 0.25)):
    whole = int(np.floor(2 + moment))
    scene.frame_set(whole, subframe=2 + moment - whole)
    picture(f"moment_{i}")
harness.tell(numbers=numbers, **facts)
