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

    # In local view, what is not looked at is not there, as in the view itself.
    person.select_set(False)
    scene.render.filepath = str(stage.OUT / "local_")
    with stage.override():
        bpy.ops.view3d.localview(frame_selected=False)
        bpy.ops.neural_avatar.playblast()
        bpy.ops.view3d.localview(frame_selected=False)

    # What is there stays where Overwrite is off, and the preview range goes before the scene's.
    (stage.OUT / "kept_0002.png").write_text("mine")
    scene.render.filepath, scene.render.use_overwrite = str(stage.OUT / "kept_"), False
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 2, 3
    with stage.override():
        bpy.ops.neural_avatar.playblast()
    stage.tell(kept=(stage.OUT / "kept_0002.png").read_text("latin-1"))
    stage.tell(written=sorted(p.name for p in stage.OUT.glob("kept_*")))

    # A folder that is none: a sentence, and nothing is left behind.
    (stage.OUT / "file").write_text("")
    scene.render.filepath, scene.frame_current = str(stage.OUT / "file" / "shot_"), 1
    try:
        with stage.override():
            bpy.ops.neural_avatar.playblast()
    except RuntimeError as error:
        stage.tell(refusal=str(error))
    stage.tell(frame=scene.frame_current, images=[i.name for i in bpy.data.images if "playblast" in i.name])

    # A window that closes in the middle of it: the scene is where it was, and nothing of it is kept.
    scene.render.filepath, scene.render.use_overwrite = str(stage.OUT / "closed_"), True
    scene.use_preview_range, scene.frame_end, scene.frame_current = False, 200, 7
    frames = stage.module("addon.preview_frames")
    ended, close = [], frames.Playblast.close
    frames.Playblast.close = lambda work: (close(work), ended.append(work))
    with stage.override():
        bpy.ops.wm.window_new()
    other = bpy.context.window_manager.windows[-1]
    area = other.screen.areas[0]
    area.type = "VIEW_3D"
    region = next(r for r in area.regions if r.type == "WINDOW")
    yield lambda: area.spaces.active.region_3d is not None
    with bpy.context.temp_override(window=other, screen=other.screen, area=area, region=region):
        bpy.ops.neural_avatar.playblast("INVOKE_DEFAULT")
    yield lambda: scene.frame_current == 3
    with bpy.context.temp_override(window=other):
        bpy.ops.wm.window_close()
    yield lambda: len(bpy.context.window_manager.windows) == 1
    stage.tell(closed=[scene.frame_current, len(ended)], part=len(list(stage.OUT.glob("closed_*"))))


stage.play(story)
