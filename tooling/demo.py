# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 dev.py demo`: from the checkout to a film, the way a user would go. Times each stage."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from .environments import BLENDERS, ROOT, SetupError, environment
from .extension import build_zip

DEMO = ROOT / "demo"


def make_demo(out: Path, frames: int, size: int, blender: str, bvh: Path | None, avatar: Path | None) -> int:
    """Make the demo in `out`; returns the exit code. Raises SetupError for options that cannot work."""
    if blender not in BLENDERS:
        raise SetupError(f"There is no Blender {blender} here: choose {', '.join(BLENDERS)}.")
    if frames < 1 or size < 32:
        raise SetupError("The demo needs at least 1 frame and 32 pixels.")
    for file in (bvh, avatar):
        if file is not None and not file.is_file():
            raise SetupError(f"There is no file '{file}'.")
    seconds: dict[str, float] = {}
    backend, bpy_python = environment("backend"), environment(f"bpy-{blender}")
    begun = started = time.monotonic()
    clear(out)
    with tempfile.TemporaryDirectory(prefix="neural-avatar-demo-") as folder:
        archive = build_zip(bpy_python, Path(folder) / "build")
        seconds["build the extension"] = time.monotonic() - started
        result = _render(Path(folder), archive, out, frames, size, bpy_python, backend, bvh, avatar)
    if result is None:
        return 1
    seconds.update(result["seconds"])
    started = time.monotonic()
    film = [str(backend), str(DEMO / "film.py"), str(out), str(result["rate"])]
    if code := subprocess.call(film):
        return code
    seconds["film and contact sheet"] = time.monotonic() - started

    count = result["frames"]
    print(f"\nMade in {out}:")
    print(f"  frames/frame_*.png    {count} pictures, {size}x{size}, {result['rate']} a second")
    print("  passes/avatar_*.exr   the avatar's passes of each frame, multilayer")
    print("  demo.mp4, contact_sheet.png")
    print("Seconds:")
    for name, value in seconds.items():
        each = f"  ({value / count:.2f} a frame)" if name == "render the frames" else ""
        print(f"  {name:24} {value:6.1f}{each}")
    print(f"  {'all':24} {time.monotonic() - begun:6.1f}")
    return 0


def clear(out: Path) -> None:
    """Remove the files that an earlier run made, by their names, and nothing else: `out` may hold the user's own."""
    out.mkdir(parents=True, exist_ok=True)
    for made in ("frames/frame_[0-9]*.png", "passes/avatar_[0-9]*.exr"):
        for file in out.glob(made):
            file.unlink()
    for name in ("demo.mp4", "contact_sheet.png", "blender.log", "neural_avatar.log"):
        (out / name).unlink(missing_ok=True)


def _render(
    folder: Path, archive: Path, out: Path, frames: int, size: int, bpy_python: Path, backend: Path, bvh: Path | None,
    avatar: Path | None,
) -> dict[str, Any] | None:  # fmt: skip
    """Run Blender with a configuration of its own; None when it has failed, and has said why."""
    report = folder / "result.json"
    options = {
        "zip": str(archive), "out": str(out.resolve()), "frames": frames, "size": size, "result": str(report),
        "bvh": str(bvh.resolve()) if bvh else "", "avatar": str(avatar.resolve()) if avatar else "",
    }  # fmt: skip
    variables = {
        **os.environ,
        "BLENDER_USER_RESOURCES": str(folder / "blender"),
        "NEURAL_AVATAR_PYTHON": str(backend),
    }
    code = subprocess.call([str(bpy_python), "-I", str(DEMO / "render.py"), json.dumps(options)], env=variables)
    if code or not report.is_file():
        print(f"Blender ended with code {code}; its log is {out / 'blender.log'}")
        return None
    result: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return result
