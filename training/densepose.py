# SPDX-License-Identifier: GPL-3.0-or-later
"""DensePose's results for a dataset's pictures: which belong to which view, and how a crop's camera sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.messages import BackendError
from .batches import Shot
from .crops import picture_to_crop
from .footage.readers.densepose import Surface, read_densepose
from .spread import spread

_DUMPS = (".pkl", ".pickle", ".pt", ".pth")
#: Results whose outline shares less than this with the masks, on average, were not made from these pictures.
_LEAST_OVERLAP = 0.3
#: Pictures in which that is looked at, spread over all.
_LOOKED_AT = 200

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Results:
    """DensePose's results of shots, None where there is none. overlap: mean IoU of their outlines with the masks, over
    some of them."""

    surfaces: tuple[Surface | None, ...]
    overlap: float = field(compare=False)

    @property
    def found(self) -> int:
        """How many shots have a result."""
        return sum(surface is not None for surface in self.surfaces)

    def fingerprint(self) -> str:
        """A digest of all results, equal for equal results wherever they lie."""
        digest = hashlib.sha256()
        for surface in self.surfaces:
            if surface is not None:
                digest.update(f"{surface.x} {surface.y} {surface.labels.shape}".encode())
                digest.update(surface.labels.tobytes() + surface.uv.tobytes())
            digest.update(b";")
        return digest.hexdigest()


def places(paths: Sequence[str], folders: Sequence[Path]) -> list[Path]:
    """The results' place for each dataset folder. Raises BackendError 'densepose-missing' where paths are missing, or
    not one for each."""
    found = [Path(path) for path in paths]
    if len(found) != len(folders):
        raise BackendError(
            "densepose-missing", f"--densepose names {len(found)} places for {len(folders)} datasets; give one for "
            "each, in the order of the datasets.",
        )  # fmt: skip
    for path in found:
        if not path.exists():
            raise BackendError("densepose-missing", f"There is no {path}; check --densepose.")
    return found


def find_results(paths: Sequence[str], shots: Sequence[Shot]) -> Results:
    """The results of shots. paths: as TrainConfig.densepose, one for each dataset of the shots, in their order.

    Results carry the number of their picture, which is its row. Raises BackendError 'densepose-missing' when there is
    none for any shot, 'densepose-mismatch' when they do not lie where the masks do, and what read_densepose raises.
    """
    datasets = list({id(shot.dataset): shot.dataset for shot in shots}.values())
    by_place: dict[tuple[int, int], dict[int, Surface]] = {}
    for dataset, path in zip(datasets, places(paths, [d.path for d in datasets]), strict=True):
        rows: dict[int, set[int]] = {}
        for shot in shots:
            if shot.dataset is dataset:
                rows.setdefault(shot.view.camera, set()).add(shot.view.row)
        for camera, wanted in rows.items():
            own = _of_camera(path, dataset.camera_names[camera], len(rows) == 1)
            results = read_densepose(own) if own is not None else ()
            by_place[id(dataset), camera] = {number: result for number, result in results if number in wanted}
    surfaces = [by_place[id(shot.dataset), shot.view.camera].get(shot.view.row) for shot in shots]
    found = [(shot, surface) for shot, surface in zip(shots, surfaces, strict=True) if surface is not None]
    if not found:
        raise BackendError(
            "densepose-missing",
            f"No result in {', '.join(paths)} belongs to a picture that is trained on; run DensePose on the dataset's "
            "own pictures, and keep their numbers and a folder (or dump) for each camera, named as it is.",
        )
    overlap = float(np.mean([_overlap(*one) for one in spread(found, _LOOKED_AT, lambda one: one[0].film)]))
    if overlap < _LEAST_OVERLAP:
        raise BackendError(
            "densepose-mismatch",
            f"The results in {', '.join(paths)} lie beside the masks (they share {overlap:.0%} of their area); run "
            "DensePose on the dataset's own pictures, in their own size.",
        )
    return Results(tuple(surfaces), overlap)


def _of_camera(path: Path, name: str, alone: bool) -> Path | None:
    """The folder or dump of a camera inside ``path``; ``path`` itself where there is but one camera."""
    for own in (path / name, *(path / f"{name}{ending}" for ending in _DUMPS)):
        if own.exists():
            return own
    return path if alone and (path.is_file() or any(path.glob("*.png"))) else None


def _overlap(shot: Shot, surface: Surface) -> float:
    picture = shot.dataset.picture(shot.view)
    mask = picture.full()[..., 3] > 0.5
    height, width = mask.shape
    person = surface.full(width, height).labels > 0
    # What reaches beyond the picture counts as well: it comes from a larger one.
    either = (
        int(np.count_nonzero(mask | person)) + int(np.count_nonzero(surface.labels)) - int(np.count_nonzero(person))
    )
    return int(np.count_nonzero(mask & person)) / max(either, 1)


def seen_by(surface: Surface, source: Camera, target: Camera) -> tuple[Labels, Floats]:
    """A result as a crop's camera sees it: part (H, W) int64, 0 background, and coordinates (2, H, W) float32.

    Parts are the nearest pixel's. Coordinates are interpolated between the neighbours of that part alone: those of
    another part lie on another chart, and a mean of both would lie on neither.
    """
    y, x = np.mgrid[: target.height, : target.width] + 0.5
    back = np.linalg.inv(picture_to_crop(source, target))
    u, v, w = np.tensordot(back, np.stack([x, y, np.ones_like(x)]), 1)
    u, v = u / w - 0.5 - surface.x, v / w - 0.5 - surface.y
    height, width = surface.labels.shape
    labels = np.pad(surface.labels, 2).astype(np.int64)
    uv = np.pad(surface.uv, ((0, 0), (2, 2), (2, 2)))
    # Beyond the map's own border of nothing there is nothing either.
    u, v = np.clip(u, -2, width).astype(np.float32) + 2, np.clip(v, -2, height).astype(np.float32) + 2
    part = labels[np.rint(v).astype(int), np.rint(u).astype(int)]
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    total, mean = np.zeros(u.shape, np.float32), np.zeros((2, *u.shape), np.float32)
    for row, wy in ((top, 1 - (v - top)), (top + 1, v - top)):
        for column, wx in ((left, 1 - (u - left)), (left + 1, u - left)):
            weight = wx * wy * (labels[row, column] == part)
            total += weight
            mean += weight * uv[:, row, column]
    return part, np.asarray(mean / np.maximum(total, 1e-6) * (part > 0), np.float32)
