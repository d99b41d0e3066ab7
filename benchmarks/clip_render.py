#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How near does `neural-avatar render` come to the device's own speed?

    python benchmarks/clip_render.py PERSON.avatar [--size 512] [--frames 24] [--device cpu] [--batch N]

The person at rest turns before the camera. Prints, for the drawing alone (network and textures, nothing encoded or
written) and for the whole command as a process of its own, frames per second and their ratio; the command's rate is
that between its first frame and its last, without the seconds in which torch and the avatar are loaded, which are
printed beside it.
"""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__


def room(name: str) -> Any:
    """A module of the package."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def make_clip(avatar: Path, path: Path, frames: int, size: int) -> None:
    """The person fills the height of the picture, seen from all sides."""
    header = room("neural_backend.interface.avatar_header").read_header(avatar)
    joints, known = np.asarray(header.rest_joints), np.asarray(header.rest_confidence) > 0
    low, high = joints[known].min(0), joints[known].max(0)
    middle, distance = (low + high) / 2, 1.35 * float(high[2] - low[2])
    rotations = []
    for angle in np.linspace(0, 2 * np.pi, frames, endpoint=False):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        rotations.append(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ turn)
    np.savez(
        path, joints=np.repeat(joints[None], frames, 0).astype(np.float32),
        confidence=np.repeat(known[None], frames, 0).astype(np.float32), names=np.array(header.joint_names),
        K=np.array([[1.1 * size, 0, size / 2], [0, 1.1 * size, size / 2], [0, 0, 1]]), R=np.array(rotations),
        t=np.array([[0, 0, distance] - r @ middle for r in rotations]), width=size, height=size,
    )  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip_path = Path(folder) / "clip.npz"
        make_clip(options.avatar, clip_path, options.frames, options.size)
        clip = room("neural_backend.clip").read_clip(clip_path)
        drawer = room("neural_backend.clip_drawing").ClipDrawer(
            str(options.avatar), clip, options.device, (), options.batch
        )
        indices = list(range(len(clip)))
        list(drawer.draw(indices[: drawer.batch]))  # the first is slower: memory is taken
        started = time.perf_counter()
        for _ in drawer.draw(indices):
            pass
        raw = len(clip) / (time.perf_counter() - started)
        print(f"{options.size} x {options.size} pixels, {len(clip)} frames, {drawer.device_name}, batch {drawer.batch}")
        print(f"{'':<24}{'frames/s':>10}{'ratio':>8}{'start, s':>10}")
        print(f"{'drawing alone':<24}{raw:>10.2f}{1:>8.2f}")
        for name, target, more in (
            ("PNG", "png", ["--format", "png"]),
            ("EXR, three passes", "exr", ["--format", "exr"]),
            ("MP4, drawn and encoded", "shot.mp4", []),
        ):
            command = [sys.executable, ROOT / "__main__.py", "render", options.avatar, clip_path, "-o"]
            command += [Path(folder) / target, "--device", options.device, *more]
            command += ["--batch", options.batch] if options.batch else []
            started = time.perf_counter()
            done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
            whole = time.perf_counter() - started
            rates = [float(r) for r in re.findall(r"([\d.]+) per second, 0 s left", done.stderr)]
            seconds = sum(len(clip) / rate for rate in rates)
            rate = len(clip) / seconds
            print(f"{name:<24}{rate:>10.2f}{rate / raw:>8.2f}{whole - seconds:>10.1f}", flush=True)


if __name__ == "__main__":
    main()
