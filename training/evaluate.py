# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing an avatar's pictures with a dataset's, by the definitions in training.metrics."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.avatar import Avatar
from ..neural_backend.avatar_file import load_avatar
from ..neural_backend.interface.avatar_header import read_header
from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.png import write_png
from ..neural_backend.renderer import choose_device, render_rgba
from .crops import cut_crop
from .dataset import Dataset, View, read_dataset
from .metrics import FrameMetrics, flicker, frame_metrics, over
from .pictures import cut
from .quadrants import QUADRANTS, quadrant_views, trained_cameras
from .reporting import Reporter

_TITLES = {
    "psnr": "PSNR",
    "psnr_box": "PSNR box",
    "ssim": "SSIM",
    "ssim_box": "SSIM box",
    "mask_iou": "mask IoU",
    "ms_ssim_box": "MS-SSIM box",
    "flip_box": "FLIP box",
    "sharpness_box": "sharpness",
    "flicker": "flicker",
}
Pixels = npt.NDArray[np.float32]

#: Frames shown by --pictures: this many of the worst, and this many spread over all.
_WORST, _SPREAD = 6, 6


@dataclass(frozen=True)
class Frame:
    """One compared frame. flicker: against the frame before it (metrics.flicker), NaN where that was not compared.
    quadrant: which one it belongs to (training.quadrants), '' where that is not asked."""

    view: View
    camera: str
    split: str
    metrics: FrameMetrics
    flicker: float = math.nan
    quadrant: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name; NaN where one has no meaning."""
        return {**asdict(self.metrics), "flicker": self.flicker}


def mean_figures(frames: Sequence[Frame]) -> dict[str, float | None]:
    """The mean of each figure over the frames in which it has a meaning, rounded; None where it has none in any."""
    every = [frame.figures for frame in frames]
    names = every[0] if every else {**dict.fromkeys((f.name for f in fields(FrameMetrics)), 0.0), "flicker": 0.0}
    known = {name: [row[name] for row in every if row[name] == row[name]] for name in names}
    return {name: round(float(np.mean(values)), 5) if values else None for name, values in known.items()}


def evaluate(
    avatar: Avatar, dataset: Dataset, views: Sequence[View], progress: Callable[[int, int], None] | None = None
) -> list[Frame]:
    """Render each view at the dataset's own frame size and compare it with its picture."""
    frames: list[Frame] = []
    last: dict[int, tuple[int, Pixels, Pixels]] = {}  # by camera
    for i, view in enumerate(views):
        image, truth = render_view(avatar, dataset, view), dataset.picture(view).full()
        shaking = _flicker(dataset, view, image, truth, last.get(view.camera))
        metrics = frame_metrics(image, truth)
        frames.append(Frame(view, dataset.camera_names[view.camera], dataset.split[view.row], metrics, shaking))
        last[view.camera] = view.row, image, truth
        if progress:
            progress(i + 1, len(views))
    return frames


def _flicker(
    dataset: Dataset, view: View, image: Pixels, truth: Pixels, before: tuple[int, Pixels, Pixels] | None
) -> float:
    """metrics.flicker of a view against the row before it. before: row, render and truth last seen by its camera."""
    if before is None or before[0] != view.row - 1 or dataset.clip[view.row] != dataset.clip[before[0]]:
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
    """(H, W, 4) float32, straight alpha, display sRGB: the avatar as the view's camera should have seen it. Empty where
    the real camera saw nothing, as the truth is."""
    image = render_rgba(avatar, dataset.joints[view.row], dataset.confidence[view.row], dataset.camera(view))
    x0, y0, x1, y1 = dataset.filmed(view)
    x, y = np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5
    inside = ((x >= x0) & (x <= x1)) & ((y >= y0) & (y <= y1))[:, None]
    return np.asarray(image * inside[..., None], np.float32)


def worst_first(frames: Sequence[Frame]) -> list[Frame]:
    """Frames by SSIM in the box, the worst first; those without a person last."""
    return sorted(frames, key=lambda f: (f.metrics.ssim_box != f.metrics.ssim_box, f.metrics.ssim_box))


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
    figures = {name: round(value, 5) if value == value else None for name, value in frame.figures.items()}
    where = {"row": frame.view.row, "camera": frame.camera, "split": frame.split, "quadrant": frame.quadrant}
    return {**where, **figures}


def table(result: dict[str, Any]) -> str:
    """The means as a text table."""
    rows = [("", "frames", *_TITLES.values())]
    groups = result["quadrants"] or {**result["splits"], **result["cameras"]}
    for name, means in [*groups.items(), ("all", result["all"])]:
        values = [means[key] for key in _TITLES]
        digits = [2 if "psnr" in key or key == "flicker" else 4 for key in _TITLES]
        cells = ["-" if v is None else f"{v:.{d}f}" for v, d in zip(values, digits, strict=True)]
        rows.append((name, str(means["frames"]), *cells))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def write_pictures(avatar: Avatar, dataset: Dataset, frames: Sequence[Frame], folder: Path) -> None:
    """truth | render | four times the difference, over white, of the worst frames and of some spread over all."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [(f"worst{i}", frame) for i, frame in enumerate(worst_first(frames)[:_WORST])]
    spread = np.linspace(0, len(frames) - 1, min(_SPREAD, len(frames))).astype(int)
    chosen += [(f"frame{i}", frames[k]) for i, k in enumerate(spread)]
    for name, frame in chosen:
        truth = over(dataset.picture(frame.view).full(), 1.0)
        image = over(render_view(avatar, dataset, frame.view), 1.0)
        picture = np.concatenate([truth, image, 1 - np.clip(np.abs(image - truth) * 4, 0, 1)], 1)
        write_png(folder / f"{name}_{frame.camera}_{frame.view.row:05d}.png", picture)


def evaluate_quadrants(avatar: Avatar, dataset: Dataset, trained: Iterable[int], most: int) -> list[Frame]:
    """Compare up to ``most`` frames of each quadrant. trained: indices of the cameras that were trained on."""
    frames: list[Frame] = []
    for name, views in quadrant_views(dataset, trained, most).items():
        some = evaluate(avatar, dataset, views, Reporter().progress(name.capitalize()))
        frames += [replace(frame, quadrant=name) for frame in some]
    return frames


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


@dataclass(frozen=True)
class Choice:
    """Which frames to compare: cameras and splits by name (no split: every one but train), every N-th row of them; or
    the four quadrants, at most ``most`` frames of each."""

    cameras: tuple[str, ...] = ("heldout",)
    splits: tuple[str, ...] = ()
    every: int = 1
    quadrants: bool = False
    most: int = 40

    def __post_init__(self) -> None:
        if min(self.every, self.most) < 1:
            raise BackendError("evaluate-options", "--every and --most must be at least 1.")

    def views(self, dataset: Dataset) -> list[View]:
        """The views chosen; raises BackendError with a sentence when there are none."""
        wanted = self.splits or tuple(sorted(set(dataset.split) - {"train"}))
        if not wanted:
            raise BackendError(
                "dataset-split", f"{dataset.path} holds nothing but split train; name it with --split train."
            )
        views = dataset.views(wanted, self.cameras)
        rows = set(sorted({view.row for view in views})[:: self.every])
        return [view for view in views if view.row in rows]


def evaluate_command(
    avatar_path: Path,
    dataset_path: Path,
    choice: Choice,
    device: str = "auto",
    json_path: Path | None = None,
    pictures: Path | None = None,
    csv_path: Path | None = None,
) -> int:
    """The command `neural-avatar evaluate`; see training.commands. Raises BackendError with a sentence for the user."""
    avatar = load_avatar(avatar_path, choose_device(device))
    dataset = read_dataset(dataset_path)
    if choice.quadrants:
        frames = evaluate_quadrants(avatar, dataset, trained_cameras(read_header(avatar_path), dataset), choice.most)
    else:
        frames = evaluate(avatar, dataset, choice.views(dataset), Reporter().progress("Evaluating"))
    result = summary(frames)
    print(table(result))
    for frame in worst_first(frames)[:3]:
        ssim, decibels = frame.metrics.ssim_box, frame.metrics.psnr_box
        print(f"worst: {frame.camera} {frame.view.row:05d}, SSIM box {ssim:.4f}, PSNR box {decibels:.2f}")
    if json_path:
        about = {"avatar": avatar_path.name, "dataset": dataset_path.resolve().name, "method": avatar.config.method}
        temporary = json_path.with_name(json_path.name + ".tmp")
        temporary.write_text(json.dumps({**about, **result}, indent=1) + "\n", "utf-8")
        temporary.replace(json_path)
    if csv_path:
        _write_csv(csv_path, result["frames"])
    if pictures:
        write_pictures(avatar, dataset, frames, pictures)
    return 0
