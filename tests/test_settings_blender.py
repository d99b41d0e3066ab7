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
    assert told["followed"] == told["override, followed"] == [True, True]


def test_avatars_are_found_wherever_files_come_from(bpy_python: Path, tmp_path: Path) -> None:
    told = finish(start(bpy_python, "relocation.py", AVATAR, tmp_path, resources=tmp_path / "config"))
    ada = str(tmp_path / "library" / "ada.avatar")
    assert told["added"] == "//ada.avatar"
    assert told["windows"] == ["//../avatars/ada.avatar", r"D:\ada.avatar", r"\\server\share\ada.avatar"]
    assert told["append, another drive"] == [ada if told["appends are watched"] else "//ada.avatar", ada]
    assert told["backslashes"] == ada and told["name with backslashes"] is True
    assert told["saved"] == "//../library/ada.avatar" and told["after copy"] == r"//..\library\ada.avatar"
    assert told["bundled elsewhere"] is True and told["nowhere"] == "//nowhere.avatar"
    assert told["linked"] == [r"//..\library\ada.avatar", ada]
    assert told["override"] == "//ada.avatar"
    assert told["override of its own"] == ["//bob.avatar", "//../shots/bob.avatar"]
    assert told["override, library changed"] == ["//eve.avatar", str(tmp_path / "library" / "eve.avatar")]
    assert told["linked override"] == told["override of an override"] == ["//ada.avatar", ada]
    assert told["failed"] == ["//ada.avatar", ada]
    assert told["own armature"] == [["//../library/ada.avatar", ada]] * 2


def test_panels_say_what_is_wrong_and_help(bpy_python: Path, tmp_path: Path) -> None:
    told = finish(start(bpy_python, "panels.py", AVATAR, tmp_path, resources=tmp_path / "config", HOME=str(tmp_path)))
    assert (
        "[neural_avatar.add_person]" in told["no armature"] and "[neural_avatar.import_person]" in told["no armature"]
    )
    good = told["good"]
    assert "Licence" in good["NEURAL_AVATAR_PT_avatar"]
    assert "list of" in good["NEURAL_AVATAR_PT_joints"] and "[neural_avatar.pick_bone]" not in good
    assert "Network Resolution" in told["render"] and "[neural_avatar.open_log]" in told["render"]
    assert "[neural_avatar.detect_mapping] Detect Mapping" in good["NEURAL_AVATAR_PT_tools"]
    steps = told["steps"]
    for name in ("none", "found", "picked", "detected", "camera"):
        assert steps[name] == [], name
    expected = {
        "moved": ("There is no avatar file", "neural_avatar.add_avatar"),
        "renamed": ("Bones renamed or deleted: 'LKnee' (left knee)", "neural_avatar.detect_mapping"),
        "missing": ("No bone for: right elbow", "neural_avatar.detect_mapping"),
        "twice": ("'RWrist' gives right elbow and right wrist", ""),
        "no camera": ("has no camera", "neural_avatar.add_camera"),
        "bare": ("'Bare' has no bones", ""),
    }
    for name, (part, button) in expected.items():
        ((text, fix),) = steps[name]
        assert part in text and text.endswith(".") and fix == button, name
    assert "Relocate" in told["moved panel"].replace("\n", " ")
    assert "Detect Again" in told["renamed panel"]
    assert "Add Camera" in told["no camera panel"]
    assert told["mask"] == ""
    seen = told["rendered"]
    ours, blur, plate, batch = "Neural Avatar", "Motion Blur", "Plate and Passes", "Batch"
    for name in ("alone", "another engine", "set", "set, blurred", "avatars"):
        assert "Network Resolution" in seen[name][ours] and "Python" in seen[name][batch], name
    assert "Shutter" in seen["alone"][blur] and "Samples" in seen["alone"][blur] and seen["alone"][plate]
    for name in ("another engine", "set", "set, blurred"):  # Blender's own panel is there
        assert seen[name][blur] is None and seen[name][plate] is None, name
    assert [n for n in seen if seen[n][ours] and "Motion Blur Samples" in seen[n][ours]] == ["set, blurred"]
    joined = seen["avatars"]
    assert "settings of scene 'Scene'" in joined[ours].replace("\n", " ") and joined[blur] and joined[plate]
    assert not any(seen["nobody"][panel] for panel in (ours, blur, plate))
    assert told["other installation"] == [] and len(told["unknown"]) == 1
    assert "[neural_avatar.open_preferences]" in told["no python"]
    for button in ("setup", "setup_from_archive", "make_archive", "copy_report", "open_log"):
        assert f"[neural_avatar.{button}]" in told["preferences"]
    assert "Neural Avatar: 0." in told["report"] and "Blender: " in told["report"]
    assert str(tmp_path) not in told["report"]


def test_two_blenders_do_not_disturb_one_another(any_bpy_python: Path, tmp_path: Path) -> None:
    """Both render, in one configuration, at the same time; each has a backend and a log of its own."""
    both = [
        start(any_bpy_python, "two.py", AVATAR, tmp_path, mine, other, resources=tmp_path / "config")
        for mine, other in (("a", "b"), ("b", "a"))
    ]
    told = [finish(process) for process in both]
    assert told[0]["pid"] != told[1]["pid"] and not any(one["error"] for one in told)
    assert len({one["log"] for one in told}) == 2
    for one, other in (told, told[::-1]):
        text = Path(one["log"]).read_text("utf-8")
        assert f"started backend {one['pid']}" in text and str(other["pid"]) not in text
    first, second = ((tmp_path / f"{name}.exr").read_bytes() for name in "ab")
    assert len(first) == len(second)


def test_enabling_loads_little(bpy_python: Path, tmp_path: Path) -> None:
    """Blender's start waits for what is loaded here: no numpy (Blender 4.2 has none of its own), no client, no work."""
    told = finish(start(bpy_python, "startup.py", resources=tmp_path))
    loaded = set(told["loaded"])
    for name in ("numpy", "subprocess", "tempfile", "zipfile", "urllib.request"):
        assert name not in loaded, name
    for name in ("rig", "joints", "scene", "final", "passes", "viewport", "setup.build", "thumbnails", "plate"):
        assert f"neural_avatar.addon.{name}" not in loaded, name
    assert "neural_avatar.neural_backend.interface.client" not in loaded
    assert told["threads"] == 1
