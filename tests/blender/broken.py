# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: what a 3D view shows of a crowd in which somebody is broken. Arguments: avatar, folder."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import overlay, viewport  # noqa: E402

scene = harness.new_scene()
well, broken = harness.add_person(avatar), harness.add_person(avatar)
well.name, broken.name = "Well", "Broken"
well.location.x = 0.5
broken.location.x = -0.5
# A copy of the start-up file's window, and in it a 3D view that looks through the camera.
area = bpy.context.window_manager.windows[0].screen.areas[0]
area.type = "VIEW_3D"
region = next(r for r in area.regions if r.type == "WINDOW")
depsgraph = bpy.context.evaluated_depsgraph_get()
region_data = SimpleNamespace(
    view_perspective="PERSP",
    window_matrix=scene.camera.calc_matrix_camera(depsgraph, x=region.width, y=region.height),
    view_matrix=scene.camera.matrix_world.normalized().inverted(),
)
context = SimpleNamespace(scene=scene, space_data=area.spaces.active, region=region, region_data=region_data)
viewport.start()


def seen() -> list:
    """Who is wished for, and what the panel says is wrong."""
    bpy.context.view_layer.update()
    viewport._changed()
    viewport.show(context, bpy.context.evaluated_depsgraph_get(), hidden_by_scene=True)
    wish = viewport.known(context).wish
    said = recorder.draw(overlay.NEURAL_AVATAR_PT_view).replace("\n", " ")
    return [sorted(p.name for p in wish.people) if wish is not None else None, "Broken" in said, said]


facts = {"all": seen()}
knee = broken.pose.bones["LKnee"]
knee.rotation_euler.x = math.nan
facts["joints"] = seen()
# What is written to files is whole or not there.
facts["render"] = harness.render(scene, out / "broken.exr")
knee.rotation_euler.x = 0.0
path = broken.neural_avatar.avatar_path
broken.neural_avatar.avatar_path = str(out / "Broken.avatar")
facts["file"] = seen()
broken.hide_set(True)
facts["hidden"] = seen()
broken.hide_set(False)
well.hide_set(True)
facts["alone"] = seen()
well.hide_set(False)
broken.neural_avatar.avatar_path = path
facts["mended"] = seen()
harness.tell(**facts)
