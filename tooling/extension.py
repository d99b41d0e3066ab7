# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of the checkout, and the extension's zip, built by Blender's own builder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .environments import ROOT, SetupError

#: Folders of the project, for where no git tells what belongs to it.
FOLDERS = ("addon", "assets", "benchmarks", "demo", "docs", "neural_backend", "tests", "tooling", "training")
_ROOT_KINDS = {".py", ".md", ".toml"}


def source_files(tracked_only: bool) -> list[Path]:
    """Files of the project relative to its root: those git tracks, and with tracked_only=False the new ones as well.

    Without git (a downloaded archive, unpacked by itself or within another repository) all files in the project's own
    folders, and of its own kinds at the root: whoever trains there has films and avatars beside them.
    """
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached"]
    if not tracked_only:
        command += ["--others", "--exclude-standard"]
    try:
        own = (ROOT / ".git").exists()
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode() if own else ""
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    names = [Path(name) for name in listed.split("\0") if name] or _unpacked()
    return sorted({name for name in names if (ROOT / name).is_file()})


def _unpacked() -> list[Path]:
    found = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if "__pycache__" not in p.parts]
    found += [p for p in ROOT.iterdir() if p.suffix in _ROOT_KINDS or p.name == "LICENSE"]
    return [p.relative_to(ROOT) for p in found if p.name[0] != "."]


def export(folder: Path, tracked_only: bool = True) -> Path:
    """Copy the project's files into `folder`, which must not exist or be empty; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    for name in source_files(tracked_only):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


def build_zip(bpy_python: Path, folder: Path) -> Path:
    """Build and validate the extension's zip from tracked files into `folder`; returns its path.

    bpy_python: the interpreter of an environment that holds bpy, whose builder is used. Raises SetupError with the
    builder's own words.
    """
    source, made = folder / "source", folder / "zip"
    for old in (source, made):
        shutil.rmtree(old, ignore_errors=True)
    made.mkdir(parents=True)
    export(source)
    builder = _builder(bpy_python)
    _blender_ext(bpy_python, builder, "build", "--source-dir", str(source), "--output-dir", str(made))
    (archive,) = made.glob("*.zip")
    _blender_ext(bpy_python, builder, "validate", str(archive))
    finished = folder / archive.name
    os.replace(archive, finished)
    shutil.rmtree(source)
    made.rmdir()
    return finished


def _builder(bpy_python: Path) -> Path:
    code = "import importlib.util as u; print(u.find_spec('bpy').submodule_search_locations[0])"
    answer = subprocess.run([str(bpy_python), "-I", "-c", code], capture_output=True, text=True, check=True)
    found = sorted(Path(answer.stdout.strip()).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if not found:
        raise SetupError(f"The Blender in {bpy_python.parent.parent} brings no extension builder; use 4.2 or newer.")
    return found[0]


def _blender_ext(bpy_python: Path, builder: Path, *arguments: str) -> None:
    answer = subprocess.run([str(bpy_python), "-I", str(builder), *arguments], capture_output=True, text=True)
    if answer.returncode:
        raise SetupError(f"Blender's extension builder refused to {arguments[0]}:\n{answer.stdout}{answer.stderr}")
