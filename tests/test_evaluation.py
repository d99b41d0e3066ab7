# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation's protocol and its newer metrics."""

from __future__ import annotations

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_avatar.training import metrics
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.quadrants import QUADRANTS, quadrant_views


def disc(x: float, brightness: float = 0.8) -> np.ndarray:
    """A disc of radius 20 at (x, 50) in 100 x 100 pixels, RGBA."""
    v, u = np.mgrid[:100, :100]
    out = np.zeros((100, 100, 4), np.float32)
    out[..., 3] = (u - x) ** 2 + (v - 50) ** 2 < 400
    out[..., :3] = brightness * out[..., 3:]
    return out


def test_multi_scale_ssim_forgives_fine_noise_and_sees_coarse_error() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((192, 192, 3)).cumsum(0).cumsum(1)
    image = np.asarray(image / image.max())
    noisy = np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1)
    assert metrics.ms_ssim(image, image) == pytest.approx(1)
    assert metrics.ms_ssim(noisy, image) > metrics.ssim_map(noisy, image).mean()
    assert metrics.ms_ssim(image[::-1], image) < metrics.ms_ssim(noisy, image)
    assert metrics.ms_ssim(image[:12, :12], image[:12, :12]) == pytest.approx(1)  # one scale fits


def test_flip_sees_what_differs() -> None:
    pytest.importorskip("flip_evaluator")
    a, b = disc(50)[..., :3], disc(60)[..., :3]
    assert metrics.flip(a, a) == 0
    assert 0 < metrics.flip(disc(50, 0.7)[..., :3], a) < metrics.flip(b, a) < 1


def test_flicker_is_in_the_change_not_in_the_picture() -> None:
    steady = metrics.flicker(disc(51, 0.5), disc(50, 0.5), disc(51), disc(50))
    assert metrics.flicker(disc(51), disc(50), disc(51), disc(50)) == 0
    assert metrics.flicker(disc(50, 0.5), disc(50, 0.5), disc(50), disc(50)) == 0  # wrong, and as steady as the film
    shaking = metrics.flicker(disc(55), disc(45), disc(50), disc(50))
    assert shaking > 5 * steady > 0
    assert np.isnan(metrics.flicker(*[np.zeros((10, 10, 4))] * 4))


def test_quadrants_cross_what_was_seen(footage: Path) -> None:
    data = read_dataset(footage)
    found = quadrant_views(data, data.train_cameras, 12)
    assert list(found) == list(QUADRANTS)
    for name, (camera_seen, motion_seen) in QUADRANTS.items():
        views = found[name]
        assert 6 <= len(views) <= 12
        assert all((v.camera in data.train_cameras) == camera_seen for v in views)
        assert all((data.split[v.row] == "train") == motion_seen for v in views)
        assert any(b.row - a.row == 1 and a.camera == b.camera for a, b in itertools.pairwise(views))


def test_the_command_writes_quadrants_and_a_table(root: Path, footage: Path, tmp_path: Path) -> None:
    avatar = root / "assets" / "demo.avatar"
    words = [sys.executable, str(root), "evaluate", str(avatar), str(footage), "--quadrants", "--most", "2",
             "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv"), "--device", "cpu"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a.json").read_text())
    assert list(result["quadrants"]) == list(QUADRANTS) and "unseen camera, unseen motion" in done.stdout
    for means in result["quadrants"].values():
        assert means["frames"] == 2 and means["flicker"] > 0 and 0.5 < means["ms_ssim_box"] < 1
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 8 and {row["quadrant"] for row in rows} == set(QUADRANTS)
    assert float(rows[0]["ssim_box"]) == result["frames"][0]["ssim_box"]
