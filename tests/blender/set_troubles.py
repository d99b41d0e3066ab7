# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a set whose people cannot be drawn in some frames. Arguments: avatar, output folder."""

import contextlib
import io
import math
import sys
from pathlib import Path

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import render_job  # noqa: E402

scene = harness.new_scene(40, 30)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
person = harness.add_person(avatar)
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
knee = person.pose.bones["LKnee"]
for frame, angle in ((1, 0.0), (2, math.nan), (3, math.nan), (4, 0.0)):
    knee.rotation_euler.x = angle
    knee.keyframe_insert("rotation_euler", frame=frame)


def film(first: int, last: int) -> dict:
    """Render; what the operator gives, what the panel says, and what is printed."""
    scene.frame_start, scene.frame_end = first, last
    scene.frame_set(first)
    harness.save_as(scene, "PNG")
    scene.render.filepath = str(out / "film_")
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        outcome = bpy.ops.render.render(animation=True)
    return {
        "outcome": sorted(outcome),
        "panel": recorder.draw(render_job.NEURAL_AVATAR_PT_last_render),
        "printed": [line for line in printed.getvalue().splitlines() if line.startswith("Neural Avatar: scene")],
    }


harness.tell(before=recorder.draw(render_job.NEURAL_AVATAR_PT_last_render))
harness.tell(failed=film(1, 4))
harness.tell(well=film(4, 4))
knee.id_data.location.x = 60
harness.tell(outside=film(4, 4))
knee.id_data.location.x = 0
