# SPDX-License-Identifier: GPL-3.0-or-later
"""report.html of a dataset: one self-contained page, without scripts or network, in light and dark."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__
from ..dataset import View
from ..page import document
from ..plots import COLOURS, Curve, line_plot
from .advice import ASTRAY, BLURRED, BONE_SPREAD, Advice, advice, blurred, gaps, height_sentence, trained
from .check import Finding, film_heights, findings
from .manifest import write_bytes
from .overlays import overlay, sample_rows
from .plots import direction_plot
from .quality import BONE_NAMES, FIGURE
from .survey import Survey
from .write import encode

Floats = npt.NDArray[np.floating]


def write_report(survey: Survey, path: Path, name: str, notes: Sequence[str] = ()) -> None:
    """Write the page. name: the dataset's. notes: what its making had to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # medians of cameras that saw nobody
        page = _page(survey, name, notes)
    write_bytes(path, page.encode("utf-8"))


def _page(survey: Survey, name: str, notes: Sequence[str]) -> str:
    title = f"Footage report: {name}"
    faults, counsel = findings(survey), advice(survey)
    parts = [
        f"<h1>{escape(title)}</h1>", _summary(survey), _verdict(counsel), _faults(faults), _notes(notes),
        _table(survey), _coverage(survey), _overlays(survey), _curves(survey),
        f'<p class="quiet">Written by Neural Avatar {__version__}. Dashed lines are the limits that the advice above '
        "goes by; rows on a tinted ground are not trained on.</p>",
    ]  # fmt: skip
    return document(title, parts)


def _summary(survey: Survey) -> str:
    data = survey.dataset
    pictures = int(trained(survey).sum())
    heldout = [data.camera_names[i] for i in data.heldout_cameras]
    text = f"{len(data.joints)} moments, {len(data.cameras)} {'camera' if len(data.cameras) == 1 else 'cameras'}, "
    text += f"{pictures} pictures to train on. {height_sentence(survey)}"
    if heldout:
        text += f" Held out: {', '.join(heldout)}."
    return f"<p>{escape(text)}</p>"


def _verdict(counsel: Sequence[Advice]) -> str:
    head = "<h2>What will hurt the avatar, and what to film again</h2>"
    if not counsel:
        return f'{head}<p class="good">Nothing crossed a limit: this footage should make a good avatar.</p>'
    items = "".join(
        f'<li class="{"serious" if a.serious else "minor"}"><b>{escape(a.title)}.</b> {escape(a.why)} '
        f"<i>{escape(a.remedy)}</i></li>"
        for a in counsel
    )
    return f'{head}<ul class="advice">{items}</ul>'


def _faults(faults: Sequence[Finding]) -> str:
    if not faults:
        return '<h2>Check</h2><p class="good">The dataset is whole and its parts agree.</p>'
    items = "".join(f'<li class="{"serious" if f.fault else "minor"}">{escape(f.text)}</li>' for f in faults)
    return f'<h2>Check</h2><ul class="advice">{items}</ul>'


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<h2>How it was made</h2><ul>{items}</ul>" if notes else ""


def _table(survey: Survey) -> str:
    data, making = survey.dataset, survey.making
    heads = [
        "camera",
        "pictures",
        "person seen",
        "height in film",
        "stored at",
        "joints in mask",
        "blurred",
        "brightness",
    ]
    if making is not None:
        heads += ["joint error", "95 % below", "body", "hands", "face", "out of step"]
    rows = []
    tall, soft, bright = film_heights(survey), blurred(survey), survey.figure("brightness")
    for c, name in enumerate(data.camera_names):
        stored = survey.stored[:, c]
        cells = [
            f"{name}{' (held out)' if c in data.heldout_cameras else ''}", str(int(stored.sum())),
            f"{survey.expected[:, c].mean():.0%}", _number(tall[c], ".0f", " px"),
            f"{data.cameras[c].width}×{data.cameras[c].height}, {1 / survey.scale[c]:.0%}",
            _number(100 * np.nanmedian(survey.inside[:, c]), ".0f", " %"),
            f"{soft[:, c].sum() / max(stored.sum(), 1):.0%}",
            f"{_number(np.nanmedian(bright[:, c]), '.2f', '')} ± {_number(np.nanstd(bright[:, c]), '.2f', '')}",
        ]  # fmt: skip
        if making is not None:
            errors = making.reprojection[:, c, :25]
            errors = errors[np.isfinite(errors)]
            cells += (
                [_number(np.median(errors), ".1f", " px"), _number(np.percentile(errors, 95), ".1f", " px")]
                if (errors.size)
                else ["–", "–"]
            )
            found = making.detected[:, c]
            cells += [f"{(found[:, i] > 0).mean():.0%}" for i in range(3)]
            cells.append(_number(making.offsets[c], "+.1f", " frames"))
        rows.append(
            f"<tr><td class='key'><i class='k{c % COLOURS}'></i>{'</td><td>'.join(map(escape, cells))}</td></tr>"
        )
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f'<h2>Cameras</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _number(value: float | np.floating[Any], form: str, unit: str) -> str:
    return f"{value:{form}}{unit}" if np.isfinite(value) else "–"


def _coverage(survey: Survey) -> str:
    counted = trained(survey)
    missing = gaps(survey)
    shares = survey.directions.shares(counted)
    rows, cameras = np.nonzero(counted)
    plot = direction_plot(
        survey.directions.azimuth[rows, cameras], survey.directions.elevation[rows, cameras], cameras, shares, missing
    )
    named = ", ".join(missing)
    text = f"Nearly nothing is seen from: {named}." if missing else "The body is seen from every side."
    level = survey.directions.elevation[counted]
    if np.isfinite(level).any():
        low, high = np.nanpercentile(level, (2, 98))
        text += f" The cameras look at the trunk from {low:.0f}° to {high:.0f}° above its level."
    note = "Looking down on the person, who faces up the page; each dot is a picture, the rings are 0°, 30° and 60° up."
    return f"<h2>Seen from where</h2><p>{escape(text)}</p><figure>{plot}<figcaption>{note}</figcaption></figure>"


def _overlays(survey: Survey) -> str:
    data, out = survey.dataset, ["<h2>Skeleton and mask</h2>", _LEGEND]
    for c, name in enumerate(data.camera_names):
        folder = data.path / "samples" / name
        rows = sorted(int(p.stem) for p in folder.glob("*.jpg") if p.stem.isdigit()) if folder.is_dir() else []
        rows = [r for r in rows if r < len(data.joints) and survey.stored[r, c]]
        rows = rows or sorted(sample_rows(survey.stored[:, c], 1 - survey.inside[:, c]))
        figures = []
        for row in rows:
            picture = overlay(survey, View(row, c))
            if picture is not None:
                text = base64.b64encode(encode(picture, ".jpg")).decode()
                figures.append(f'<figure><img alt="{escape(name)}, row {row}" src="data:image/jpeg;base64,{text}">'
                               f"<figcaption>{escape(_caption(survey, row, c))}</figcaption></figure>")  # fmt: skip
        out.append(f"<h3>{escape(name)}</h3><div class='pictures'>{''.join(figures)}</div>")
    return "".join(out)


_LEGEND = (
    "<p>The three worst of each camera, and three evenly spread. Green: the mask's edge. The person's right side is "
    "orange, the left side blue. The skeleton is the 3D pose seen through the camera.</p>"
)


def _caption(survey: Survey, row: int, c: int) -> str:
    text = f"row {row}"
    if survey.making is not None:
        errors = survey.making.reprojection[row, c, :25]
        if np.isfinite(errors).any():
            text += f", {np.nanmedian(errors):.0f} px off"
    if np.isfinite(survey.inside[row, c]) and survey.inside[row, c] < 1:
        text += f", {survey.inside[row, c]:.0%} of the joints in the mask"
    if blurred(survey)[row, c]:
        text += ", blurred"
    return text


def _curves(survey: Survey) -> str:
    data, making, out = survey.dataset, survey.making, []
    names = data.camera_names
    test = [i for i, s in enumerate(data.split) if s != "train"]
    split = test[0] if test and all(s != "train" for s in data.split[test[0] :]) else None

    def per_camera(values: Floats) -> list[Curve]:
        return [Curve(name, values[:, c], c) for c, name in enumerate(names)]

    if making is not None:
        limit = ASTRAY * float(np.nanmedian(film_heights(survey)))
        out.append(("Joints: distance between 3D pose and detection (middle joint of the body), pixels of the film",
                    line_plot(per_camera(np.nanmedian(making.reprojection[:, :, :25], 2)), "px",
                              limit if np.isfinite(limit) else None, split)))  # fmt: skip
        for i, part in enumerate(("body", "hands", "face")):
            out.append((f"Share of the {part}'s joints that were found", line_plot(
                per_camera(making.detected[..., i] * 100), "%", None, split)))  # fmt: skip
    lengths = survey.lengths - np.nanmedian(survey.lengths[data.usable], 0)
    bones = [Curve(name, lengths[:, i] * 100, i) for i, name in enumerate(BONE_NAMES)]
    out.append((f"Bones: difference from their usual length ({', '.join(BONE_NAMES)})",
                line_plot(bones, "cm", BONE_SPREAD * 100, split, False)))  # fmt: skip
    sharp = survey.figures[..., FIGURE["sharpness"]] / np.nanmedian(survey.figures[..., FIGURE["sharpness"]], 0)
    out.append(
        ("Sharpness, as a share of the camera's usual", line_plot(per_camera(sharp * 100), "%", BLURRED * 100, split))
    )
    out.append(("Brightness of the person", line_plot(per_camera(survey.figure("brightness")), "", None, split)))
    out.append(("Height of the person in the film", line_plot(
        per_camera((survey.figure("y1") - survey.figure("y0")) * survey.scale), "px", None, split)))  # fmt: skip
    out.append(("Body joints inside the mask", line_plot(per_camera(survey.inside * 100), "%", None, split)))
    key = "".join(f'<span class="key"><i class="k{c % COLOURS}"></i>{escape(n)}</span> ' for c, n in enumerate(names))
    figures = "".join(f"<figure><figcaption>{escape(text)}</figcaption>{plot}</figure>" for text, plot in out)
    return f"<h2>Over time</h2><p>Across: rows of the dataset. {key}</p><div class='plots'>{figures}</div>"
