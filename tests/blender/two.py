# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender, twice at the same time. Arguments: avatar, folder, own name, the other's name."""

import os
import sys
import time
from pathlib import Path
from unittest import mock

import harness

avatar, out, mine, other = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
harness.enable()
from neural_avatar.addon import session  # noqa: E402

scene = harness.new_scene()
harness.add_person(avatar)
# As if the other made the settings' folder between this one's look and its own making.
(folder := session.folder()).mkdir(parents=True, exist_ok=True)
with mock.patch.object(os.path, "exists", lambda path: str(path) != str(folder) and Path(path).exists()):
    log = session.log_path()
backend = session.session()
pid = backend.wait_until_ready()["pid"]
(out / f"{mine}.ready").touch()
end = time.monotonic() + 120
while not (out / f"{other}.ready").exists():
    assert time.monotonic() < end, "the other Blender did not come"
    time.sleep(0.02)
error = harness.render(scene, out / f"{mine}.exr")
# The other goes on, whoever ends first.
(out / f"{mine}.done").touch()
error += harness.render(scene, out / f"{mine}.exr")
harness.tell(pid=pid, log=str(log), error=error)
