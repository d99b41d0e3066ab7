#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `neural-avatar footage` costs: frames a second, processor time of each stage, peak memory, disk.

    python benchmarks/footage.py VIDEO [VIDEO …] [--calibration FILE] [--repeat 1 6] [--json FILE]

The whole command runs in a process of its own. --repeat plays the films so many times over, as folders of links to
their frames, to show how memory grows with the length; the last line extrapolates it to ten minutes at 30 frames a
second.
Linux or macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2

ROOT = Path(__file__).resolve().parent.parent
TEN_MINUTES = 18000


def play(video: Path, folder: Path, times: int) -> Path:
    """A folder that shows the film so many times over."""
    frames, loop = folder / "frames" / video.stem, folder / f"x{times}" / video.stem
    if not frames.exists():
        frames.mkdir(parents=True)
        capture = cv2.VideoCapture(str(video))
        while (read := capture.read())[0]:
            cv2.imwrite(str(frames / f"{len(list(frames.iterdir())):05d}.jpg"), read[1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    pictures = sorted(frames.iterdir())
    loop.mkdir(parents=True)
    for i in range(times * len(pictures)):
        # To and fro, so that the person never jumps.
        turn, step = divmod(i, len(pictures))
        (loop / f"{i:06d}.jpg").symlink_to(pictures[step if turn % 2 == 0 else -1 - step])
    return loop


def measure(films: list[Path], output: Path, more: list[str]) -> dict[str, Any]:
    """One run of the command."""
    command = [sys.executable, str(ROOT / "__main__.py"), "footage", *map(str, films), "-o", str(output), *more]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status:
        raise SystemExit(said)
    made = json.loads((output / "footage.json").read_text("utf-8"))
    pictures = list((output / "images").rglob("*.png"))
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "pictures": len(pictures), "cameras": len(films), "wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * unit / 2**20, "stages_cpu_s": made["cpu_seconds"],
        "mb_per_100": sum(p.stat().st_size for p in pictures) / 1e6 / len(pictures) * 100,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--repeat", type=int, nargs="+", default=[1])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    more = ["--calibration", str(options.calibration)] if options.calibration else []
    results = []
    with tempfile.TemporaryDirectory() as name:
        for times in options.repeat:
            folder = Path(name)
            films = options.videos if times == 1 else [play(v.resolve(), folder, times) for v in options.videos]
            results.append(measure(films, folder / f"out{times}", more))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores\n")
    print("| pictures | wall s | frames/s | CPU ms a frame | peak MB | MB for 100 pictures | stages, CPU ms a frame |")
    print("|---|---|---|---|---|---|---|")
    for r in results:
        n = r["pictures"]
        stages = ", ".join(f"{k} {1000 * v / n:.0f}" for k, v in r["stages_cpu_s"].items() if v is not None)
        print(f"| {n} | {r['wall_s']:.1f} | {n / r['wall_s']:.1f} | {1000 * r['cpu_s'] / n:.0f} | {r['peak_mb']:.0f} | "
              f"{r['mb_per_100']:.1f} | {stages} |")  # fmt: skip
    if len(results) > 1:
        a, b = results[0], results[-1]
        slope = (b["peak_mb"] - a["peak_mb"]) / (b["pictures"] - a["pictures"])
        ten = b["peak_mb"] + slope * (TEN_MINUTES - b["pictures"])
        print(f"\nTen minutes of one camera (18000 frames), extrapolated: {ten:.0f} MB.")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
