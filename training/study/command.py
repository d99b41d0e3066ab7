# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar compare`: makes a study from avatars and a dataset, and counts its votes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...neural_backend.avatar import Avatar
from ...neural_backend.avatar_file import load_avatar
from ...neural_backend.interface.avatar_header import read_header
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.renderer import choose_device
from ..dataset import Dataset, View, read_dataset
from ..evaluate import Choice, render_view
from ..files import write_text
from ..metrics import over
from ..quadrants import trained_cameras
from ..reporting import Reporter
from ..reports.pictures import around_person
from .page import study_page
from .trials import KEY, PAGE, Study, Trial, make_trials, read_key, write_key
from .votes import RESULT_COLUMNS, preferences, read_votes, told

Pixels = npt.NDArray[np.float32]
#: The table of what the votes say, beside them.
RESULT = "result.csv"
#: Frames of a second in a moving picture.
_RATE = 12


@dataclass(frozen=True)
class StudyOptions:
    """choice: which frames may be asked about, ``most`` of them for each pair of results. frames: rows in a picture,
    more than 1 for one that moves. seed: of order and sides."""

    choice: Choice
    frames: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 60:
            raise BackendError("compare-options", "--frames must lie between 1 and 60.")
        if self.seed < 0:
            raise BackendError("compare-options", "--seed must not be negative.")


def make_study(
    avatars: Sequence[Path], dataset_path: Path, folder: Path, options: StudyOptions, device: str = "auto"
) -> int:
    """Write FOLDER/study.html and, apart from it, FOLDER/key.json. Raises BackendError with a sentence for the user."""
    if len(avatars) < 2:
        raise BackendError("compare-options", "A comparison needs two avatars or more.")
    if (folder / KEY).exists():
        raise BackendError(
            "compare-exists", f"{folder} holds a study already, whose votes a new key would spoil; choose another -o."
        )
    names = _names(avatars)
    loaded = {name: load_avatar(path, choose_device(device)) for name, path in names.items()}
    dataset = read_dataset(dataset_path)
    seen = {name: trained_cameras(read_header(path), dataset) for name, path in names.items()}
    places = _places(dataset, options, frozenset().union(*seen.values()))
    if not options.choice.quadrants:
        for name, cameras in seen.items():
            known = sorted({dataset.camera_names[view.camera] for view, _ in places if view.camera in cameras})
            if known:
                print(f"{name} was trained on {', '.join(known)}: votes do not say how it looks from new sides.")
    # The trials of a pair are drawn from all places, spread over the quadrants where those were asked for.
    subject = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in names.values())
    trials = make_trials(list(names), places, dataset, options.choice.most, options.seed, subject)
    folder.mkdir(parents=True, exist_ok=True)
    report = Reporter().progress("Drawing")
    pictures = []
    for i, trial in enumerate(trials):
        pictures.append(_picture(trial, loaded, dataset, options.frames))
        report(i + 1, len(trials))
    files = {name: path.name for name, path in names.items()}
    write_text(folder / PAGE, study_page(trials, pictures))
    write_key(folder, Study(files, dataset_path.resolve().name, options.seed, trials))
    print(f"Wrote {folder / PAGE} with {len(trials)} questions. Open it in a browser, or send that one file to others.")
    print(f"Keep {folder / KEY} to yourself: it says which result is which.")
    print(f"Then count: neural-avatar compare --votes votes.csv {folder}")
    return 0


def count_votes(folder: Path, files: Sequence[Path] = ()) -> int:
    """Print each pair's preference with its interval, by the files given, else by all votes*.csv in the folder, and
    write them as FOLDER/result.csv. Raises BackendError with a sentence for the user."""
    study = read_key(folder)
    files = files or sorted(folder.glob("votes*.csv"))
    if not files:
        raise BackendError("study-votes", f"{folder} holds no votes*.csv; give the files with --votes.")
    votes, replaced = read_votes(files, study)
    if replaced:
        print(f"{replaced} votes were replaced by later ones of the same name; different people need different names.")
    table = io.StringIO(newline="")
    rows = csv.writer(table)
    rows.writerow(RESULT_COLUMNS)
    for quadrant in ("", *sorted({trial.quadrant for trial in study.trials} - {""})):
        some = preferences(study, votes, quadrant or None)
        if quadrant and some:
            print(f"\n{quadrant}:")
        for preference in some:
            print(told(preference))
            rows.writerow((quadrant or "all", *preference.row))
    write_text(folder / RESULT, table.getvalue())
    print(f"\nThe same as a table: {folder / RESULT}")
    print("The intervals (Wilson's) take every vote for one of its own; several voters make that truer.")
    return 0


def _names(avatars: Sequence[Path]) -> dict[str, Path]:
    """A name for each avatar: its file's, with a number where two share one."""
    out: dict[str, Path] = {}
    for path in avatars:
        name, k = path.stem, 2
        while name in out:
            name, k = f"{path.stem} {k}", k + 1
        out[name] = path
    return out


def _places(dataset: Dataset, options: StudyOptions, seen: frozenset[int]) -> list[tuple[View, str]]:
    """Views that may be asked about, and their quadrants. seen: cameras that one of the avatars was trained on."""
    found = options.choice.groups(dataset, seen)
    places = [(view, name) for name, views in found.items() for view in views]
    dataset.preload([view for view, _ in places])
    whole = [(view, name) for view, name in places if len(_rows(dataset, view, options.frames)) == options.frames]
    whole = [(view, name) for view, name in whole if not dataset.picture(view).empty]
    if not whole:
        raise BackendError(
            "compare-frames",
            f"{dataset.path} holds no {options.frames} pictures of a person in a row among the frames chosen; ask for "
            "fewer --frames, or other --cameras and --split.",
        )
    return whole


def _rows(dataset: Dataset, view: View, frames: int) -> list[View]:
    """The view and its neighbours in time that have pictures, as far as the clip and split go on."""
    out: list[View] = []
    for row in range(view.row, min(view.row + frames, len(dataset.split))):
        next_ = View(row, view.camera)
        same = (dataset.clip[row], dataset.split[row]) == (dataset.clip[view.row], dataset.split[view.row])
        if not (same and dataset.usable[row] and dataset.has_picture(next_)):
            break
        out.append(next_)
    return out


def _picture(trial: Trial, avatars: dict[str, Avatar], dataset: Dataset, frames: int) -> tuple[str, float]:
    """The data address of a trial's picture and its width divided by its height: left result, film, right result over
    white, lossless; it moves where there are several frames, all three in step."""
    first = View(trial.row, dataset.camera_names.index(trial.camera))
    views = _rows(dataset, first, frames)
    truths = [dataset.picture(view).full() for view in views]
    part = around_person(np.maximum.reduce(truths))  # wherever the person goes
    strips = []
    for view, truth in zip(views, truths, strict=True):
        drawn = [render_view(avatars[name], dataset, view) for name in (trial.left, trial.right)]
        strips.append(_strip([drawn[0], truth, drawn[1]], part))
    return _webp(strips), strips[0].shape[1] / strips[0].shape[0]


def _strip(pictures: Sequence[Pixels], part: tuple[slice, slice]) -> npt.NDArray[np.uint8]:
    row = np.concatenate([over(picture[part], 1.0) for picture in pictures], 1)
    return np.asarray(np.rint(row.clip(0, 1) * 255), np.uint8)


def _webp(strips: Sequence[npt.NDArray[np.uint8]]) -> str:
    stream = io.BytesIO()
    images = [Image.fromarray(strip) for strip in strips]
    if len(images) == 1:
        images[0].save(stream, format="WEBP", lossless=True)
    else:
        images[0].save(stream, format="WEBP", save_all=True, append_images=images[1:], duration=round(1000 / _RATE),
                       loop=0, lossless=True)  # fmt: skip
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
