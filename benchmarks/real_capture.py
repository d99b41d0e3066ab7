#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""From films to an avatar, on a real person: trained on three cameras, judged by the fourth; and on one camera alone.

    python benchmarks/real_capture.py CAPTURE [--work FOLDER] [--minutes 10]

CAPTURE is a folder with videos/*.mp4 and Calib.toml, as Pose2Sim's demo has. Everything goes through the command line,
as a user goes; what is finished in --work is not done again. Writes results/real_capture.json, real_capture.md and
real_capture.jpg: truth and render by turns, of a camera whose pictures training never saw.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from run_tables import FIGURES, cell, markdown, meanings, measured, steps_column
from training_runs import ROOT, Run, Runner, Test, add_options

HELDOUT = "cam03"
TRAINED = ("cam01", "cam02", "cam04")
#: Rows of the table: the run, its test, and what that is of.
ROWS = {
    "unseen camera, seen motion": ("three", ""),
    "the same, the network not held to its surface there (--weight-sides 0)": ("loose", ""),
    "unseen camera, unseen motion": ("three", "unseen-motion"),
    "the same, not held": ("loose", "unseen-motion"),
    "one camera alone, unseen motion": ("one", ""),
}


def footage(log: Path, *words: object) -> None:
    """`neural-avatar footage WORDS`, what it says into a file."""
    with log.open("w") as file:
        subprocess.run([sys.executable, str(ROOT), "footage", *map(str, words)], check=True, stdout=file, stderr=file)


def datasets(capture: Path, work: Path) -> tuple[Path, Path]:
    """The dataset of all films, and that of the first alone."""
    videos, several, one = sorted((capture / "videos").glob("*.mp4")), work / "four_films", work / "one_film"
    if not several.exists():
        known = ("--calibration", capture / "Calib.toml", "--heldout", HELDOUT)
        footage(work / "four_films.log", *videos, *known, "-o", several)
    if not one.exists():
        footage(work / "one_film.log", videos[0], "-o", one)
    return several, one


def planned(several: Path, one: Path, minutes: float) -> dict[str, Run]:
    """All runs, by name."""
    common = ("--size", "256", "--lr", "0.002", "--seed", "0", "--image-loss", "fallback")
    heldout = {name: Test(several, ("--cameras", HELDOUT, "--split", split))  # every row, for the flicker
               for name, split in (("", "train"), ("unseen-motion", "test_near"))}  # fmt: skip
    alone = {"": Test(one, ("--cameras", "all", "--split", "test_near"))}
    three = (*common, "--cameras", *TRAINED, "--cpu-minutes", f"{minutes:g}")
    return {
        "three": Run("three", several, three, heldout),
        "loose": Run("loose", several, (*three, "--weight-sides", "0"), heldout),
        "one": Run("one", one, (*common, "--cpu-minutes", f"{minutes * 0.8:g}"), alone),
    }


def page(minutes: float, results: Mapping[str, Mapping[str, Any]], machines: list[str]) -> str:
    """The page of results."""
    groups = {title: [means] for title, means in results.items()}
    names, more = measured(groups.values()), steps_column(groups)
    head = ["", "pictures", *more, *(FIGURES[name].title for name in names)]
    rows = [
        [title, str(group[0]["frames"]), *(make(title) for make in more.values()), *(cell(group, n) for n in names)]
        for title, group in groups.items()
    ]
    return (
        "# A real person, from films to figures\n\nFour films of 100 frames (Pose2Sim's demo, BSD-3-Clause) through "
        f"`neural-avatar footage`, trained on {', '.join(TRAINED)} for {minutes:g} minutes of one CPU thread, judged "
        f"by {HELDOUT}; and one film alone, {0.8 * minutes:g} minutes. Training never saw a picture of {HELDOUT}, but "
        "the poses in space come from all four films: in a real shot they come from an armature. The truth is the film "
        "within the mask that was found, in that camera's own white balance, which nothing tells to an avatar that was "
        "trained on others. One run each. Rows of different pictures tell nothing about each other; those of unseen "
        f"motion are ten neighbouring pictures, which says little.\n\n{markdown(head, rows)}\n\n"
        f"## How to read it\n\n{meanings(groups.values(), machines)}\n\n![Film and render by turns](real_capture.jpg)\n"
    )


def picture(chosen: list[Path], path: Path) -> None:
    """Truth and render, side by side, of pictures that `evaluate` wrote."""
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
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU minutes on three cameras; 0.8 of it on one")
    add_options(parser, "real_capture")
    options = parser.parse_args()
    for folder in (options.work, options.results):
        folder.mkdir(parents=True, exist_ok=True)
    runner, runs = (
        Runner(options.work, options.jobs),
        planned(*datasets(options.capture, options.work), options.minutes),
    )
    runner.do(runs.values())
    if runner.failed:
        raise SystemExit("\n".join(f"{name}: {sentence}" for name, sentence in runner.failed.items()))
    results = {
        title: found["all"] for title, (name, test) in ROWS.items() if (found := runner.figures(runs[name], test))
    }
    text = page(options.minutes, results, runner.machines(runs.values()))
    (options.results / "real_capture.md").write_text(text, "utf-8")
    (options.results / "real_capture.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    three, one = (sorted(runner.path(runs[name], ".pictures").glob("frame*.png")) for name in ("three", "one"))
    picture([*three[::2][:3], *one[:1]], options.results / "real_capture.jpg")
    print(text)


if __name__ == "__main__":
    main()
