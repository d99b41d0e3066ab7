# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of compared frames: one by one, their means over sets, and the table of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import View
from .files import write_text
from .measures import Looked, distances
from .metrics import FrameMetrics
from .quadrants import QUADRANTS


@dataclass(frozen=True)
class Figure:
    """How a figure is told. title: a column's head; digits: behind the point; better: 'more', 'less' or 'one' (the
    nearer to 1 the better); meaning: one sentence."""

    title: str
    digits: int
    better: str
    meaning: str


FIGURES = {
    "psnr": Figure("PSNR", 2, "more", "Signal to noise in dB over the whole frame: how small the error of pixels is."),
    "psnr_box": Figure("PSNR box", 2, "more", "The same in the person's box alone, where no background flatters it."),
    "ssim": Figure("SSIM", 4, "more", "Structural similarity over the whole frame: 1 where every small window agrees."),
    "ssim_box": Figure("SSIM box", 4, "more", "The same in the person's box; frames are sorted by it."),
    "mask_iou": Figure("mask IoU", 4, "more", "The area that both outlines share, of the area that either covers."),
    "ms_ssim": Figure(
        "MS-SSIM", 4, "more", "Structural similarity at several scales at once, over the whole frame: it forgives fine "
        "noise.",
    ),
    "ms_ssim_box": Figure("MS-SSIM box", 4, "more", "The same in the person's box."),
    "flip_box": Figure(
        "FLIP box", 4, "less", "The difference that an eye would see when both pictures are flipped, in the box."
    ),
    "sharpness_box": Figure(
        "sharpness", 4, "one", "Energy of fine detail in the box, as a share of the film's: under 1 is softer than it."
    ),
    "flicker": Figure(
        "flicker", 2, "less",
        "How far the change from row to row is from the film's, in the box, in 1/255; where crops follow the person, "
        "softness adds to it."
    ),
    "lpips_box": Figure(
        "LPIPS", 4, "less", "The distance of both pictures to a network trained on what people find alike, in the box."
    ),
    "fid": Figure(
        "FID", 2, "less", "The Fréchet distance of the set of renders from the set of truths, by Inception's features "
        "with torchvision's weights; it shrinks with the number of frames, so compare equal sets.",
    ),
    "frechet_random": Figure(
        "Fréchet rnd", 4, "less", "The Fréchet distance by a VGG19 with fixed random weights: of look and grain, not "
        "of meaning; no FID, and comparable with itself alone, over equal sets of frames.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One compared frame. flicker: against the frame before it (metrics.flicker), NaN where that was not compared.
    quadrant: which one it belongs to (training.quadrants), '' where that is not asked. looked: what networks measured
    (training.measures)."""

    view: View
    camera: str
    split: str
    metrics: FrameMetrics
    flicker: float = math.nan
    quadrant: str = ""
    looked: Looked = field(default_factory=Looked, repr=False, compare=False)

    @property
    def figures(self) -> dict[str, float]:
        """All figures of this frame by name; NaN where one has no meaning."""
        return {**asdict(self.metrics), "flicker": self.flicker, "lpips_box": self.looked.lpips}


def mean_figures(frames: Sequence[Frame]) -> dict[str, float | None]:
    """The mean of each figure over the frames in which it has a meaning, and the distances of the set, rounded; None
    where one has no meaning in any."""
    every = [frame.figures for frame in frames]
    names = [*(f.name for f in fields(FrameMetrics)), "flicker", "lpips_box"]
    known = {name: [row[name] for row in every if not math.isnan(row[name])] for name in names}
    means = {name: float(np.mean(values)) if values else math.nan for name, values in known.items()}
    whole = means | distances([frame.looked for frame in frames])
    return {name: _number(value) for name, value in whole.items()}


def worst_first(frames: Sequence[Frame]) -> list[Frame]:
    """Frames by SSIM in the box, the worst first; those without a person last."""
    return sorted(frames, key=lambda f: (math.isnan(f.metrics.ssim_box), f.metrics.ssim_box))


def summary(frames: Sequence[Frame]) -> dict[str, Any]:
    """Means over all frames, by split and by split and camera; and every frame. Plain data for JSON (NaN becomes
    None)."""

    def means(some: Sequence[Frame]) -> dict[str, Any]:
        return {"frames": len(some), **mean_figures(some)}

    quadrants = [name for name in QUADRANTS if any(f.quadrant == name for f in frames)]
    splits = sorted({f.split for f in frames})
    groups = sorted({(f.split, f.camera) for f in frames})
    return {
        "all": means(frames),
        "splits": {s: means([f for f in frames if f.split == s]) for s in splits},
        "cameras": {f"{s} {c}": means([f for f in frames if (f.split, f.camera) == (s, c)]) for s, c in groups},
        "quadrants": {q: means([f for f in frames if f.quadrant == q]) for q in quadrants},
        "frames": [_plain(frame) for frame in frames],
    }


def _plain(frame: Frame) -> dict[str, Any]:
    figures = {name: _number(value) for name, value in frame.figures.items()}
    where = {"row": frame.view.row, "camera": frame.camera, "split": frame.split, "quadrant": frame.quadrant}
    return {**where, **figures}


def _number(value: float) -> float | None:
    """As JSON keeps it, which knows no NaN."""
    return None if math.isnan(value) else round(value, 5)


def shown(value: float | None, name: str) -> str:
    """A figure as text; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{FIGURES[name].digits}f}"


def measured(result: dict[str, Any]) -> list[str]:
    """Names of the figures of a summary that have a value at all."""
    return [name for name in FIGURES if result["all"][name] is not None]


def table(result: dict[str, Any]) -> str:
    """The means as a text table, without the columns in which there is nothing."""
    names = measured(result)
    rows = [("", "frames", *(FIGURES[name].title for name in names))]
    groups = result["quadrants"] or {**result["splits"], **result["cameras"]}
    for group, means in [*groups.items(), ("all", result["all"])]:
        rows.append((group, str(means["frames"]), *(shown(means[name], name) for name in names)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of equal keys as a table, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
