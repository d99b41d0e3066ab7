# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking through a whole dataset, every picture of it: what the check and the report stand on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...neural_backend.clip import NPZ_ERRORS
from ...neural_backend.interface.messages import BackendError
from ..dataset import Dataset, View, read_dataset
from ..pictures import Picture, load_picture
from .bones import lengths
from .quality import BONES, FIGURE, FIGURES, Directions, directions, inside_share, picture_figures, project
from .tables import Table

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

_BATCH = 32


@dataclass(frozen=True)
class Making:
    """What only the making of a dataset could see (its quality.npz), T rows by C cameras.

    reprojection: (T, C, 137) pixels of the film, NaN where no joint was detected. detected: (T, C, 3) share of the
    body's, hands' and face's joints that the pose model found. offsets: (C,) frames by which a camera was out of step.
    """

    reprojection: Floats
    detected: Floats
    offsets: Floats


@dataclass(frozen=True)
class Survey:
    """A dataset looked through.

    stored: (T, C) bool, pictures that are there and sound. expected: (T, C) bool, pictures that should be there.
    figures: (T, C, 12) FIGURES. inside: (T, C) share of the body's joints that the mask holds. pixels: (T, C, 137, 2)
    joints in the pictures. lengths: (T, 10) of BONES, metres. broken: a sentence for each picture that cannot be read.
    scale: (C,) median pixels of the film to one stored pixel; 1 where it is not known.
    """

    dataset: Dataset
    expected: Bools
    stored: Bools
    figures: Floats
    inside: Floats
    pixels: Floats
    lengths: Array
    directions: Directions
    scale: Array
    broken: tuple[str, ...]
    making: Making | None

    def figure(self, name: str) -> Floats:
        """(T, C) one of FIGURES; NaN where there is no picture."""
        return np.asarray(self.figures[..., FIGURE[name]])


def look_through(folder: Path, progress: Progress, table: Path | None = None) -> Survey:
    """Read all of a dataset. table: keeps what was seen, so that a killed survey goes on behind it.

    Raises BackendError as read_dataset does, and 'dataset-corrupt' for a quality.npz that cannot be understood.
    """
    data = read_dataset(folder)
    rows, count = len(data.joints), len(data.cameras)
    frames = data.frames
    base = np.stack([camera.K for camera in data.cameras])
    K = np.asarray(np.broadcast_to(base, (rows, count, 3, 3)) if frames is None else frames.K)
    expected = np.ones((rows, count), bool) if frames is None else frames.valid.copy()
    pixels = project(data.cameras, K, data.joints)
    broken: list[str] = []
    flat = np.full((rows * count, len(FIGURES) + 1), np.nan, np.float32)
    views = [View(int(r), int(c)) for c in range(count) for r in np.flatnonzero(expected[:, c])]
    for view, values in _look(data, views, pixels, broken, progress, table):
        flat[view.row * count + view.camera] = values
    seen = flat.reshape(rows, count, -1)
    return Survey(
        data, expected, np.isfinite(seen[..., FIGURE["area"]]), seen[..., :-1], seen[..., -1], pixels,
        lengths(data.joints, data.confidence, BONES), directions(data.cameras, data.joints, data.confidence),
        _film_scale(folder, K), tuple(broken), _read_making(folder, rows, count),
    )  # fmt: skip


def _look(
    data: Dataset, views: list[View], pixels: Floats, broken: list[str], progress: Progress, table: Path | None
) -> Iterator[tuple[View, Floats]]:
    """Each view with (13,) its FIGURES and the share of joints inside its mask."""
    count = len(data.cameras)

    def number(view: View) -> int:
        return view.row * count + view.camera

    def one(view: View) -> Floats | str:
        camera = data.cameras[view.camera]
        try:
            picture = load_picture(data.picture_path(view), camera.width, camera.height)
        except BackendError as error:
            return error.message
        return _measure(data, view, picture, pixels[view.row, view.camera])

    kept = Table(table, len(FIGURES) + 2) if table is not None else None
    try:
        known = {int(row[0]): row[1:] for row in kept.rows} if kept is not None else {}
        for done, view in enumerate(views):
            if number(view) in known:
                progress(done + 1, len(views))
                yield view, known[number(view)]
        rest = iter([view for view in views if number(view) not in known])
        done = len(views) - sum(number(view) not in known for view in views)
        with ThreadPoolExecutor(2) as pool:
            while batch := list(islice(rest, _BATCH)):
                for view, values in zip(batch, pool.map(one, batch), strict=True):
                    done += 1
                    progress(done, len(views))
                    if isinstance(values, str):
                        broken.append(values)
                        continue
                    if kept is not None:
                        kept.append(np.concatenate([np.array([number(view)], np.float32), values]))
                    yield view, values
    finally:
        if kept is not None:
            kept.close()


def straight(picture: Picture) -> npt.NDArray[np.uint8]:
    """(H, W, 4) uint8 RGBA with straight alpha of a decoded picture."""
    out = np.zeros((picture.height, picture.width, 4), np.uint8)
    h, w = picture.pixels.shape[:2]
    if h and w:
        part = out[picture.y : picture.y + h, picture.x : picture.x + w]
        part[...] = picture.pixels
        soft = (part[..., 3] > 0) & (part[..., 3] < 255)  # elsewhere premultiplied and straight are the same
        edge = part[soft].astype(np.float32)
        edge[:, :3] *= 255 / edge[:, 3:]
        part[soft] = np.minimum(np.rint(edge), 255)
    return out


def _measure(data: Dataset, view: View, picture: Picture, pixels: Floats) -> Floats:
    rgba = straight(picture)
    reach = max(2, round(0.012 * picture.height))
    share = inside_share(pixels, data.confidence[view.row], rgba[..., 3], reach)
    return np.concatenate([picture_figures(rgba, data.filmed(view)), np.array([share], np.float32)])


def _film_scale(folder: Path, K: npt.NDArray[np.float64]) -> Array:
    out = np.ones(K.shape[1])
    for c, entry in enumerate(json.loads((folder / "cameras.json").read_text("utf-8"))["cameras"]):
        try:
            out[c] = float(entry["film"]["K"][1][1]) / float(np.median(K[:, c, 1, 1]))
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError):
            continue  # the older layout does not say how the film was
    return out


def _read_making(folder: Path, rows: int, count: int) -> Making | None:
    path = folder / "quality.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as data:
            making = Making(*(np.asarray(data[key], np.float32) for key in ("reprojection", "detected", "offsets")))
        shapes = making.reprojection.shape, making.detected.shape, making.offsets.shape
        if shapes != ((rows, count, 137), (rows, count, 3), (count,)):
            raise ValueError(f"the shapes are {shapes}")
    except (*NPZ_ERRORS, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackendError(
            "dataset-corrupt", f"{path} cannot be understood ({reason}); delete it, the dataset is valid without it."
        ) from error
    return making
