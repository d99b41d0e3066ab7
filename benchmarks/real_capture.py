#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""From films to an avatar, on a real person: trained on three cameras, judged by the fourth; and on one camera alone.

    python benchmarks/real_capture.py CAPTURE [--work FOLDER] [--minutes 10]

CAPTURE is a folder with videos/*.mp4 and Calib.toml, as Pose2Sim's demo has. Everything goes through the command line,
as a user goes; what is finished in --work is not done again. Writes results/real_capture.json, real_capture.md and
real_capture.jpg: truth and render by turns, of a camera that training never saw.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
HELDOUT = "cam03"
TRAINED = ("cam01", "cam02", "cam04")
FIGURES = {"psnr_box": "PSNR box", "ssim_box": "SSIM box", "ms_ssim_box": "MS-SSIM box", "mask_iou": "mask IoU"}


def command(log: Path, *words: object) -> None:
    """`neural-avatar WORDS`, what it says into a file."""
    with log.open("w") as file:
        subprocess.run([sys.executable, str(ROOT), *map(str, words)], check=True, stdout=file, stderr=file)


def evaluated(work: Path, name: str, dataset: Path, split: str, cameras: str, every: int) -> dict[str, Any]:
    """The means of an evaluation."""
    result = work / f"{name}.{split}.json"
    if not result.exists():
        which = ("--cameras", cameras, "--split", split, "--every", every)
        command(work / f"{name}.{split}.log", "evaluate", work / f"{name}.avatar", dataset, *which, "--json", result,
                "--pictures", work / f"{name}.{split}")  # fmt: skip
    loaded: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return dict(loaded["all"])


def run(capture: Path, work: Path, minutes: float) -> dict[str, Any]:
    """Both ways from film to figures."""
    work.mkdir(parents=True, exist_ok=True)
    videos, several, one = sorted((capture / "videos").glob("*.mp4")), work / "real", work / "one"
    if not several.exists():
        known = ("--calibration", capture / "Calib.toml", "--heldout", HELDOUT)
        command(work / "real.log", "footage", *videos, *known, "-o", several)
    if not one.exists():
        command(work / "one.log", "footage", videos[0], "-o", one)
    common = ("--size", 256, "--lr", 0.002, "--seed", 0, "--threads", 1)
    for name, data, share, cameras in (("real", several, 1.0, TRAINED), ("one", one, 0.8, ("train",))):
        if not (work / f"{name}.avatar").exists():
            command(work / f"{name}.train.log", "train", data, "-o", work / f"{name}.avatar", "--cpu-minutes",
                    minutes * share, *common, "--cameras", *cameras)  # fmt: skip
    return {
        "unseen camera, seen motion": evaluated(work, "real", several, "train", HELDOUT, 5),
        "unseen camera, unseen motion": evaluated(work, "real", several, "test_near", HELDOUT, 5),
        "one camera alone, unseen motion": evaluated(work, "one", one, "test_near", "all", 1),
    }


def picture(work: Path, path: Path) -> None:
    """Truth and render, side by side, of some frames of the unseen camera, and of the one camera alone."""
    chosen = sorted((work / "real.train").glob("frame*.png"))[::2][:3]
    chosen += sorted((work / "one.test_near").glob("frame*.png"))[:1]
    cells = []
    for file in chosen:
        image = cv2.imread(str(file))
        width = image.shape[1] // 3
        pair = image[:, : 2 * width]
        rows = np.flatnonzero((pair < 250).any((1, 2)))
        pair = pair[max(rows[0] - 8, 0) : rows[-1] + 8]
        halves = [pair[:, :width], pair[:, width:]]
        columns = np.flatnonzero((pair < 250).any((0, 2)))
        inside = np.concatenate([columns[columns < width], columns[columns >= width] - width])
        left, right = max(int(inside.min()) - 8, 0), int(inside.max()) + 8
        cell = np.concatenate([half[:, left:right] for half in halves], 1)
        cells.append(cv2.resize(cell, (round(cell.shape[1] * 300 / cell.shape[0]), 300), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(path), np.concatenate(cells, 1), [cv2.IMWRITE_JPEG_QUALITY, 88])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "real_capture")
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes on three cameras; 0.8 of it on one")
    options = parser.parse_args()
    results = run(options.capture, options.work, options.minutes)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "real_capture.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    rows = [f"| {name} | {m['frames']} | " + " | ".join(f"{m[k]:.{2 if 'psnr' in k else 3}f}" for k in FIGURES) + " |"
            for name, m in results.items()]  # fmt: skip
    head = f"| | pictures | {' | '.join(FIGURES.values())} |\n|---|---|{'---|' * len(FIGURES)}\n"
    text = (
        "# A real person, from films to figures\n\nFour films of 100 frames (Pose2Sim's demo, BSD-3-Clause) through "
        f"`neural-avatar footage`, trained on {', '.join(TRAINED)} for {options.minutes:g} minutes of one CPU thread, "
        f"judged by {HELDOUT}, which it has not seen; and one film alone, {0.8 * options.minutes:g} minutes. "
        "The truth is the film within the mask that was found.\n\n"
        + head
        + "\n".join(rows)
        + "\n\n![Film and render by turns](real_capture.jpg)\n"
    )
    (RESULTS / "real_capture.md").write_text(text, "utf-8")
    picture(options.work, RESULTS / "real_capture.jpg")
    print(text)


if __name__ == "__main__":
    main()
