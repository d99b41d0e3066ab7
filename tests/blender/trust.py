# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: which Python renders a file that names one, and none that others have planted. Arguments: the
Python, folder."""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import bpy
import harness

named, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import batch, session  # noqa: E402
from neural_avatar.neural_backend.interface.messages import BackendError  # noqa: E402

scene = harness.new_scene()
scene.neural_avatar_batch.python = named
files = [str(out / "one.blend"), str(out / "other.blend")]
for path in files:
    bpy.ops.wm.save_as_mainfile(filepath=path)
scene.neural_avatar_batch.python = ""


def chosen(path: str, *arguments: str, auto_run: bool = False, trusted: bool = True) -> str:
    """What would render a file that is opened so, or the sentence of the refusal."""
    sys.argv[1:] = arguments
    bpy.context.preferences.filepaths.use_scripts_auto_execute = auto_run
    bpy.ops.wm.open_mainfile(filepath=path, use_scripts=trusted)
    return asked()


def asked() -> str:
    try:
        return session.python()
    except BackendError as error:
        return error.message


# Anybody may write into the folder of temporary files.
planted = Path(tempfile.gettempdir()) / "neural_avatar" / "backend"
(planted / "env1" / "bin").mkdir(parents=True)
(planted / "env1" / "bin" / "python").write_text("#!/bin/sh\n")
facts = {"folder": "env1", "python": "3.11", "wheels": "CPU", "torch": "2.11"}
(planted / "environment.json").write_text(json.dumps(facts))
harness.tell(planted=asked(), folder=os.fspath(session.folder()))

harness.tell(
    neither=chosen(files[0], files[0]),
    yes=chosen(files[0], "-y"),
    no=chosen(files[0], "-y", files[0], "-Y", auto_run=True),
    auto_run=chosen(files[0], files[0], auto_run=True),
    untrusted=chosen(files[0], "-P", "script.py", "--", files[0], auto_run=True, trusted=False),
    behind=chosen(files[0], "-Y", "--", "-y"),
)
# A file with a program of its own that Blender refused is not trusted, whatever the command line says.
bpy.data.texts.new("startup.py").use_module = True
bpy.ops.wm.save_as_mainfile(filepath=files[0])
harness.tell(refused=chosen(files[0], "-y", trusted=False), accepted=chosen(files[0], "-y"))

# A window asks, once for each file and Python, whatever the preferences say.
real, batch.bpy = bpy, SimpleNamespace(app=SimpleNamespace(background=False), context=bpy.context, data=bpy.data)
before = chosen(files[0], "-y", files[0], auto_run=True)
assert bpy.ops.neural_avatar.allow_python() == {"FINISHED"}
harness.tell(window=before, allowed=asked(), elsewhere=chosen(files[1], "-y"), again=chosen(files[0]))
bpy.context.scene.neural_avatar_batch.python = named + "2"
harness.tell(another=asked())
batch.bpy = real
