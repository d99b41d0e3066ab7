# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: the avatar in our Rendered view, over Solid with things before and behind it, and in an
orthographic view."""

import sys
import time
from pathlib import Path

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import stage


def bare() -> None:
    """Nothing in the view but what is rendered."""
    space = stage.window()[1].spaces.active
    space.overlay.show_overlays = space.show_gizmo = space.show_region_toolbar = space.show_region_ui = False
    space.show_region_header = space.show_region_tool_header = False


def fresh():
    """A drawing of what is finished."""
    moment = time.monotonic()
    stage.redraw()
    return stage.drawn_since(moment)


def note(name: str) -> None:
    """What the view wished for, for the test to draw by itself."""
    view = stage.module("addon.viewport").all_views()[0]
    camera, person, picture = view.wish.camera, view.wish.people[0], view.preview.picture
    np.savez(
        stage.OUT / f"{name}.npz", K=camera.K, R=camera.R, t=camera.t, size=(camera.width, camera.height),
        orthographic=camera.orthographic, near=camera.near, joints=person.joints, confidence=person.confidence,
        level=picture.level, place=stage.region_place(),
    )  # fmt: skip


def story():
    scene, _ = stage.new_scene()
    bare()
    # Region sizes change when headers go: let Blender settle before anything is measured.
    yield
    yield
    for name, kind in (("rendered", "RENDERED"), ("overlay", "SOLID")):
        stage.shade(kind)
        scene.neural_avatar_preview.show_bones = False
        yield fresh()
        yield stage.finished
        yield fresh()
        note(name)
        stage.picture(name)
    # Under AgX the Rendered view keeps the look that the scene asks to keep.
    scene.view_settings.view_transform, scene.neural_avatar_render.keep_look = "AgX", True
    stage.shade("RENDERED")
    yield fresh()
    yield lambda: stage.module("addon.viewport").all_views()[0].wish.style.table is not None
    yield stage.finished
    yield fresh()
    note("kept")
    stage.picture("kept")
    scene.view_settings.view_transform, scene.neural_avatar_render.keep_look = "Standard", False
    stage.shade("SOLID")
    bpy.ops.mesh.primitive_cube_add(size=0.3, location=(0.03, -0.8, 1.05))
    front = bpy.context.object
    bpy.ops.mesh.primitive_cube_add(size=1.2, location=(0.0, 1.2, 0.6))
    yield fresh()
    yield stage.finished
    yield fresh()
    note("set")
    stage.picture("set")
    scene.neural_avatar_preview.show = False
    stage.redraw()
    yield
    yield
    stage.picture("set_alone")
    scene.neural_avatar_preview.show = True
    stage.tell(front=stage.flat_box(front))
    for obj in [o for o in bpy.data.objects if o.type == "MESH"]:
        bpy.data.objects.remove(obj)
    with stage.override():
        bpy.ops.view3d.view_axis(type="LEFT")
        bpy.context.space_data.region_3d.view_distance = 6.0
        bpy.context.space_data.region_3d.view_location = (0.0, 0.0, 0.9)
    yield fresh()
    yield stage.finished
    yield fresh()
    note("orthographic")
    stage.picture("orthographic")
    stage.tell(words=[v.preview.state.value for v in stage.module("addon.viewport").all_views()])


if __name__ == "__main__":
    stage.play(story)
