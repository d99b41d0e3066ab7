# SPDX-License-Identifier: GPL-3.0-or-later
"""A set whose people cannot be drawn in some frames, in real Blenders: the animator is told, and no picture lies."""

from __future__ import annotations

from pathlib import Path

from support.blender_scripts import run


def test_what_fails_in_a_set_is_told(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "set_troubles.py", avatar, tmp_path, resources=tmp_path / "config")
    assert told["before"] is None
    failed = told["failed"]
    # Blender itself knows of no failure.
    assert failed["outcome"] == ["FINISHED"]
    said = failed["panel"].replace("\n", " ")
    assert said.startswith("Frames 2–3: Armature '") and "has joints that are nowhere" in said and "left knee" in said
    (printed,) = failed["printed"]
    assert printed.startswith("Neural Avatar: scene 'Scene': Frames 2–3: Armature '")
    assert told["well"]["panel"] is None and told["well"]["printed"] == []
    outside = told["outside"]
    assert "Frame 4: No part of '" in outside["panel"] and "at frame" not in outside["panel"].replace("\n", " ")
    assert outside["printed"] == []
