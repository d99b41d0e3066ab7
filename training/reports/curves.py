# SPDX-License-Identifier: GPL-3.0-or-later
"""Curves inside a page: those of the run that made an avatar, and figures over the rows of a dataset."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..figures import FIGURES, Frame
from ..plots import COLOURS, Curve, line_plot

Floats = npt.NDArray[np.float64]

#: Columns of a run's log.csv, what they are, and their unit.
_COLUMNS = {
    "loss": ("Loss, all terms", ""),
    "image": ("Image loss (equation 2)", ""),
    "mask": ("Mask loss (equation 3)", ""),
    "preview_psnr": ("PSNR of the preview's views over white, one trained on, two not where any are held out", "dB"),
    "parts": ("Parts, off a known surface's (cross-entropy)", ""),
    "surface": ("Coordinates, off a known surface's (mean distance)", ""),
    "coordinates": ("Coordinates, off the proxy's", ""),
    "smooth": ("Smoothness of the textures", ""),
    "lr": ("Learning rate", ""),
}
#: Columns that are no curves.
_PLACES = ("step", "seconds")


def read_log(path: Path) -> dict[str, Floats] | None:
    """A run's log.csv as columns (N,), NaN where a line says nothing; None where there is none that can be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    columns = {name: np.array([_number(row.get(name)) for row in rows]) for name in (rows[0] if rows else ()) if name}
    steps = columns.get("step")
    if steps is None or len(steps) < 2 or not (np.diff(steps) > 0).all():
        return None
    return columns


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def run_curves(log: dict[str, Floats]) -> str:
    """Every column of a log over its steps, those that have a title first."""
    steps, figures = log["step"], []
    others = {name: (name.replace("_", " ").capitalize(), "") for name in log if name not in (*_COLUMNS, *_PLACES)}
    for name, (title, unit) in (_COLUMNS | others).items():
        values = log.get(name)
        if values is None or np.isfinite(values).sum() < 2:
            continue
        known = np.isfinite(values)  # a preview is looked at now and then: the curve goes on between
        plot = line_plot([Curve(title, values[known], 0)], unit, zero=name not in ("preview_psnr",),
                         places=steps[known])  # fmt: skip
        figures.append(f"<figure><figcaption>{escape(title)}</figcaption>{plot}</figure>")
    return f"<p>Across: steps.</p><div class='plots'>{''.join(figures)}</div>"


def row_curves(frames: Sequence[Frame]) -> str:
    """Figures in the box over the rows of the dataset, a curve for each camera; '' where there are too few frames."""
    cameras = list(dict.fromkeys(frame.camera for frame in frames))
    rows = sorted({frame.view.row for frame in frames})
    if len(rows) < 8:
        return ""
    place = {row: i for i, row in enumerate(rows)}
    figures = []
    for name in ("ssim_box", "psnr_box", "mask_iou", "flicker"):
        curves = []
        for c, camera in enumerate(cameras):
            values = np.full(len(rows), np.nan)
            for frame in frames:
                if frame.camera == camera:
                    values[place[frame.view.row]] = frame.figures[name]
            curves.append(Curve(camera, _bridged(values), c))
        plot = line_plot(curves, "", zero=name == "flicker", places=rows)
        figures.append(f"<figure><figcaption>{escape(FIGURES[name].title)}</figcaption>{plot}</figure>")
    key = "".join(f'<span class="key"><i class="k{c % COLOURS}"></i>{escape(n)}</span> ' for c, n in enumerate(cameras))
    return f"<h2>Over time</h2><p>Across: rows of the dataset. {key}</p><div class='plots'>{''.join(figures)}</div>"


def _bridged(values: Floats) -> Floats:
    """Rows that were not asked of this camera are bridged, so that sparse frames make a curve."""
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return values
    inner = np.arange(known[0], known[-1] + 1)
    out = values.copy()
    out[inner] = np.interp(inner, known, values[known])
    return out
