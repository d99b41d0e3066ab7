# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: what goes wrong gives one sentence, and the next frame works. Arguments: avatar, corrupt and
newer avatar, folder."""

import os
import sys
from pathlib import Path

import bpy
import harness

avatar, corrupt, newer, out = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
harness.enable()
from neural_avatar.addon import final, session  # noqa: E402

told: list[list[str]] = []
genuine = final.tell


def tell(engine, level, message, details=""):
    told.append([level, message])
    genuine(engine, level, message, details)


final.tell = tell
scene = harness.new_scene()
person = harness.add_person(avatar)
settings = person.neural_avatar
outcomes = {}


def attempt(name: str) -> None:
    told.clear()
    error = harness.render(scene, out / f"{name}.exr")
    outcomes[name] = {"error": error, "told": list(told), "written": (out / f"{name}.exr").exists()}


def attempt_with(name: str, thing, attribute: str, value) -> None:
    before = getattr(thing, attribute)
    before = before.copy() if hasattr(before, "copy") and not isinstance(before, bpy.types.ID) else before
    setattr(thing, attribute, value)
    attempt(name)
    setattr(thing, attribute, before)


attempt("good")
attempt_with("missing", settings, "avatar_path", "/nowhere/nobody.avatar")
attempt_with("corrupt", settings, "avatar_path", corrupt)
attempt_with("newer", settings, "avatar_path", newer)
attempt_with("no_avatar", settings, "avatar_path", "")
attempt_with("no_camera", scene, "camera", None)
attempt_with("unmapped", next(r for r in settings.rows if r.joint == "LKnee"), "bone", "gone")
attempt_with("nan", person.pose.bones["LKnee"], "rotation_euler", (float("nan"), 0, 0))
attempt_with("behind", person, "location", (0, -9, 0))
attempt_with("outside", person, "location", (6, 0, 0))
scene.render.use_border = True
scene.render.border_min_x = scene.render.border_max_x = 0.5
attempt("empty_border")
scene.render.use_border = False
scene.render.border_min_x, scene.render.border_max_x = 0.0, 1.0
genuine_python = os.environ.pop(session.PYTHON_VARIABLE)
attempt("no_python")
os.environ[session.PYTHON_VARIABLE] = "/nowhere/python"
attempt("wrong_python")
os.environ[session.PYTHON_VARIABLE] = sys.executable  # holds bpy and numpy, but no torch
attempt("no_torch")
os.environ[session.PYTHON_VARIABLE] = genuine_python
attempt("good_again")
log = session.log_path()
harness.tell(outcomes=outcomes, log=log.read_text())
