# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: the overlay in EEVEE's Rendered view, with a thing before the avatar and one behind it."""

import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
import stage
from shows import bare, fresh, note


def story():
    scene, _ = stage.new_scene()
    bare()
    yield
    yield
    engines = bpy.types.RenderSettings.bl_rna.properties["engine"].enum_items
    scene.render.engine = next(e for e in ("BLENDER_EEVEE_NEXT", "BLENDER_EEVEE") if e in engines)
    scene.eevee.taa_samples = 1
    scene.neural_avatar_preview.show_bones = False
    bpy.ops.mesh.primitive_cube_add(size=0.3, location=(0.03, -0.8, 1.05))
    front = bpy.context.object
    bpy.ops.mesh.primitive_cube_add(size=1.2, location=(0.0, 1.2, 0.6))
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.2, 0.3))
    bpy.context.object.data.energy = 4.0
    stage.shade("RENDERED")
    yield fresh()
    yield stage.finished
    yield fresh()
    note("eevee")
    stage.picture("eevee")
    scene.neural_avatar_preview.show = False
    stage.redraw()
    yield
    yield
    stage.picture("eevee_alone")
    stage.tell(front=stage.flat_box(front))


if __name__ == "__main__":
    stage.play(story)
