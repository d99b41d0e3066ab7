# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults, files loaded while the add-on is at work, and starts that fail, inside Blender."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import blender_scripts

SCRIPT = Path(__file__).parent / "blender" / "faults.py"
AVATAR = next((Path(__file__).resolve().parent.parent / "assets").glob("*.avatar"))


def test_faults_are_told_and_leave_nothing_behind(bpy_python: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(tmp_path), "NEURAL_AVATAR_PYTHON": sys.executable,
        "NEURAL_AVATAR_DEVICE": "cpu",
    }  # fmt: skip
    done = subprocess.run(
        [bpy_python, "-B", SCRIPT, AVATAR], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    told: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            told.update(json.loads(line[1:]))
    # Told in a sentence, looked for once, explained in the log.
    assert told["codes"] == [["internal", True]] * 3 and told["asked"] == 1 and told["logged"]
    assert told["fits"] == [True, 3]
    assert told["views"] == 0 and told["ready"], "forgetting views neither fails nor ends the renderer"
    assert told["rests"] == [0, 0], "what frames have left stays for ever"
    assert told["timers"] == [True, True] and told["job"], "a set-up under way outlives the loading of a file"
    assert told["refused"] and told["left"] == [] and not told["scene"], "a start that fails leaves nothing"
    assert told["again"] and told["gone"]


def test_a_view_shows_whom_it_is_to_show_through_its_own_camera(bpy_python: Path, tmp_path: Path) -> None:
    told = blender_scripts.run(bpy_python, "views.py", AVATAR, tmp_path, resources=tmp_path / "config")
    assert told["alone"] == [0] and told["both"] == [0, 1]
    # The eye of what makes instances hides those, and that of their source hides the source alone.
    assert told["source hidden"] == [1] and told["instance hidden"] == [0]
    cut = [True, True]
    assert told["clips"] == {
        "SOLID NEURAL_AVATAR": None, "RENDERED NEURAL_AVATAR": cut, "RENDERED CYCLES": cut, "MATERIAL CYCLES": cut,
        "RENDERED BLENDER_WORKBENCH": None,
    }  # fmt: skip
    assert told["filled"] == [1, 1], "the plate of the view's own camera is not covered"
    trouble, alpha, wishes, said = told["2"]
    assert (trouble, alpha, wishes) == ("", 0, [0, 0]) and "out of the camera's range" in said
    assert told["100"] == ["", 1, [1, 1], ""]
    assert told["ticks"] == [[True, True, 0], [False, False, 1], [True, True, 1]]


def test_somebody_broken_hides_nobody_else_in_a_view(bpy_python: Path, tmp_path: Path) -> None:
    told = blender_scripts.run(bpy_python, "broken.py", AVATAR, tmp_path, resources=tmp_path / "config")
    assert told["all"][:2] == told["mended"][:2] == [["Broken", "Well"], False]
    assert told["joints"][:2] == told["file"][:2] == [["Well"], True]
    assert "joints that are nowhere" in told["joints"][2] and "no avatar file" in told["file"][2]
    assert told["hidden"][:2] == [["Well"], False], "who is hidden is not told of"
    assert told["alone"][:2] == [None, True]
    assert "joints that are nowhere" in told["render"] and not (tmp_path / "broken.exr").exists()
