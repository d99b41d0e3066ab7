# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's protocol (section 4, Table 1): cameras and motions that were trained on and that were not, crossed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..neural_backend.interface.avatar_header import AvatarHeader
from ..neural_backend.interface.messages import BackendError
from .dataset import Dataset, View
from .spread import spread

#: Name: were the camera, the motion trained on?
QUADRANTS: dict[str, tuple[bool, bool]] = {
    "seen camera, seen motion": (True, True),
    "seen camera, unseen motion": (True, False),
    "unseen camera, seen motion": (False, True),
    "unseen camera, unseen motion": (False, False),
}


def trained_cameras(header: AvatarHeader, dataset: Dataset) -> frozenset[int]:
    """Indices of the dataset's cameras that an avatar was trained on, as its file says; the dataset's train cameras
    where it does not say."""
    config = header.provenance.get("config")
    chosen = config.get("cameras") if isinstance(config, dict) else None
    names = tuple(str(c) for c in chosen) if isinstance(chosen, list) and chosen else ("train",)
    try:
        return frozenset(dataset.camera_indices(names))
    except BackendError:  # it was trained on another dataset, whose cameras have other names
        return frozenset(dataset.train_cameras)


def quadrant_views(dataset: Dataset, views: Iterable[View], trained: Iterable[int], most: int) -> dict[str, list[View]]:
    """The views of each quadrant, at most ``most``, spread evenly; in pairs of neighbouring rows, for the flicker.

    trained: indices of the cameras that were trained on. Quadrants without pictures are left out. Raises BackendError
    'dataset-split' when nothing but seen cameras and motions is left.
    """
    seen, own = frozenset(trained), sorted(views, key=lambda view: (view.row, view.camera))
    out = {}
    for name, known in QUADRANTS.items():
        some = [view for view in own if (view.camera in seen, dataset.split[view.row] == "train") == known]
        if some:
            out[name] = _pairs(dataset, some, most)
    if set(out) <= {"seen camera, seen motion"}:
        raise BackendError(
            "dataset-split",
            f"{dataset.path} has neither cameras nor motions that this avatar was not trained on; hold a camera out "
            "when you train (--cameras), or rows when you make the dataset (--holdout).",
        )
    return out


def absent_quadrants(found: Iterable[str]) -> str:
    """A sentence on the quadrants that are not among those found; '' where all four are."""
    absent = [name for name in QUADRANTS if name not in set(found)]
    if not absent:
        return ""
    return (
        f"Of the paper's four quadrants {len(absent)} could not be measured, for want of pictures: {'; '.join(absent)}."
    )


def _pairs(dataset: Dataset, views: Sequence[View], most: int) -> list[View]:
    """At most ``most`` of the views, spread evenly, in pairs of neighbouring rows of a camera where there are any."""
    known, rows = frozenset(views), [(view, dataset.row_before(view.row)) for view in views]
    pairs = [[View(row, view.camera), view] for view, row in rows if row is not None]
    pairs = [pair for pair in pairs if pair[0] in known]
    groups, count = (pairs, most // 2) if pairs and most > 1 else ([[view] for view in views], most)
    chosen = spread(groups, count, lambda group: group[0].camera)
    return sorted({view for group in chosen for view in group}, key=lambda view: (view.camera, view.row))
