#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the whole way close? A dataset's joints and cameras built in Blender and rendered by F12, scored as `evaluate`
scores.

    python benchmarks/whole_way.py AVATAR DATASET --blender PYTHON [--frames 6] [--json FILE]

PYTHON is one that has bpy. Prints PSNR in the person's box of Blender's saved pictures beside that of `evaluate` on
the same frames: the scene as it is, scaled by 0.01 and by 10; and how far an orthographic camera's picture is from
that of the same camera far away with a long lens.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__
FACTORS = (1.0, 0.01, 10.0)


def render(blender: str, avatar: Path, dataset: Path, out: Path, jobs: list[dict[str, Any]]) -> None:
    """Render the jobs in one Blender; see tests/blender/whole_way.py."""
    script = ROOT / "tests" / "blender" / "whole_way.py"
    environment = {**os.environ, "NEURAL_AVATAR_PYTHON": sys.executable, "BLENDER_USER_RESOURCES": str(out / "config")}
    command = [blender, "-B", str(script), str(avatar.resolve()), str(dataset.resolve()), str(out), json.dumps(jobs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Blender ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def picture(path: Path) -> np.ndarray:
    """(H, W, 4) float32 in 0..1."""
    return np.asarray(Image.open(path).convert("RGBA"), np.float32) / 255


def measure(blender: str, avatar_path: Path, dataset_path: Path, frames: int) -> dict[str, Any]:
    """PSNR in the box of each way, and of the orthographic picture against the far one."""

    def room(name: str) -> Any:
        return importlib.import_module(f"{PACKAGE}.{name}")

    metrics, evaluation = room("training.metrics"), room("training.evaluate")
    dataset = room("training.dataset").read_dataset(dataset_path)
    avatar = room("neural_backend.avatar_file").load_avatar(avatar_path)
    views = dataset.views(("test_far",), ("heldout",))
    views = [views[int(i)] for i in np.linspace(0, len(views) - 1, frames)]
    jobs = [
        {"name": f"{kind}_{factor:g}_{i}", "row": v.row, "camera": dataset.camera_names[v.camera],
         "factor": factor, "kind": kind}
        for factor in FACTORS
        for kind in (("perspective", "orthographic", "far") if factor == 1 else ("perspective",))
        for i, v in enumerate(views)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        render(blender, avatar_path, dataset_path, Path(folder), jobs)
        shown = {job["name"]: picture(Path(folder) / f"{job['name']}.png") for job in jobs}
    truth = [dataset.picture(v).full() for v in views]

    def score(images: list[np.ndarray]) -> float:
        pairs = zip(images, truth, strict=True)
        return float(np.mean([metrics.frame_metrics(image, t).psnr_box for image, t in pairs]))

    result: dict[str, Any] = {
        "frames": len(views),
        "evaluate": score([evaluation.render_view(avatar, dataset, v) for v in views]),
    }
    for factor in FACTORS:
        result[f"Blender, scene x {factor:g}"] = score(
            [shown[f"perspective_{factor:g}_{i}"] for i in range(len(views))]
        )
    pairs = [(shown[f"orthographic_1_{i}"], shown[f"far_1_{i}"]) for i in range(len(views))]
    result["orthographic against far"] = float(np.mean([metrics.frame_metrics(a, b).psnr_box for a, b in pairs]))
    return result


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--blender", required=True, metavar="PYTHON", help="a Python that has bpy")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.blender, options.avatar, options.dataset, options.frames)
    print(f"PSNR in the box over {result['frames']} frames (dB)")
    for name, value in result.items():
        if name != "frames":
            print(f"  {name:28} {value:6.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
