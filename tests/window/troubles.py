# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: a film of a set whose people cannot be drawn in some frames, rendered as Ctrl-F12 does;
what pops up is noted."""

import math
import sys
import threading
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
import stage


def story():
    render_job = stage.module("addon.render_job")
    scene, person = stage.new_scene()
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = 80, 45
    assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
    bone = person.pose.bones["LKnee"]
    for frame, angle in ((1, 0.0), (2, math.nan), (3, math.nan), (4, 0.0)):
        bone.rotation_mode, bone.rotation_euler.x = "XYZ", angle
        bone.keyframe_insert("rotation_euler", frame=frame)
    scene.frame_start, scene.frame_end = 1, 4
    stage.harness.save_as(scene, "PNG")
    scene.render.filepath = str(stage.OUT / "film_")
    shown, ended, genuine = [], [], render_job._popup

    def popup(sentences, width):
        draw = genuine(sentences, width)

        def noted(menu, context):
            shown.append([list(sentences), threading.current_thread() is threading.main_thread()])
            draw(menu, context)

        return noted

    render_job._popup = popup
    bpy.app.handlers.render_complete.append(lambda *_: ended.append("complete"))
    with stage.override():
        bpy.ops.render.render("INVOKE_DEFAULT", animation=True)
    yield lambda: bool(ended)
    yield lambda: not bpy.app.is_job_running("RENDER")
    yield lambda: bool(shown) and "2–3" in shown[-1][0][0]
    stage.redraw()
    yield
    yield
    stage.picture("popup")
    stage.tell(shown=shown, written=sorted(path.name for path in stage.OUT.glob("film_*")))


stage.play(story)
