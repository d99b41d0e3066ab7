# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: a playblast of three frames, with avatars; and Blender's own."""

import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
import stage


def story():
    scene, person = stage.new_scene()
    stage.swing(person, 3)
    stage.shade("SOLID")
    stage.window()[1].spaces.active.overlay.show_overlays = False
    scene.render.resolution_x, scene.render.resolution_y = 480, 270
    bpy.ops.mesh.primitive_cube_add(size=0.3, location=(0.03, -0.8, 0.4))
    for name, step in (("blender_", bpy.ops.render.opengl), ("avatar_", bpy.ops.neural_avatar.playblast)):
        scene.render.filepath = str(stage.OUT / name)
        with stage.override():
            outcome = step(animation=True) if name == "blender_" else step()
        stage.tell(**{name: list(outcome)})
    yield


stage.play(story)
