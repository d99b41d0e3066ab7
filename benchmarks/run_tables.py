# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and pictures of training runs, for the pages of results."""

from __future__ import annotations

import csv
import importlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from training_runs import PACKAGE

FIGURES: Mapping[str, Any] = importlib.import_module(f"{PACKAGE}.training.figures").FIGURES
#: Why a figure may not have been measured, where there is more to say than that a run has none.
WEIGHTS = "a package or weights were missing"
ABSENT = {"flicker": "no two neighbouring rows of a camera were compared", "flip_box": WEIGHTS, "lpips_box": WEIGHTS,
          "fid": WEIGHTS}  # fmt: skip
STEPS = (
    "- steps: How many training made in its minutes, the mean over seeds; fewer beside programs that share its caches."
)
#: What `evaluate` says of a run: means by name; and its steps (see training_runs.Runner.figures).
Means = Mapping[str, float | None]


def measured(groups: Iterable[Sequence[Means]]) -> list[str]:
    """Names of the figures that every run of every group has."""
    rows = [means for group in groups for means in group]
    return [name for name in FIGURES if rows and all(means.get(name) is not None for means in rows)]


def mean(group: Sequence[Means], name: str) -> float:
    """The mean of a figure over the runs of a group."""
    return statistics.fmean(float(means[name] or 0) for means in group)


def cell(group: Sequence[Means], name: str, mark: str = "") -> str:
    """A figure's mean over runs, and its sample deviation where there are several."""
    values = [float(means[name] or 0) for means in group]
    digits = FIGURES[name].digits
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mark}{statistics.fmean(values):.{digits}f}{mark}{spread}"


def steps(group: Sequence[Means]) -> str:
    """How many steps the runs of a group made, the mean; '-' where none tells."""
    known = [count for means in group if (count := means.get("steps")) is not None]
    return f"{statistics.fmean(known):.0f}" if known else "-"


def steps_column(groups: Mapping[str, Sequence[Means]]) -> dict[str, Callable[[str], str]]:
    """The column of steps, made from a row's title; none where no run tells."""
    told = any(steps(group) != "-" for group in groups.values())
    return {"steps": lambda title: steps(groups[title])} if told else {}


def off(value: float, name: str) -> float:
    """How far a figure is from the best: to be made small."""
    better = FIGURES[name].better
    return abs(value - 1) if better == "one" else (value if better == "less" else -value)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def figures_table(groups: Mapping[str, Sequence[Means]], more: Mapping[str, Callable[[str], str]]) -> str:
    """Rows of steps and figures, the best of each figure in bold. groups: a row's title and its runs. more: columns
    before these, made from the title."""
    names, more = measured(groups.values()), {**more, **steps_column(groups)}
    best = {name: min((off(mean(group, name), name) for group in groups.values()), default=0.0) for name in names}
    rows = [
        [title, *(make(title) for make in more.values())]
        + [cell(group, name, "**" if off(mean(group, name), name) == best[name] else "") for name in names]
        for title, group in groups.items()
    ]
    return markdown(["", *more, *(FIGURES[name].title for name in names)], rows)


def meanings(groups: Iterable[Sequence[Means]], machines: Sequence[str]) -> str:
    """How to read the columns, what could not be measured and why, and on which machines it was."""
    groups = list(groups)
    lines = [f"- {FIGURES[name].title}: {FIGURES[name].meaning}" for name in measured(groups)]
    if any(steps(group) != "-" for group in groups):
        lines.insert(0, STEPS)
    lines += [f"- {line}" for line in absences(groups)]
    lines.append(f"- Trained on {'; and on '.join(machines) or 'a machine that was not noted'}.")
    return "\n".join(lines)


def absences(groups: Iterable[Sequence[Means]]) -> list[str]:
    """A sentence for each reason why figures are left out of a table, with their titles."""
    groups = list(groups)
    rows, names = [means for group in groups for means in group], measured(groups)
    reasons: dict[str, list[str]] = {}
    for name in FIGURES:
        if name not in names:
            some = any(means.get(name) is not None for means in rows)
            reason = "Left out, because in some runs " if some else "Not measured, because "
            reason += ABSENT.get(name, "it had no meaning, or the program had no such figure yet")
            reasons.setdefault(reason, []).append(FIGURES[name].title)
    return [f"{reason}: {', '.join(titles)}." for reason, titles in reasons.items()]


def unknowable(results: Path, dataset: str) -> str:
    """A line on what the unseen dance does not tell a method, where that was measured on this dataset; else ''."""
    page = results / "trunk.md"
    if not page.exists() or not page.read_text("utf-8").startswith(f"# The middle of the trunk on {dataset}\n"):
        return ""
    return "\n- The unseen dance arches the back as nothing trained on does; no joint tells how: [trunk.md](trunk.md)."


def write_frames(path: Path, columns: Sequence[str], tables: Iterable[tuple[Sequence[object], Path]]) -> None:
    """Join the tables of frames into one. columns: heads of what tells the tables apart; tables: those values, and the
    file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as out:
        writer, head = csv.writer(out), None
        for values, file in tables:
            with file.open(newline="", encoding="utf-8") as stream:
                own, *rows = csv.reader(stream)
            if head is None:
                head = own
                writer.writerow([*columns, *head])
            if own != head:
                raise SystemExit(f"{file} has other columns than the tables before it; evaluate it again.")
            writer.writerows([*values, *row] for row in rows)
    temporary.replace(path)


# -- pictures ----------------------------------------------------------------------------------------------------------


def strip(folders: Mapping[str, Path], path: Path, frames: Sequence[int] = (1, 2, 3, 4), height: int = 300) -> None:
    """The truth and each avatar's picture side by side, cut to the person, a row for each frame.

    folders: titles, and what `evaluate --pictures` wrote (truth | render | difference over white).
    """
    rows = []
    for index in frames:
        files = [next(iter(sorted(folder.glob(f"frame{index}_*.png"))), None) for folder in folders.values()]
        triples = [cv2.imread(str(file)) for file in files if file is not None]
        if len(triples) < len(files) or any(picture is None for picture in triples):
            continue
        width = triples[0].shape[1] // 3
        pictures = [triples[0][:, :width], *(triple[:, width : 2 * width] for triple in triples)]
        y, x = np.nonzero((pictures[0] < 250).any(2))
        if not y.size:
            continue
        box = np.s_[max(y.min() - 6, 0) : y.max() + 7, max(x.min() - 6, 0) : x.max() + 7]
        scale = height / (box[0].stop - box[0].start)
        cells = [cv2.resize(p[box], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for p in pictures]
        rows.append(np.concatenate([_padded(cell, 4) for cell in cells], 1))
    if not rows:
        return
    titles, cell_width = ["truth", *folders], max(row.shape[1] for row in rows) // (len(folders) + 1)
    sheet = np.full((26, cell_width * len(titles), 3), 255, np.uint8)
    for i, title in enumerate(titles):
        cv2.putText(sheet, title, (i * cell_width + 6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(path), np.concatenate([sheet, *(_spread(row, len(titles), cell_width) for row in rows)]),
                [cv2.IMWRITE_JPEG_QUALITY, 90])  # fmt: skip


def _spread(row: np.ndarray, count: int, cell_width: int) -> np.ndarray:
    """A row's cells, each in the middle of a cell of the sheet."""
    cells = []
    for cell in np.split(row, count, 1):
        left = (cell_width - cell.shape[1]) // 2
        right = cell_width - cell.shape[1] - left
        cells.append(cv2.copyMakeBorder(cell, 0, 0, left, right, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    return np.concatenate(cells, 1)


def _padded(cell: np.ndarray, pixels: int) -> np.ndarray:
    return cv2.copyMakeBorder(cell, *[pixels] * 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))
