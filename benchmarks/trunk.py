#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the skeleton cannot say of the trunk: how far its middle lies from the straight line between hips and neck.

    python benchmarks/trunk.py DATASET

BODY_25 has no joint between MidHip and Neck, so that nothing says directly how a back is arched. Here it is measured:
planes across the line are cut with the masks of all cameras (the visual hull), and the middle of the largest region
that remains is taken: the trunk, and what is pressed to it. DATASET needs calibrated cameras all around. Writes
results/trunk.md and trunk.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from run_tables import markdown
from training_runs import PACKAGE, ROOT

#: Heights of the planes, as shares of the way from the hips to the neck, and half their width in trunk lengths.
HEIGHTS, HALF = (0.4, 0.5, 0.6), 0.5
#: Side of a plane's grid.
GRID = 61


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def hull_middles(dataset: Any, row: int, frame: npt.NDArray[np.float64], origin: npt.NDArray[np.float64],
                 length: float) -> npt.NDArray[np.float64]:  # fmt: skip
    """The middle of the body in each plane, (heights, 2): metres towards the person's left and front; NaN where none.

    frame: (3, 3), rows left, front, along; origin: (3,), the hips; length: of the trunk, metres.
    """
    view = _module("training.dataset").View
    offsets = np.linspace(-HALF, HALF, GRID) * length
    left, front = np.meshgrid(offsets, offsets, indexing="ij")
    middles = np.full((len(HEIGHTS), 2), np.nan)
    for i, height in enumerate(HEIGHTS):
        points = origin + height * length * frame[2] + left[..., None] * frame[0] + front[..., None] * frame[1]
        inside = np.ones(left.shape, bool)
        for index in range(len(dataset.cameras)):
            shot = view(row, index)
            if dataset.has_picture(shot):
                pixels, _ = dataset.camera(shot).project(points.reshape(-1, 3))
                inside &= _masked(dataset.picture(shot).full()[..., 3], pixels).reshape(left.shape)
        count, labels, facts, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
        if count > 1:
            largest = 1 + int(facts[1:, cv2.CC_STAT_AREA].argmax())
            middles[i] = left[labels == largest].mean(), front[labels == largest].mean()
    return middles


def _masked(alpha: npt.NDArray[np.float32], pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether points lie in a mask; those beside the picture may."""
    column, row = np.floor(pixels).astype(int).T
    height, width = alpha.shape
    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.asarray(~seen | (alpha[row.clip(0, height - 1), column.clip(0, width - 1)] > 0.5))


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where the table goes")
    options = parser.parse_args()
    dataset = _module("training.dataset").read_dataset(options.dataset)
    body = _module("neural_backend.interface.body")
    frames = body.body_frames(dataset.joints, dataset.confidence)
    torso = body.FRAME_INDEX["torso"]
    lengths = np.linalg.norm(frames.end[:, torso] - frames.origin[:, torso], axis=-1)
    rows = np.flatnonzero(dataset.usable)
    found = {int(row): hull_middles(dataset, row, frames.axes[row, torso], frames.origin[row, torso], lengths[row])
             for row in rows}  # fmt: skip
    groups: dict[tuple[str, str], list[int]] = {}
    for row in found:
        groups.setdefault((dataset.split[row], dataset.clip[row]), []).append(row)
    results = []
    for (split, clip), own in sorted(groups.items(), key=lambda item: (item[0][0] != "train", item[0])):
        places = np.nanmean(np.stack([found[row] for row in own]), 1) * 100
        mean, spread = np.nanmean(places, 0), np.nanstd(places, 0)
        results.append({"split": split, "clip": clip, "rows": len(own), "left_cm": mean[0], "left_sd_cm": spread[0],
                        "front_cm": mean[1], "front_sd_cm": spread[1]})  # fmt: skip
    cells = [[r["split"], r["clip"], str(r["rows"]), f"{r['front_cm']:.1f} ± {r['front_sd_cm']:.1f}",
              f"{r['left_cm']:.1f} ± {r['left_sd_cm']:.1f}"] for r in results]  # fmt: skip
    table = markdown(["split", "film", "rows", "to the front (cm)", "to the left (cm)"], cells)
    text = (
        f"# The middle of the trunk on {options.dataset.resolve().name}\n\nHow far it lies from the straight line "
        "between hips and neck, which is all that BODY_25 says of a back: mean ± deviation over a film's rows, by the "
        f"visual hull of {len(dataset.cameras)} cameras (at each height its largest region: the trunk, and what is "
        f"pressed to it).\n\n{table}\n\nWhere a film differs here from all that were "
        "trained on, a network can only guess where the trunk is: no joint tells it directly, and what others may tell "
        "of it no training film shows.\n"
    )
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "trunk.md").write_text(text, "utf-8")
    (options.results / "trunk.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
