# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing an avatar's pictures with a dataset's, by the definitions in training.metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.png import write_png
from .crops import cut_crop
from .dataset import Dataset, View
from .figures import Frame, mean_figures, worst_first
from .film import Film
from .measures import Looked, Measures
from .metrics import flicker, frame_metrics, over
from .pictures import cut
from .quadrants import quadrant_views
from .reporting import Reporter

Pixels = npt.NDArray[np.float32]

#: Frames shown by --pictures: this many of the worst, and this many spread over all.
_WORST, _SPREAD = 6, 6


def evaluate(
    avatar: Avatar,
    dataset: Dataset,
    views: Sequence[View],
    progress: Callable[[int, int], None] | None = None,
    measures: Measures | None = None,
) -> list[Frame]:
    """Render each view at the dataset's own frame size and compare it with its picture. measures: those by networks,
    left out where there are none."""
    frames, film = list[Frame](), Film(avatar, dataset)
    last: dict[int, tuple[int, Pixels, Pixels]] = {}  # by camera
    for i, view in enumerate(views):
        image, truth = film.draw(view), dataset.picture(view).full()
        shaking = _flicker(dataset, view, image, truth, last.get(view.camera))
        metrics = frame_metrics(image, truth)
        looked = measures.look(image, truth) if measures is not None else Looked()
        camera, split = dataset.camera_names[view.camera], dataset.split[view.row]
        frames.append(Frame(view, camera, split, metrics, shaking, looked=looked))
        last[view.camera] = view.row, image, truth
        if progress:
            progress(i + 1, len(views))
    return frames


def _flicker(
    dataset: Dataset, view: View, image: Pixels, truth: Pixels, before: tuple[int, Pixels, Pixels] | None
) -> float:
    """metrics.flicker of a view against the row before it. before: row, render and truth last seen by its camera."""
    if before is None or before[0] != dataset.row_before(view.row):
        return math.nan
    old, new = dataset.camera(View(before[0], view.camera)), dataset.camera(view)
    moved = [_reframed(x, old, new) for x in before[1:]]
    return flicker(image, moved[0], truth, moved[1])


def _reframed(image: Pixels, old: Camera, new: Camera) -> Pixels:
    """A picture (H, W, 4) as the crop camera of the next frame would have seen it, which may have moved on."""
    if np.array_equal(old.K, new.K):
        return image
    picture = cut(np.ascontiguousarray(image))
    rgba = cut_crop(picture, old, new).rgba.transpose(1, 2, 0).copy()
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1 / 255)
    return np.asarray(rgba.clip(0, 1), np.float32)


def heldout_figures(
    avatar: Avatar,
    datasets: Sequence[Dataset],
    trained_cameras: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    most: int = 24,
) -> dict[str, float]:
    """Figures for the avatar's file, of what it was never shown: rows of other splits than train, seen by held-out
    cameras. Means over at most ``most`` views, spread evenly; {} where the datasets hold none.

    Keys: heldout_views (their number), heldout_psnr_box, heldout_ssim_box, heldout_mask_iou.
    """
    places = [
        (dataset, View(row, camera))
        for dataset in datasets
        for camera in sorted(set(dataset.heldout_cameras) - set(dataset.camera_indices(trained_cameras)))
        for row in range(len(dataset.split))
        if dataset.split[row] != "train" and dataset.usable[row]
    ]
    places = [(dataset, view) for dataset, view in places if dataset.has_picture(view)]
    count = min(most, len(places))
    chosen = [places[i * len(places) // count] for i in range(count)]
    frames: list[Frame] = []
    mixed, training = avatar.mixed_precision, avatar.training
    avatar.mixed_precision = False  # as the file will be rendered
    avatar.eval()
    for dataset, view in chosen:
        frames += evaluate(avatar, dataset, [view])
        if progress:
            progress(len(frames), count)
    avatar.mixed_precision = mixed
    avatar.train(training)
    means = mean_figures(frames)
    figures = {f"heldout_{name}": means[name] for name in ("psnr_box", "ssim_box", "mask_iou")}
    known = {name: value for name, value in figures.items() if value is not None}
    return {"heldout_views": count, **known} if known else {}


def render_view(avatar: Avatar, dataset: Dataset, view: View) -> npt.NDArray[np.float32]:
    """One view as ``evaluate`` compares it; see training.film."""
    return Film(avatar, dataset).draw(view)


def frames_to_show(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """The worst frames, and some spread over all."""
    spread = np.linspace(0, len(frames) - 1, min(_SPREAD, len(frames))).astype(int)
    return worst_first(frames)[:_WORST], [frames[k] for k in spread]


def write_pictures(avatar: Avatar, dataset: Dataset, frames: Sequence[Frame], folder: Path) -> None:
    """truth | render | four times the difference, over white, of the worst frames and of some spread over all."""
    folder.mkdir(parents=True, exist_ok=True)
    worst, spread = frames_to_show(frames)
    chosen = [(f"worst{i}", frame) for i, frame in enumerate(worst)]
    chosen += [(f"frame{i}", frame) for i, frame in enumerate(spread)]
    for name, frame in chosen:
        truth = over(dataset.picture(frame.view).full(), 1.0)
        image = over(render_view(avatar, dataset, frame.view), 1.0)
        picture = np.concatenate([truth, image, 1 - np.clip(np.abs(image - truth) * 4, 0, 1)], 1)
        write_png(folder / f"{name}_{frame.camera}_{frame.view.row:05d}.png", picture)


@dataclass(frozen=True)
class Choice:
    """Which frames to compare: cameras and splits by name, every N-th row of them; of the four quadrants, at most
    ``most`` frames of each. Cameras and splits that are not named: held-out cameras, without those that were trained
    on all the same where others are left, and every split but train; all, for the quadrants."""

    cameras: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    every: int = 1
    quadrants: bool = False
    most: int = 40

    def __post_init__(self) -> None:
        if min(self.every, self.most) < 1:
            raise BackendError("evaluate-options", "--every and --most must be at least 1.")

    def views(self, dataset: Dataset, trained: Iterable[int]) -> list[View]:
        """The views chosen. trained: indices of the cameras that were trained on. Raises BackendError with a sentence
        when there are none, or pictures are missing."""
        wanted = self.splits or tuple(sorted(set(dataset.split) - (set() if self.quadrants else {"train"})))
        if not wanted:
            raise BackendError(
                "dataset-split", f"{dataset.path} holds nothing but split train; name it with --split train."
            )
        cameras = self.cameras or ("all",)
        if not self.cameras and not self.quadrants:
            if not dataset.heldout_cameras:
                raise BackendError(
                    "dataset-cameras", f"{dataset.path} holds no camera out; name those to compare with --cameras, or "
                    "ask for --quadrants.",
                )  # fmt: skip
            # Where all were trained on all the same there is nothing better to compare, which known_limits tells.
            unseen = sorted(set(dataset.heldout_cameras) - set(trained)) or dataset.heldout_cameras
            cameras = tuple(dataset.camera_names[i] for i in unseen)
        views = dataset.views(wanted, cameras)
        rows = set(sorted({view.row for view in views})[:: self.every])
        return [view for view in views if view.row in rows]

    def groups(self, dataset: Dataset, trained: Iterable[int]) -> dict[str, list[View]]:
        """The views chosen, by quadrant; under '' where those are not asked for. trained: indices of the cameras that
        were trained on. Raises as ``views`` does, and where all that is left was trained on."""
        trained = frozenset(trained)
        views = self.views(dataset, trained)
        return quadrant_views(dataset, views, trained, self.most) if self.quadrants else {"": views}


def evaluate_groups(
    avatar: Avatar, dataset: Dataset, groups: dict[str, list[View]], measures: Measures | None = None
) -> list[Frame]:
    """Compare the views of each group, the group's name kept as their quadrant. Pictures are read before the first is
    drawn: raises BackendError when one is unusable or every mask is empty."""
    dataset.preload([view for views in groups.values() for view in views])
    frames: list[Frame] = []
    for name, views in groups.items():
        some = evaluate(avatar, dataset, views, Reporter().progress(name.capitalize() or "Evaluating"), measures)
        frames += [replace(frame, quadrant=name) for frame in some]
    return frames
