# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing some of many views: no camera is favoured, also where the number of cameras divides the stride."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.quadrants import quadrant_views
from neural_avatar.training.spread import spread
from neural_avatar.training.study.trials import make_trials

VIEWS = [(row, camera) for row in range(48) for camera in range(4)]


def test_every_camera_has_its_share_all_over_the_film() -> None:
    chosen = spread(VIEWS, 48, lambda view: view[1])
    assert len(chosen) == 48 and chosen == sorted(chosen)
    assert Counter(camera for _, camera in chosen) == dict.fromkeys(range(4), 12)
    for camera in range(4):
        rows = [row for row, own in chosen if own == camera]
        assert rows[0] < 4 and rows[-1] >= 44 and max(b - a for a, b in pairwise(rows)) <= 4
    assert len({row for row, _ in chosen}) > 40  # the cameras are set off against each other


def test_few_and_uneven_groups() -> None:
    assert spread(VIEWS, 192, lambda view: view[1]) == VIEWS
    assert len({camera for _, camera in spread(VIEWS, 3, lambda view: view[1])}) == 3
    assert len(spread(VIEWS, 1, lambda view: view[1])) == 1
    uneven = [(row, 0) for row in range(90)] + [(row, 1) for row in range(10)]
    assert Counter(camera for _, camera in spread(uneven, 20, lambda view: view[1])) == {0: 18, 1: 2}


def test_quadrants_and_studies_ask_about_every_camera(footage: Path) -> None:
    data = read_dataset(footage)
    views = [view for split in ("train", "test_near", "test_far") for view in data.views([split], ["all"])]
    found = quadrant_views(data, views, data.train_cameras, 16)
    for name, some in found.items():
        cameras = data.train_cameras if name.startswith("seen camera") else data.heldout_cameras
        assert {view.camera for view in some} == set(cameras) and len(some) <= 16
    assert all(len(some) == 1 for some in quadrant_views(data, views, data.train_cameras, 1).values())
    heldout = [(view, "unseen") for view in data.views(["test_far"], ["heldout"])]
    trials = make_trials(["a", "b"], heldout, data, 20, 0)
    assert {trial.camera for trial in trials} == {data.camera_names[camera] for camera in data.heldout_cameras}
