# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings survive what people do to files; panels draw and help; two Blenders do not disturb one another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


SCRIPTS = Path(__file__).parent / "blender"
AVATAR = next((Path(__file__).resolve().parent.parent / "assets").glob("*.avatar"))


def start(python: Path, script: str, *arguments: object, resources: Path, **variables: str) -> subprocess.Popen[str]:
    """A script in a Blender with a configuration of its own."""
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(resources), "NEURAL_AVATAR_PYTHON": sys.executable,
        "NEURAL_AVATAR_DEVICE": "cpu", **variables,
    }  # fmt: skip
    return subprocess.Popen(
        [python, "-B", SCRIPTS / script, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a script told; its exit must be clean."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, f"exit code {process.returncode}\n{out[-4000:]}\n{err[-4000:]}"
    told: dict[str, Any] = {}
    for line in out.splitlines():
        if line.startswith("@"):
            told.update(json.loads(line[1:]))
    return told


def test_settings_survive(bpy_python: Path, tmp_path: Path) -> None:
    told = finish(start(bpy_python, "settings.py", AVATAR, tmp_path, resources=tmp_path / "config"))
    for name in ("undo", "redo", "duplicate", "apart", "load", "carried"):
        assert told[name] is True, name
    assert told["scene copy"] == [True]
    assert told["after copy"] == "//person.avatar"
    for name in ("moved", "copy.blend", "moved.blend"):
        path, found = told[name]
        assert found and path == "//../../library/person.avatar", name
    for name in ("append", "append, loaded", "link"):
        assert told[name] == [True, True], name
    assert told["append by script"] == [True]
    ((text, fix),) = told["linked trouble"]
    assert "linked from" in text and text.endswith(".") and fix == "neural_avatar.make_override"
    assert told["linked detect"] is False
    assert told["override"] == [True, True, True] and told["override trouble"] == []
    assert told["override, loaded"] == ["RKnee", 0.5, True, told["rows"]]
    assert told["override, detected"] == ["LKnee", "TAIL", told["rows"]]
