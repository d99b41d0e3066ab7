# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender, installed as an extension: the backend is set up by the preferences' buttons, draws, and is
removed. Arguments: zip, avatar, archive of wheels, folder."""

import os
import sys
from pathlib import Path

import bpy
import harness

extension, avatar, archive, out = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
bpy.ops.extensions.package_install_files(filepath=extension, repo="user_default", enable_on_install=True)
module = "bl_ext.user_default.neural_avatar"
bpy.ops.preferences.addon_enable(module=module)
session, operators = (sys.modules[f"{module}.addon.{name}"] for name in ("session", "setup.operators"))
ops, told = bpy.ops.neural_avatar, {}


def refused(call, **options) -> str:
    """What an operator says when it cannot."""
    try:
        assert call(**options) == {"CANCELLED"}
    except RuntimeError as error:
        return str(error)
    return ""


told["offline"] = "" if bpy.app.online_access else refused(ops.setup, wait=True)
told["no archive"] = refused(ops.setup_from_archive, filepath=str(out / "nothing.zip"), wait=True)
told["agree to nothing"] = ops.setup_agree.poll()
assert ops.setup_from_archive(filepath=os.path.join(archive, ""), wait=True) == {"FINISHED"}
told["plan"] = operators.state.plan.sentences()
told["before"] = (session.setup_home() / "environment.json").exists()
assert ops.setup_agree(wait=True) == {"FINISHED"}, operators.state.error
told["said"] = operators.state.said
told["python"], told["home"] = session.python(), str(session.setup_home())
preferences = bpy.context.preferences.addons[module].preferences
told["devices"] = sys.modules[module + ".addon.preferences"]._devices(preferences, bpy.context, "")
assert ops.setup_test(wait=True) == {"FINISHED"}
told["test"] = operators.state.said
told["report"] = operators.report_text()

scene = bpy.context.scene
scene.render.engine, scene.render.resolution_x, scene.render.resolution_y = "NEURAL_AVATAR", 64, 64
harness.add_person(avatar)
scene.camera.location, scene.camera.rotation_euler = (0, -4.5, 1), (1.57, 0, 0)
told["error"] = harness.render(scene, out / "frame.exr")

# Cancel, and quit while something is under way: nothing is left, what was there stays.
ops.setup_from_archive(filepath=os.path.join(archive, ""), wait=True)
ops.setup_agree()
ops.setup_cancel()
assert operators.state.job.wait(60)
operators.finish()
told["cancelled"] = operators.state.error.code
told["still"] = os.path.exists(session.python())
assert ops.setup_remove(wait=True) == {"FINISHED"}
told["removed"] = operators.state.said
told["left"] = sorted(p.name for p in session.setup_home().iterdir() if p.is_dir())
told["after"] = refused(ops.setup_test, wait=True)
ops.setup_from_archive(filepath=os.path.join(archive, ""), wait=True)
ops.setup_agree()
harness.tell(**told)
