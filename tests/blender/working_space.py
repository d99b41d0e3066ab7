# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: files whose light is not Rec.709's, from Blender 5.0 on. Arguments: avatar, a picture, output
folder."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, behind, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
harness.enable()
from mathutils import Color  # noqa: E402

from neural_avatar.addon import look  # noqa: E402

NAMES = ("Linear Rec.709", "Linear Rec.2020", "ACEScg") if bpy.app.version >= (5, 0) else ("Linear Rec.709",)


def composite() -> None:
    """Let the saved picture be the pass Composite."""
    tree, end = harness.compositor(scene, "Plain")
    layers = tree.nodes.new("CompositorNodeRLayers")
    layers.scene = scene
    tree.links.new(layers.outputs["Composite"], end.inputs[0])


matrices = {}
for number, name in enumerate(NAMES):
    scene = harness.new_scene()
    if number:
        bpy.ops.wm.set_working_color_space(working_space=name, convert_colors=False)
        assert bpy.data.colorspace.working_space == name
    matrices[name] = [list(Color(axis).from_rec709_linear_to_scene_linear()) for axis in np.eye(3)]
    person = harness.add_person(avatar)
    person.neural_avatar_look.temperature = 7000
    error = harness.render(scene, out / f"{number}_plain.png", "PNG")
    scene.neural_avatar_render.keep_look = True
    scene.view_settings.view_transform = "AgX"
    error += harness.render(scene, out / f"{number}_kept.png", "PNG")
    error += "" if look.table(scene) is not None else "no table"
    scene.view_settings.view_transform = "Standard"
    camera = scene.camera.data
    camera.show_background_images = True
    background = camera.background_images.new()
    background.image, background.frame_method = bpy.data.images.load(behind), "STRETCH"
    error += harness.render(scene, out / f"{number}_passes.exr")
    composite()
    error += harness.render(scene, out / f"{number}_plate.png", "PNG")
    assert not error, error
harness.tell(matrices=matrices)
