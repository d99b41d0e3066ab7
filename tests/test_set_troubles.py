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
    # Neither the picture nor what File Output nodes wrote is left of the frames that failed, and all else is.
    film = {path.name for path in tmp_path.glob("film_*.png")}
    assert film == {"film_0001.png", "film_0004.png"}
    single, layers, grouped = (told["files"][name] for name in ("single [1]", "layers", "grouped"))
    own = {"plain_0001.png", "plain_0004.png", "at_01_of.png", "at_04_of.png"}
    assert set(single) == own | set(told["others"])
    assert layers == ["all_0001.exr", "all_0004.exr"] and grouped == ["deep_x0001.png", "deep_x0004.png"]
    # A movie has them all the same, which is said.
    said = told["movie"]["panel"].replace("\n", " ")
    assert "Frames 2–3: In the movie all the same, without its people" in said and "joints that are nowhere" in said
    assert len(told["movie"]["printed"]) == 2


def test_device_is_that_of_the_scene_that_is_rendered(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "devices.py", avatar, tmp_path, resources=tmp_path / "config")
    for name in ("alone", "set's"):
        assert "cuda:99" in told[name], (name, told[name])
    for name in ("another's", "another", "not open", "avatars'"):
        assert told[name] == "", name
    assert told["view"] == ["cpu", "cpu"]


def test_whom_no_camera_sees_is_not_drawn_and_holdouts_are_refused(
    bpy_python: Path, tmp_path: Path, avatar: Path
) -> None:
    told = run(bpy_python, "unseen.py", avatar, tmp_path, resources=tmp_path / "config")
    both, one = [True, True, ""], [False, True, ""]
    for where in ("alone", "set"):
        seen = told[where]
        assert seen["both"] == both, where
        for name in ("camera off", "indirect"):
            *shown, baked = seen[name]
            assert shown == one and "hidden from renders" in baked, (where, name, shown, baked)
        for name in ("holdout", "collection"):
            left, right, error = seen[name]
            assert left is right is None and "'Odd' is a holdout" in error, (where, name, error)
        assert seen["hidden holdout"] == seen["animated"] == one, where
    assert told["instanced"] == both and told["instance off"] == one
    assert told["layers"] == both
