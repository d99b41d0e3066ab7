# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of an evaluation: everything that can be said of an avatar's likeness, in one file, without network."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ... import __version__
from ...neural_backend.avatar import Avatar
from ...neural_backend.interface.avatar_header import AvatarHeader
from .. import atlas
from ..dataset import Dataset
from ..evaluate import frames_to_show, render_view
from ..figures import FIGURES, Frame, measured, shown
from ..files import write_text
from ..page import document
from ..quadrants import trained_cameras
from .curves import read_log, row_curves, run_curves
from .pictures import GAIN, SLIDER_SCRIPT, SLIDER_STYLE, atlas_figure, frame_figure

_STYLE = (
    "main{max-width:1280px}.wide th,.wide td{padding:4px 9px 4px 0;font-size:13px}.advice{overflow:hidden}"
    "details{margin:8px 0}summary{cursor:pointer}"
    ".best{font-weight:bold}td.n,th.n{text-align:right}.person{float:right;max-height:170px;margin:0 0 12px 20px}"
    "dt{font-weight:bold;margin-top:6px}dd{margin:0}.facts td{white-space:normal;vertical-align:top}"
    ".config{columns:3 260px;font-size:13px}.config p{margin:0;break-inside:avoid}" + SLIDER_STYLE
)


#: Fewer pictures than this are few.
_FEW = 20


@dataclass(frozen=True)
class Subject:
    """What was evaluated: the avatar, its file and header, and the dataset that it was compared with."""

    path: Path
    header: AvatarHeader
    avatar: Avatar
    dataset: Dataset

    @property
    def run(self) -> Path:
        """The folder of the run that made it, which may be elsewhere."""
        return self.path.with_name(self.path.name + ".train")


def write_report(
    path: Path,
    subject: Subject,
    frames: Sequence[Frame],
    result: dict[str, Any],
    limits: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the page. result: figures.summary of the frames; limits: sentences on what could not be measured, and on
    what else a reader must know first. Raises OSError."""
    title = f"Evaluation of {subject.header.name or subject.path.stem}"
    parts = [
        f"<h1>{escape(title)}</h1>", _summary(subject, frames), _limits(limits), _tables(result),
        _frames(subject, frames, progress), _textures(subject), _run(subject), row_curves(frames), _facts(subject),
        _definitions(measured(result)),
        f'<p class="quiet">Written by Neural Avatar {__version__}. This file is whole: it needs no network.</p>',
    ]  # fmt: skip
    write_text(path, document(title, parts, _STYLE, SLIDER_SCRIPT))


def _summary(subject: Subject, frames: Sequence[Frame]) -> str:
    data = subject.dataset
    cameras, splits = sorted({f.camera for f in frames}), sorted({f.split for f in frames})
    text = (
        f"{subject.path.name} ({subject.header.method}) against {len(frames)} pictures of {data.path.resolve().name}: "
        f"{'camera' if len(cameras) == 1 else 'cameras'} {', '.join(cameras)}; "
        f"{'split' if len(splits) == 1 else 'splits'} {', '.join(splits)}."
    )
    person = ""
    if subject.header.thumbnail:
        picture = base64.b64encode(subject.header.thumbnail).decode("ascii")
        person = f'<img class="person" alt="the avatar" src="data:image/png;base64,{picture}">'
    return f"{person}<p>{escape(text)}</p>"


def known_limits(subject: Subject, frames: Sequence[Frame]) -> list[str]:
    """Sentences on what a reader must know before believing the figures."""
    data, said = subject.dataset, []
    names = subject.header.provenance.get("datasets")
    if not isinstance(names, list) or data.path.resolve().name not in names:
        said.append(
            "The avatar's file does not name this dataset among those it was trained on: which cameras and motions it "
            "has seen is taken from the dataset's own lists."
        )
    if all(frame.split == "train" for frame in frames):
        said.append("Every row here was open to training: the figures say how well it remembers, not how it moves.")
    trained = {data.camera_names[i] for i in trained_cameras(subject.header, data)}
    known = sorted({frame.camera for frame in frames} & trained)
    if trained.issuperset(frame.camera for frame in frames):
        said.append("Every camera here was trained on: the figures do not say how it looks from other sides.")
    elif known and not any(frame.quadrant for frame in frames):
        said.append(f"Trained on among the cameras here, which flatters the means: {', '.join(known)}.")
    if all(math.isnan(frame.flicker) for frame in frames):
        said.append("Flicker was not measured: no two neighbouring rows of a camera were compared.")
    empty = sum(math.isnan(frame.metrics.ssim_box) for frame in frames)
    if empty:
        said.append(f"{empty} pictures show nobody; they count in the figures of the whole frame alone.")
    if len(frames) < _FEW:
        said.append(f"{len(frames)} pictures are few: the means, and Fréchet distances above all, will vary.")
    return said


def _limits(sentences: Sequence[str]) -> str:
    items = "".join(f'<li class="minor">{escape(sentence)}</li>' for sentence in sentences)
    return f'<h2>What to know first</h2><ul class="advice">{items}</ul>' if items else ""


def _tables(result: dict[str, Any]) -> str:
    names = measured(result)
    out = ["<h2>Figures</h2><p>Means over pictures; the best of each group is bold. What they mean stands at the "
           "page's end.</p>"]  # fmt: skip
    for head, key in (("quadrant", "quadrants"), ("split", "splits"), ("split and camera", "cameras")):
        if result[key]:
            table = _table(head, {**result[key], "all": result["all"]}, names)
            long = len(result[key]) > _LONG
            out.append(f"<details><summary>By {head}</summary>{table}</details>" if long else table)
    return "".join(out)


#: A table of more groups than this is folded, so that the pictures are not far down the page.
_LONG = 8


def _table(head: str, groups: dict[str, dict[str, Any]], names: Sequence[str]) -> str:
    figures = [FIGURES[name] for name in names]
    heads = "".join(
        f'<th class="n" title="{escape(f.meaning)}">{escape(f.title)} {_ARROWS[f.better]}</th>' for f in figures
    )
    own = [means for group, means in groups.items() if group != "all"]
    rows = []
    for group, means in groups.items():
        cells = []
        for name in names:
            best = group != "all" and len(own) > 1 and means[name] is not None and means[name] == _best(own, name)
            best = best and name not in ("fid", "frechet_random")  # they depend on the sets' sizes
            cells.append(f'<td class="n{" best" if best else ""}">{shown(means[name], name)}</td>')
        rows.append(f'<tr><td>{escape(group)}</td><td class="n">{means["frames"]}</td>{"".join(cells)}</tr>')
    return (
        f'<div class="wide"><table><tr><th>{escape(head)}</th><th class="n">pictures</th>{heads}</tr>'
        f"{''.join(rows)}</table></div><p></p>"
    )


_ARROWS = {"more": "↑", "less": "↓", "one": "→1"}


def _best(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    better = FIGURES[name].better
    order = {"more": lambda v: -v, "less": lambda v: v, "one": lambda v: abs(v - 1)}[better]
    return min(values, key=order) if values else None


def _frames(subject: Subject, frames: Sequence[Frame], progress: Callable[[int, int], None] | None) -> str:
    worst, spread = frames_to_show(frames)
    spread = [frame for frame in spread if frame not in worst]
    count, done = len(worst) + len(spread), 0
    out = []
    note = (
        f"<p>Film to the slider's left, render to its right; beside them their difference, {GAIN} times as large, "
        "white where there is none.</p>"
    )
    for title, some in (("Worst frames first", worst), ("Some spread over all", spread)):
        figures = []
        for frame in some:
            truth = subject.dataset.picture(frame.view).full()
            figures.append(
                frame_figure(truth, render_view(subject.avatar, subject.dataset, frame.view), _caption(frame))
            )
            done += 1
            if progress:
                progress(done, count)
        if figures:
            out.append(f'<h2>{title}</h2>{note}<div class="frames">{"".join(figures)}</div>')
            note = ""
    return "".join(out)


def _caption(frame: Frame) -> str:
    figures = ", ".join(
        f"{FIGURES[name].title} {shown(frame.figures[name], name)}" for name in ("ssim_box", "psnr_box", "mask_iou")
    )
    where = f"{frame.camera}, row {frame.view.row}, split {frame.split}"
    return f"{where}{f', {frame.quadrant}' if frame.quadrant else ''}: {figures}"


def _by_part(subject: Subject) -> str:
    """The shares of texels that were seen, part by part, where the avatar's file tells them."""
    shares = subject.header.provenance.get("coverage_parts")
    if not isinstance(shares, list) or not all(isinstance(share, (int, float)) for share in shares):
        return ""
    return " (by part: " + ", ".join(f"{k} {share:.0%}" for k, share in enumerate(shares, 1)) + ")"


def _textures(subject: Subject) -> str:
    head = "<h2>Textures before and after training</h2>"
    textures = subject.avatar.textures
    if textures is None:
        return f'{head}<p class="quiet">This method has no textures: the network draws colours itself.</p>'
    coverage = subject.header.provenance.get("coverage")
    seen = atlas.read_seen(subject.run, textures.shape[-1])
    before = atlas.read_picture(subject.run / atlas.START)
    after = atlas.atlas(textures, seen)
    said = ["The 24 textures of the body's parts, part 1 at the top left, six in a row."]
    if isinstance(coverage, float):
        said.append(f"{coverage:.1%} of the texels were seen by some training picture{_by_part(subject)}.")
    if seen is None:
        said.append("Which texels were seen was not kept, so that unseen ones show what they were filled with.")
    else:
        said.append("Texels that no picture was assigned to are black.")
    if before is None or before.shape != after.shape:
        before = None
        said.append(f"How they began is not shown: {atlas.START} is not in {subject.run.name} beside the avatar.")
    return f"{head}<p>{escape(' '.join(said))}</p>{atlas_figure(before, after)}"


def _run(subject: Subject) -> str:
    log = read_log(subject.run / "log.csv")
    if log is None:
        said = f"The curves of its training are not shown: there is no log.csv in {subject.run.name} beside the avatar."
        return f'<h2>Training</h2><p class="quiet">{escape(said)}</p>'
    return f"<h2>Training</h2>{run_curves(log)}"


def _facts(subject: Subject) -> str:
    header, made = subject.header, dict(subject.header.provenance)
    config = made.pop("config", None)
    network = ", ".join(f"{k} {v}" for k, v in header.network.items())
    textures = (
        "none" if subject.avatar.textures is None else f"24 of {header.texture_size} × {header.texture_size} texels"
    )
    rows = [
        ("file", f"{subject.path.name}, {subject.path.stat().st_size / 1e6:.1f} MB"), ("method", header.method),
        ("network", network), ("textures", textures),
        ("body", f"{header.body_size:.2f} m, trunk and limbs summed"),
        ("licence", header.license or "not given"), ("credit", header.credit or "not given"),
        *((f"made with {name.replace('_', ' ')}", _text(value)) for name, value in sorted(made.items())),
        *((f"at export: {name.replace('_', ' ')}", _text(value)) for name, value in sorted(header.metrics.items())),
    ]  # fmt: skip
    if subject.dataset.credit:
        rows.append(("the dataset's credit", subject.dataset.credit))
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
    options = ""
    if isinstance(config, dict):
        items = "".join(f"<p>{escape(str(k))}: {escape(_text(v))}</p>" for k, v in config.items())
        options = f'<details><summary>Its training\'s options</summary><div class="config">{items}</div></details>'
    return f'<h2>The avatar</h2><div class="facts"><table>{cells}</table></div>{options}'


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _definitions(names: Sequence[str]) -> str:
    items = "".join(f"<dt>{escape(FIGURES[n].title)}</dt><dd>{escape(FIGURES[n].meaning)}</dd>" for n in names)
    return (
        "<h2>What the figures mean</h2><p>Pictures are compared over white and over grey, and a figure is the mean of "
        "both. The person's box is where the film's mask is, and 4 pixels around it. ↑ more is better, ↓ less is "
        f"better, →1 the nearer to 1 the better.</p><dl>{items}</dl>"
    )
