# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's protocol (section 4, Table 1): cameras and motions that were trained on and that were not, crossed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..neural_backend.interface.avatar_header import AvatarHeader
from ..neural_backend.interface.messages import BackendError
from .dataset import Dataset, View

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


def quadrant_views(dataset: Dataset, cameras: Iterable[int], most: int) -> dict[str, list[View]]:
    """Views of each quadrant, at most ``most``, spread evenly; in pairs of neighbouring rows, for the flicker.

    cameras: indices of those trained on. Quadrants without pictures are left out. Raises BackendError 'dataset-split'
    when nothing but seen cameras and motions is left.
    """
    seen = frozenset(cameras)
    out = {}
    for name, (camera_seen, motion_seen) in QUADRANTS.items():
        chosen = [i for i in range(len(dataset.cameras)) if (i in seen) == camera_seen]
        rows = [i for i, s in enumerate(dataset.split) if (s == "train") == motion_seen and dataset.usable[i]]
        views = _pairs(dataset, rows, chosen, most)
        if views:
            out[name] = views
    if set(out) <= {"seen camera, seen motion"}:
        raise BackendError(
            "dataset-split",
            f"{dataset.path} has neither cameras nor motions that this avatar was not trained on; hold a camera out "
            "when you train (--cameras), or rows when you make the dataset (--holdout).",
        )
    return out


def _pairs(dataset: Dataset, rows: Sequence[int], cameras: Sequence[int], most: int) -> list[View]:
    wanted = set(rows)
    pairs = [
        [View(row, camera), View(row + 1, camera)]
        for row in rows
        if row + 1 in wanted and dataset.clip[row] == dataset.clip[row + 1]
        for camera in cameras
        if dataset.has_picture(View(row, camera)) and dataset.has_picture(View(row + 1, camera))
    ]
    singles = [[View(row, c)] for row in rows for c in cameras if dataset.has_picture(View(row, c))]
    groups, count = (pairs, max(most // 2, 1)) if pairs else (singles, most)
    spread = [groups[i * len(groups) // count] for i in range(count)] if len(groups) > count else groups
    return sorted({view for group in spread for view in group}, key=lambda view: (view.camera, view.row))
