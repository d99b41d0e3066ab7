# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames out of a farm: Flamenco's tasks as separate processes, Blender in the background, and what goes wrong there.

Tests of the real program take BLENDER=/path/to/blender, or the one that `.ci/blender_window.sh` keeps; the others run
Blender as a module.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from support.clips import make_clip, names

ROOT = Path(__file__).resolve().parent.parent
FARM = ROOT / "docs" / "farm"
SCRIPTS = ROOT / "tests" / "blender"
LIMIT = 600.0


def compiled(script: str, **settings: Any) -> dict[str, Any]:
    """A job type, and the tasks that Flamenco would make of these settings."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("NO NODE.JS: Flamenco's job types are JavaScript")
    command = [node, str(ROOT / "tests" / "flamenco.js"), str(FARM / script), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    known = {"key", "type", "subtype", "required", "eval", "evalInfo", "description", "default", "choices", "propargs"}
    for setting in result["type"]["settings"]:
        assert set(setting) <= known | {"visible", "editable", "label"} and setting["description"], setting
    return result


def environment(tmp_path: Path, **changes: str) -> dict[str, str]:
    """As a worker has it: no preferences, and the variables of the farm."""
    own = {"BLENDER_USER_RESOURCES": str(tmp_path / "config"), "NEURAL_AVATAR_PYTHON": sys.executable}
    return {k: v for k, v in {**os.environ, **own, "NEURAL_AVATAR_DEVICE": "cpu", **changes}.items() if v}


def run(command: list[Any], tmp_path: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """A task, from a folder that has nothing to do with it."""
    return subprocess.run(
        [*map(str, command)], env=environment(tmp_path, **changes), cwd=ROOT.anchor, capture_output=True, text=True,
        timeout=LIMIT,
    )  # fmt: skip


def succeed(command: list[Any], tmp_path: Path, **changes: str) -> str:
    done = run(command, tmp_path, **changes)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def pixels(path: Path) -> dict[str, bytes]:
    return {k: v.pixels.tobytes() for k, v in OpenEXR.File(str(path), separate_channels=True).channels().items()}


def same_frames(folder: Path, other: Path, count: int) -> None:
    """Byte for byte the same channels."""
    assert names(folder) == names(other) and len(names(folder)) == count
    for name in names(folder):
        one, two = pixels(folder / name), pixels(other / name)
        assert len(one) >= 6 and one == two, name


def blender_command(command: dict[str, Any], program: list[Any]) -> list[Any]:
    """The command line that Flamenco's worker makes of `blender-render`."""
    assert command["name"] == "blender-render"
    p = command["parameters"]
    assert p["exe"] == "{blender}" and p["exeArgs"] == "{blenderArgs}"
    return [*program, "-b", "-y", *p["argsBefore"], p["blendfile"], *p["args"]]


def make_files(python: Path, avatar: Path, folder: Path, file_python: str = "") -> Path:
    """shot.blend, fails.blend, set.blend."""
    folder.mkdir()
    succeed([python, "-B", SCRIPTS / "farm_scene.py", avatar, folder, file_python], folder.parent)
    return folder


def test_a_clip_in_chunks_is_the_clip_in_one_run(avatar: Path, root: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.npz"), tmp_path / "chunks"
    person = next((root / "assets").glob("*.avatar"))
    job = compiled(
        "neural_avatar_clip.js", avatar=str(person), clip=str(clip), frames="1-3,5-6", chunk_size=2, output=str(out)
    )
    program = [sys.executable, ROOT / "__main__.py"]
    assert [task["name"] for task in job["tasks"]] == ["render-1-2", "render-3,5", "render-6"]
    threads = {"OMP_NUM_THREADS": "2"}  # as a farm's are; with one, little could differ
    for task in reversed(job["tasks"]):
        for command in task["commands"]:
            assert command["name"] == "exec" and command["parameters"]["exe"] == "{neuralAvatar}"
            succeed([*program, *command["parameters"]["args"]], tmp_path, **threads)
    whole = tmp_path / "whole"
    succeed([*program, "render", person, clip, "-o", whole, "--format", "exr"], tmp_path, **threads)
    (whole / "00004.exr").unlink()
    same_frames(out, whole, 5)


def test_blender_in_chunks_and_two_at_once_is_one_run(bpy_python: Path, root: Path, tmp_path: Path) -> None:
    files = make_files(bpy_python, next((root / "assets").glob("*.avatar")), tmp_path / "job")
    program = [bpy_python, "-B", SCRIPTS / "farm_node.py"]
    out, shot = tmp_path / "chunks", files / "shot.blend"
    job = compiled(
        "neural_avatar_render.js", frames="1-6", chunk_size=2, output_path=f"{out}/", blendfile=str(shot), device="cpu"
    )
    assert len(job["tasks"]) == 3
    commands = [blender_command(task["commands"][0], program) for task in job["tasks"]]
    # The first two at the same time, with the same folder of settings; the last alone.
    processes = [
        subprocess.Popen(
            [*map(str, command)], env=environment(tmp_path), cwd=ROOT.anchor, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )
        for command in commands[:2]
    ]  # fmt: skip
    for process in processes:
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said[-4000:]
    succeed(commands[2], tmp_path)
    succeed([*program, "-b", shot, "--render-frame", "1..6"], tmp_path)
    same_frames(out, files / "renders", 6)
    first, last = (pixels(out / name) for name in ("0001.exr", "0006.exr"))
    assert first["ViewLayer.Combined.A"] != last["ViewLayer.Combined.A"]


def test_a_failed_frame_of_a_compositor_leaves_no_picture(bpy_python: Path, avatar: Path, tmp_path: Path) -> None:
    files = make_files(bpy_python, avatar, tmp_path / "job")
    program = [bpy_python, "-B", SCRIPTS / "farm_node.py", "-b"]
    done = run([*program, files / "set.blend", "--render-frame", "2..4"], tmp_path)
    assert "frame 3 has failed" in done.stderr and "joints that are nowhere" in done.stdout + done.stderr
    assert names(files / "set") == ["0002.png", "0004.png"]
    assert run([*program, files / "fails.blend", "--render-frame", "3"], tmp_path).returncode == 1
    assert not (files / "renders").exists()


def test_a_python_in_a_file_is_a_matter_of_trust(bpy_python: Path, tmp_path: Path) -> None:
    script = [bpy_python, "-B", SCRIPTS / "trust.py", sys.executable, tmp_path]
    (tmp_path / "temporary").mkdir()
    said = succeed(script, tmp_path, NEURAL_AVATAR_PYTHON="", TMPDIR=str(tmp_path / "temporary"))
    told: dict[str, str] = {}
    for line in said.splitlines():
        if line.startswith("@"):
            told.update(json.loads(line[1:]))
    assert told["planted"].startswith("No Python for the renderer is chosen")
    folder = Path(told.pop("folder"))
    assert folder.is_relative_to(tmp_path / "config") and folder.is_dir()
    used = {name for name, python in told.items() if python == sys.executable}
    assert used == {"yes", "auto_run", "accepted", "allowed", "again"}, told
    for name in ("neither", "no", "untrusted", "behind", "refused"):
        assert told[name].endswith("Auto Run Python Scripts, or blender -y."), (name, told[name])
    for name in ("window", "elsewhere", "another"):
        assert "allow it in the render properties, Neural Avatar › Batch" in told[name], (name, told[name])


def provisioned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that is the Blender which `.ci/blender_window.sh` keeps; skips where there can be none."""
    script = ROOT / ".ci" / "blender_window.sh"
    if sys.platform != "linux":
        pytest.skip("NO BLENDER: set BLENDER to the program's path")
    ready = subprocess.run([script, "--prepare"], capture_output=True, text=True, timeout=1800)
    if ready.returncode == 77:
        pytest.skip(f"{ready.stderr.strip().splitlines()[-1]}; or set BLENDER to the program's path")
    assert ready.returncode == 0, ready.stderr
    seen = [ROOT, sys.prefix, Path(sys.executable).resolve().parent.parent, tmp_path_factory.getbasetemp()]
    program = tmp_path_factory.mktemp("program") / "blender"
    words = " ".join(shlex.quote(str(word)) for word in (script, "--background", *seen, "--"))
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def blender(any_bpy_python: Path, extension_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The real program, and a folder in which its configuration has the extension."""
    program = os.environ.get("BLENDER") or provisioned(tmp_path_factory)
    folder = tmp_path_factory.mktemp("installed")
    succeed([program, "--command", "extension", "install-file", "-r", "user_default", "-e", extension_zip], folder)
    return program, folder


@pytest.fixture(scope="module")
def files(any_bpy_python: Path, avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(any_bpy_python, avatar, tmp_path_factory.mktemp("files") / "job", sys.executable)


def fresh(files: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(files, tmp_path / "job"))


def test_the_program_renders_ranges_steps_and_single_frames(
    blender: tuple[str, Path], files: Path, tmp_path: Path
) -> None:
    program, installed = blender
    job = fresh(files, tmp_path)
    shot, renders = job / "shot.blend", job / "renders"
    succeed([program, "-b", shot, "-s", 2, "-e", 6, "-j", 2, "-a"], installed)
    assert names(renders) == ["0002.exr", "0004.exr", "0006.exr"]
    succeed([program, "-b", shot, "-f", 3], installed)
    whole = job / "whole"
    succeed([program, "-b", shot, "-o", f"{whole}/", "-a"], installed)
    for name in names(renders):
        assert pixels(renders / name) == pixels(whole / name), name
    assert len(names(whole)) == 6


def test_the_program_keeps_frames_that_are_there(blender: tuple[str, Path], files: Path, tmp_path: Path) -> None:
    program, installed = blender
    job = fresh(files, tmp_path)
    code = "import bpy; r = bpy.context.scene.render; r.use_overwrite, r.use_placeholder = False, True"
    succeed([program, "-b", job / "shot.blend", "-f", 2], installed)
    picture = job / "renders" / "0002.exr"
    before = picture.stat().st_mtime_ns
    (job / "renders" / "0003.exr").touch()  # another node's placeholder
    said = succeed([program, "-b", job / "shot.blend", "--python-expr", code, "-s", 1, "-e", 4, "-a"], installed)
    assert picture.stat().st_mtime_ns == before and (job / "renders" / "0003.exr").stat().st_size == 0
    assert "0001.exr" in said and "0004.exr" in said
    assert len(names(job / "renders")) == 4
    # A frame that fails leaves no placeholder behind.
    shutil.rmtree(job / "renders")
    done = run([program, "-b", job / "fails.blend", "--python-expr", code, "-s", 2, "-e", 4, "-a"], installed)
    assert done.returncode == 1 and names(job / "renders") == ["0002.exr"]


@pytest.mark.parametrize("name", ["fails", "set"])
def test_the_program_ends_with_an_error_and_no_picture(
    blender: tuple[str, Path], files: Path, tmp_path: Path, name: str
) -> None:
    program, installed = blender
    job = fresh(files, tmp_path)
    out = job / ("set" if name == "set" else "renders")
    suffix = "png" if name == "set" else "exr"
    done = run([program, "-b", job / f"{name}.blend", "-s", 2, "-e", 4, "-a"], installed)
    assert done.returncode == 1 and "joints that are nowhere" in done.stdout + done.stderr
    assert names(out) == [f"0002.{suffix}"]
    done = run([program, "-b", job / f"{name}.blend", "-o", f"{out}/", "-f", 3], installed)
    assert done.returncode == 1 and names(out) == [f"0002.{suffix}"]
    succeed([program, "-b", job / f"{name}.blend", "-f", 4], installed)
    if name == "set":
        with Image.open(out / "0004.png") as picture:
            assert np.asarray(picture)[..., :3].max() > 100, "the person is in the set"


def test_a_python_in_a_file_runs_only_where_scripts_may(blender: tuple[str, Path], files: Path, tmp_path: Path) -> None:
    program, installed = blender
    job = fresh(files, tmp_path)
    nothing = {"NEURAL_AVATAR_PYTHON": "", "NEURAL_AVATAR_DEVICE": ""}
    done = run([program, "-b", job / "shot.blend", "-f", 1], installed, **nothing)
    assert done.returncode == 1 and "Auto Run Python Scripts" in done.stdout + done.stderr
    assert not (job / "renders").exists()
    succeed([program, "-b", "-y", job / "shot.blend", "-f", 1], installed, **nothing)
    done = run([program, "-b", "-y", job / "shot.blend", "-f", 1], installed, NEURAL_AVATAR_PYTHON="/no/python")
    assert done.returncode == 1 and "/no/python" in done.stdout + done.stderr, "the environment goes first"


def test_the_job_notices_a_worker_without_the_extension(blender: tuple[str, Path], files: Path, tmp_path: Path) -> None:
    program, installed = blender
    job = fresh(files, tmp_path)
    made = compiled(
        "neural_avatar_render.js", frames="1-2", chunk_size=2, output_path=f"{job}/out/", scene="Scene",
        blendfile=str(job / "shot.blend"),
    )  # fmt: skip
    command = blender_command(made["tasks"][0]["commands"][0], [program])
    assert run(command, tmp_path / "bare").returncode == 9
    assert not (job / "out").exists()
    succeed(command, installed)
    assert names(job / "out") == ["0001.exr", "0002.exr"]
