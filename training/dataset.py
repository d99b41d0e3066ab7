# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a dataset folder: joints, calibrated cameras and masked pictures of one person.

    cameras.json           "cameras": [{name, K, R, t, width, height}], "train_cameras", "heldout_cameras"
    joints.npz             joints (T, J, 3) world metres, names (J); optional confidence (T, J), split (T), clip (T)
    frames.npz             optional: K (T, C, 3, 3), valid (T, C), filmed (T, C, 4), for pictures stored as crops
    images/NAME/NNNNN.png  RGBA, display sRGB, straight alpha = the mask; NNNNN is the row of joints.npz

docs/dataset.md tells the rest. Conventions: x_cam = R x_world + t, OpenCV axes, pixel centres at +0.5, world Z up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.clip import NPZ_ERRORS
from ..neural_backend.interface.body import REQUIRED_JOINTS
from ..neural_backend.interface.camera import Camera, check_calibration
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.interface.skeleton import INDEX, reorder
from .frame_table import FrameTable, read_frame_table
from .pictures import Box, Picture, PictureCache


@dataclass(frozen=True)
class View:
    """One picture of a dataset: the row of joints.npz and the index of the camera."""

    row: int
    camera: int


@dataclass(frozen=True)
class Dataset:
    """A dataset folder, read and checked.

    joints: (T, 137, 3) float32 world metres. confidence: (T, 137) float32, 0 where absent. split, clip: T names.
    usable: (T,) bool, False for rows that lack a joint of the trunk. train_cameras, heldout_cameras: indices into
    cameras, whose width and height are the stored pictures'; K of a picture is that of ``camera``. frames: what changes
    from picture to picture, None where nothing does. times: (T,) seconds, None where nothing is said of time.
    """

    path: Path
    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    split: tuple[str, ...]
    clip: tuple[str, ...]
    usable: npt.NDArray[np.bool_]
    cameras: tuple[Camera, ...]
    camera_names: tuple[str, ...]
    train_cameras: tuple[int, ...]
    heldout_cameras: tuple[int, ...]
    credit: str = ""
    frames: FrameTable | None = None
    times: npt.NDArray[np.float64] | None = None
    pictures: PictureCache = field(default_factory=PictureCache, repr=False, compare=False)

    def row_before(self, row: int) -> int | None:
        """The row before in the same clip; None at a clip's beginning and after a gap in time (over one and a half of
        the clip's usual steps)."""
        if row < 1 or self.clip[row] != self.clip[row - 1] or not self.usable[row - 1]:
            return None
        apart = None if self.times is None else self.times[row] - self.times[row - 1]
        if apart is not None and not 0 < apart <= 1.5 * self._usual_steps[self.clip[row]]:
            return None
        return row - 1

    @cached_property
    def _usual_steps(self) -> dict[str, float]:
        """Seconds from row to row, by clip; of clips with two rows or more."""
        assert self.times is not None
        clips = np.array(self.clip)
        times = {name: self.times[clips == name] for name in dict.fromkeys(self.clip)}
        return {name: float(np.median(np.diff(own))) for name, own in times.items() if len(own) > 1}

    def picture_path(self, view: View) -> Path:
        """Where the picture of a view lies."""
        return self.path / "images" / self.camera_names[view.camera] / f"{view.row:05d}.png"

    def camera(self, view: View) -> Camera:
        """The camera that sees just what the picture of a view shows."""
        camera = self.cameras[view.camera]
        return camera if self.frames is None else self.frames.camera(view.row, view.camera, camera)

    def filmed(self, view: View) -> Box:
        """The part of a view's picture that was filmed, x0, y0, x1, y1 in its pixels."""
        if self.frames is None:
            camera = self.cameras[view.camera]
            return 0.0, 0.0, float(camera.width), float(camera.height)
        x0, y0, x1, y1 = self.frames.filmed[view.row, view.camera].tolist()
        return x0, y0, x1, y1

    def listed(self, view: View) -> bool:
        """Should there be a picture of the view? In frames where nobody was found there is none."""
        return self.frames is None or bool(self.frames.valid[view.row, view.camera])

    def has_picture(self, view: View) -> bool:
        """Is there a picture of the view?"""
        return self.listed(view) and self.picture_path(view).is_file()

    def picture(self, view: View) -> Picture:
        """The decoded picture of a view (cached); raises BackendError 'dataset-picture'."""
        camera = self.cameras[view.camera]
        return self.pictures.get(self.picture_path(view), camera.width, camera.height)

    def picture_digest(self, view: View) -> bytes:
        """A digest of a view's picture; raises BackendError 'dataset-picture'."""
        camera = self.cameras[view.camera]
        return self.pictures.digest(self.picture_path(view), camera.width, camera.height)

    def camera_indices(self, choice: Sequence[str]) -> tuple[int, ...]:
        """Indices of the cameras named by 'train', 'heldout', 'all' or their own names.

        Raises BackendError 'dataset-cameras' for an unknown name or an empty choice.
        """
        groups = {
            "train": self.train_cameras,
            "heldout": self.heldout_cameras,
            "all": tuple(range(len(self.cameras))),
            **{name: (i,) for i, name in enumerate(self.camera_names)},
        }
        known = ", ".join(groups)
        for name in choice:
            if name not in groups:
                raise BackendError("dataset-cameras", f"{self.path} has no camera {name!r}; choose from {known}.")
        indices = tuple(sorted({i for name in choice for i in groups[name]}))
        if not indices:
            raise BackendError(
                "dataset-cameras", f"{self.path} names no {' '.join(choice)} cameras; choose from {known}."
            )
        return indices

    def views(self, split: Iterable[str], cameras: Sequence[str]) -> list[View]:
        """Every view of the given splits and cameras in which somebody was found, in order of rows; their pictures are
        checked to exist.

        Raises BackendError 'dataset-split', 'dataset-cameras' or 'dataset-picture' when there is none or some are
        missing.
        """
        wanted, indices = set(split), self.camera_indices(cameras)
        rows = [i for i, name in enumerate(self.split) if name in wanted and self.usable[i]]
        if not rows:
            known = ", ".join(sorted(set(self.split)))
            raise BackendError(
                "dataset-split", f"{self.path} has no usable rows of split {' '.join(sorted(wanted))}; it has {known}."
            )
        views = [view for row in rows for camera in indices if self.listed(view := View(row, camera))]
        if not views:
            where = ", ".join(self.camera_names[i] for i in indices)
            raise BackendError(
                "dataset-split", f"{self.path}: nobody was found by {where} in split {' '.join(sorted(wanted))}."
            )
        missing = [path for path in map(self.picture_path, views) if not path.is_file()]
        if missing:
            raise BackendError(
                "dataset-picture",
                f"{len(missing)} of {len(views)} pictures are missing in {self.path}, the first is {missing[0]}; "
                "restore them, or leave their cameras out with --cameras.",
            )
        return views

    def training_views(self, cameras: Sequence[str] = ("train",)) -> list[View]:
        """The views that may be trained on: rows of split 'train' seen by the train cameras (or the cameras chosen).

        Raises BackendError 'dataset-frames' where they show a single pose, and what ``views`` raises.
        """
        views = self.views(("train",), cameras)
        if len({view.row for view in views}) < 2:
            raise BackendError(
                "dataset-frames",
                f"{self.path} holds a single frame to train on; an avatar is learned from somebody who moves: give "
                "some seconds of film.",
            )
        return views

    def not_held_out(self, cameras: Sequence[str] = ("train",)) -> tuple[str, ...]:
        """What an avatar that was trained by these cameras cannot be judged by, as clauses with the remedy: cameras,
        rows, both, or () where both are held out."""
        lacks = []
        if set(self.heldout_cameras) <= set(self.camera_indices(cameras)):
            lacks.append("no camera (heldout_cameras in cameras.json)")
        if all(name == "train" for name in self.split):
            lacks.append("no rows (split in joints.npz; `footage --holdout` makes them)")
        return tuple(lacks)

    def preload(self, views: Sequence[View]) -> None:
        """Decode the pictures of ``views`` into memory; raises BackendError when one is unreadable or all masks are
        empty."""
        with ThreadPoolExecutor(2) as pool:
            empty = list(pool.map(lambda view: self.picture(view).empty, views))
        if views and all(empty):
            raise BackendError(
                "dataset-masks",
                f"Every mask of {len(views)} pictures in {self.path} is empty; the alpha of the pictures must be the "
                "person's mask.",
            )


def read_dataset(path: str | Path, pictures: PictureCache | None = None) -> Dataset:
    """Read and check a dataset folder. pictures: a cache shared by several datasets.

    Raises BackendError 'dataset-missing' or 'dataset-corrupt' with a sentence that names the file and the remedy.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BackendError("dataset-missing", f"There is no dataset folder {folder}.")
    cameras, names, groups, credit = _read_cameras(folder / "cameras.json")
    joints, confidence, split, clip, times = _read_joints(folder / "joints.npz")
    usable = np.asarray((confidence[:, [INDEX[name] for name in REQUIRED_JOINTS]] > 0).all(1))
    if not usable.any():
        needed = ", ".join(REQUIRED_JOINTS)
        raise BackendError("dataset-corrupt", f"No row of {folder / 'joints.npz'} has finite {needed}.")
    frames = read_frame_table(folder / "frames.npz", len(joints), cameras, names)
    cache = pictures or PictureCache()
    return Dataset(
        folder, joints, confidence, split, clip, usable, cameras, names, *groups, credit, frames, times, cache
    )


def _read_cameras(
    path: Path,
) -> tuple[tuple[Camera, ...], tuple[str, ...], tuple[tuple[int, ...], tuple[int, ...]], str]:
    try:
        data: dict[str, Any] = json.loads(path.read_text("utf-8"))
        entries = data["cameras"]
        names = tuple(str(c["name"]) for c in entries)
        cameras = tuple(map(_camera, entries))
        groups = [_indices(data.get(key), names) for key in ("train_cameras", "heldout_cameras")]
    except FileNotFoundError:
        raise BackendError("dataset-missing", f"{path} is missing; a dataset needs its calibrated cameras.") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackendError(
            "dataset-corrupt", f"{path} cannot be understood ({reason}); see the dataset layout."
        ) from error
    if not cameras or len(set(names)) != len(names):
        raise BackendError("dataset-corrupt", f"{path} must hold at least one camera, each under a name of its own.")
    if any(name in (".", "..") or "/" in name or "\\" in name for name in names):
        raise BackendError("dataset-corrupt", f"{path}: a camera's name is a folder's name and may hold no slashes.")
    heldout = groups[1] or ()
    train = groups[0] if groups[0] is not None else tuple(i for i in range(len(names)) if i not in heldout)
    both = [names[i] for i in train if i in heldout]
    if both:
        raise BackendError(
            "dataset-corrupt", f"{path}: {both[0]} is both a train and a held-out camera; decide for one."
        )
    return cameras, names, (train, heldout), str(data.get("credit", ""))


def _camera(entry: dict[str, Any]) -> Camera:
    camera = Camera(entry["K"], entry["R"], entry["t"], int(entry["width"]), int(entry["height"]))
    try:
        check_calibration(camera)
    except ValueError as error:
        raise ValueError(f"camera {entry['name']}: {error}") from error
    return camera


def _indices(value: Any, names: tuple[str, ...]) -> tuple[int, ...] | None:
    if value is None:
        return None
    out = tuple(names.index(v) if isinstance(v, str) else int(v) for v in value)
    if any(not 0 <= i < len(names) for i in out):
        raise ValueError(f"a camera index is not below {len(names)}")
    return out


def _read_joints(
    path: Path,
) -> tuple[
    npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[str, ...], tuple[str, ...], npt.NDArray[np.float64] | None
]:
    try:
        with np.load(path, allow_pickle=False) as data:
            joints, names = data["joints"], [str(n) for n in data["names"]]
            if joints.ndim != 3 or joints.shape[2] != 3 or not len(joints):
                raise ValueError(f"joints must be (T, J, 3), not {joints.shape}")
            given = data["confidence"] if "confidence" in data.files else None
            if given is not None and given.shape != joints.shape[:2]:
                raise ValueError(f"confidence must be {joints.shape[:2]}, not {given.shape}")
            columns = []
            for key, default in (("split", "train"), ("clip", "")):
                column = tuple(str(v) for v in data[key]) if key in data else (default,) * len(joints)
                if len(column) != len(joints):
                    raise ValueError(f"{key} has {len(column)} entries for {len(joints)} rows")
                columns.append(column)
            times = np.asarray(data["times"], np.float64) if "times" in data.files else None
            if times is not None and times.shape != (len(joints),):
                raise ValueError(f"times must be ({len(joints)},), not {times.shape}")
            ordered, confidence = reorder(joints, names, given)
    except FileNotFoundError:
        raise BackendError(
            "dataset-missing", f"{path} is missing; a dataset needs the joints of every frame."
        ) from None
    except (*NPZ_ERRORS, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackendError(
            "dataset-corrupt", f"{path} cannot be understood ({reason}); see the dataset layout."
        ) from error
    return ordered, confidence, columns[0], columns[1], times
