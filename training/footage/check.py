# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar footage --check`: is a dataset whole, and do its parts agree?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .quality import BONE_NAMES
from .survey import Survey

#: A bone is an outlier where its length differs from its median by more than this share and this many metres.
BONE_SHARE, BONE_METRES = 0.12, 0.03
#: A camera disagrees when less than this share of the body's joints lies in its masks, …
INSIDE = 0.8
#: … and when the joints were found so many times as far from their places as in the other cameras (pixels of the film,
#: as a share of the person's height there).
APART = 0.03
#: A fault from this share of the rows or pictures on; below it, a remark.
MANY = 0.2


@dataclass(frozen=True)
class Finding:
    """Something wrong with a dataset. fault: it would spoil training; else it is worth knowing."""

    fault: bool
    text: str


def findings(survey: Survey) -> list[Finding]:
    """All that is wrong with a dataset, the worst first."""
    found = [
        *_pictures(survey), *_joints(survey), *_bones(survey), *_cameras(survey), *_splits(survey),
    ]  # fmt: skip
    return sorted(found, key=lambda f: not f.fault)


def _pictures(survey: Survey) -> list[Finding]:
    data, out = survey.dataset, []
    if survey.broken:
        more = f" (and {len(survey.broken) - 1} more like it)" if len(survey.broken) > 1 else ""
        out.append(Finding(True, survey.broken[0] + more))
    folder = data.path / "images"
    for c, name in enumerate(data.camera_names):
        there = {p.stem for p in (folder / name).glob("*.png")}
        wanted = {f"{row:05d}" for row in np.flatnonzero(survey.expected[:, c])}
        if extra := sorted(there - wanted):
            out.append(Finding(False, f"{folder / name} holds {_count(len(extra), 'picture')} without a row, such as "
                                      f"{extra[0]}.png; training ignores them."))  # fmt: skip
        empty = np.flatnonzero(survey.stored[:, c] & (survey.figure("area")[:, c] == 0))
        if empty.size:
            many = empty.size > MANY * max(int(survey.stored[:, c].sum()), 1)
            out.append(Finding(many, f"{name}: the mask is empty in {_count(empty.size, 'picture')}: {_rows(empty)}."))
        for kind, wrong in (("never saw the person", survey.expected[:, c]), ("has no picture", survey.stored[:, c])):
            if not wrong.any():
                out.append(Finding(True, f"{name} {kind}; take it out of cameras.json, or film it again."))
                break
    return out


def _joints(survey: Survey) -> list[Finding]:
    data, out = survey.dataset, []
    unusable = np.flatnonzero(~data.usable)
    if unusable.size:
        lost = f"{_count(unusable.size, 'row')} of {len(data.usable)} cannot be used"
        text = f"{lost}, the trunk was not found there: {_rows(unusable)}."
        out.append(Finding(unusable.size > 0.5 * len(data.usable), text))
    far = np.abs(data.joints) > 1000
    if far.any():
        rows = _rows(np.flatnonzero(far.any((1, 2))))
        out.append(Finding(True, f"joints.npz holds places over 1 km away in {rows}; joints are metres."))
    for c, name in enumerate(data.camera_names):
        wanted = survey.expected[:, c] & data.usable
        behind = np.flatnonzero(
            wanted & ~np.isfinite(np.where(data.confidence > 0, survey.pixels[:, c, :, 0], 0)).all(1)
        )
        if behind.size:
            out.append(Finding(behind.size > MANY * wanted.sum(), f"{name}: joints lie behind the camera in "
                               f"{_count(behind.size, 'row')}: {_rows(behind)}; is its R and t right?"))  # fmt: skip
    return out


def _bones(survey: Survey) -> list[Finding]:
    out = []
    lengths = survey.lengths[survey.dataset.usable]
    rows = np.flatnonzero(survey.dataset.usable)
    for i, name in enumerate(BONE_NAMES):
        known = np.isfinite(lengths[:, i])
        if known.sum() < 3:
            continue
        median = float(np.median(lengths[known, i]))
        wrong = rows[known & (np.abs(lengths[:, i] - median) > max(BONE_SHARE * median, BONE_METRES))]
        if wrong.size:
            many = wrong.size > MANY * int(known.sum())
            limit = f"over {BONE_SHARE:.0%} and {BONE_METRES * 100:.0f} cm longer or shorter"
            where = f"in {_count(wrong.size, 'row')}: {_rows(wrong)}"
            out.append(Finding(many, f"The bone '{name}' is {median:.2f} m long, but {limit} {where}."))
        if median < 0.02 or median > 1.2:
            out.append(Finding(True, f"The bone '{name}' is {median:.2f} m long; joints are metres."))
    return out


def _cameras(survey: Survey) -> list[Finding]:
    data, out = survey.dataset, []
    usable = np.where(data.usable[:, None], survey.inside, np.nan)
    shares = _medians(usable)
    for c, name in enumerate(data.camera_names):
        if shares[c] < INSIDE:
            share = f"only {shares[c]:.0%} of the body's joints lie in its masks (middle picture)"
            why = "its calibration, its timing or its masks are wrong"
            out.append(Finding(True, f"{name} disagrees with the joints: {share}; {why}."))
        astray = np.flatnonzero(usable[:, c] < 0.5)
        if astray.size and shares[c] >= INSIDE:
            out.append(Finding(False, f"{name}: over half of the body's joints lie outside the mask in "
                               f"{_count(astray.size, 'picture')}: {_rows(astray)}."))  # fmt: skip
    if survey.making is not None:
        heights = film_heights(survey)
        apart = _medians(survey.making.reprojection[:, :, :25].transpose(0, 2, 1).reshape(-1, len(shares))) / heights
        for c, name in enumerate(data.camera_names):
            others = [apart[i] for i in range(len(apart)) if i != c and np.isfinite(apart[i])]
            if np.isfinite(apart[c]) and apart[c] > APART and others and apart[c] > 2 * min(others):
                off = f"its joints lie {apart[c] * heights[c]:.0f} px from where they were found"
                out.append(Finding(True, f"{name} disagrees with the other cameras: {off}; calibrate it again."))
    return out


def film_heights(survey: Survey) -> npt.NDArray[np.float64]:
    """(C,) how tall the person stands in the film, pixels: the middle height of the masks' boxes; NaN where unseen."""
    return _medians(survey.figure("y1") - survey.figure("y0")) * survey.scale


def _splits(survey: Survey) -> list[Finding]:
    data, out = survey.dataset, []
    trained = np.array([s == "train" for s in data.split]) & data.usable
    if not survey.stored[trained][:, list(data.train_cameras)].any():
        out.append(Finding(True, "There is no picture to train on: no usable row of split 'train' was seen by a train "
                                 "camera."))  # fmt: skip
    if trained.all():
        out.append(Finding(False, "Every row is trained on; `evaluate` can then only judge held-out cameras."))
    return out


def _medians(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(C,) medians of (N, C) values, NaN where a column has none."""
    out = np.full(values.shape[1], np.nan)
    for c in range(values.shape[1]):
        known = values[np.isfinite(values[:, c]), c]
        if known.size:
            out[c] = np.median(known)
    return out


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _rows(rows: Sequence[int] | npt.NDArray[np.integer], most: int = 6) -> str:
    """Row numbers for people, runs joined: 'rows 3, 7-12, 40 and 8 more'."""
    runs: list[list[int]] = []
    for row in map(int, rows):
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:most]]
    more = sum(b - a + 1 for a, b in runs[most:])
    return ("rows " if len(rows) > 1 else "row ") + ", ".join(shown) + (f" and {more} more" if more else "")
