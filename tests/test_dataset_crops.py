# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets whose pictures are crops with cameras of their own (frames.npz)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.batches import shots_of
from neural_avatar.training.dataset import Dataset, View, read_dataset

SIZE = 96


def cut_copy(whole: Dataset, folder: Path, rows: list[int], filmed_to: float | None = None) -> Path:
    """The dataset again, each picture as a crop of 96 x 96 around the person; one row of the first camera is not
    valid."""
    cameras, count = json.loads((whole.path / "cameras.json").read_text()), len(whole.cameras)
    k, valid = np.zeros((len(rows), count, 3, 3)), np.ones((len(rows), count), bool)
    filmed = np.zeros((len(rows), count, 4))
    valid[1, 0] = False
    for c, entry in enumerate(cameras["cameras"]):
        entry["width"] = entry["height"] = SIZE
        (folder / "images" / entry["name"]).mkdir(parents=True)
        for i, row in enumerate(rows):
            camera = whole.camera(View(row, c))
            seen = camera.project(whole.joints[row][whole.confidence[row] > 0])[0]
            side = 1.5 * float(np.ptp(seen, 0).max())
            x, y = (seen.min(0) + seen.max(0)) / 2 - side / 2
            k[i, c] = camera.crop(x, y, side, side, SIZE, SIZE).K
            corners = np.array([[0, 0], [camera.width, camera.height]])
            filmed[i, c] = ((corners - (x, y)) * SIZE / side).clip(0, filmed_to or SIZE).ravel()
            if valid[i, c]:
                shift = np.array([[SIZE / side, 0, -x * SIZE / side], [0, SIZE / side, -y * SIZE / side]])
                shift[:, 2] += 0.5 * SIZE / side - 0.5
                full = whole.picture(View(row, c)).full()
                full[..., :3] *= full[..., 3:]
                crop = cv2.warpAffine(full, shift, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
                crop[..., :3] /= np.maximum(crop[..., 3:], 1 / 255)
                path = folder / "images" / entry["name"] / f"{i:05d}.png"
                cv2.imwrite(str(path), np.rint(crop[..., [2, 1, 0, 3]] * 255).clip(0, 255).astype(np.uint8))
    (folder / "cameras.json").write_text(json.dumps(cameras))
    with np.load(whole.path / "joints.npz") as data:
        np.savez(folder / "joints.npz", joints=data["joints"][rows], names=data["names"])
    np.savez(folder / "frames.npz", K=k, valid=valid, filmed=filmed)
    return folder


def test_a_crop_shows_what_the_whole_picture_shows(footage: Path, tmp_path: Path) -> None:
    rows = [0, 40, 80]
    whole = read_dataset(footage)
    cropped = read_dataset(cut_copy(whole, tmp_path, rows))
    views = cropped.training_views()
    assert View(1, 0) not in views and len(views) == 3 * 6 - 1
    assert not cropped.has_picture(View(1, 0)) and cropped.has_picture(View(0, 0))
    sizes = np.full(3, 2.4)
    pairs = [(s, shots_of(whole, [View(rows[s.view.row], s.view.camera)], (64, 32), np.full(len(whole.joints), 2.4))[0])
             for s in shots_of(cropped, views, (64, 32), sizes)]  # fmt: skip
    for small, large in pairs:
        a, b = small.crop(), large.crop()
        assert np.allclose(a.camera.K, b.camera.K, atol=1e-6)  # the network is shown the same view
        known = (a.valid > 0) & (b.valid > 0)
        assert np.abs((a.rgba - b.rgba) * known).mean() < 0.012


def test_what_was_not_filmed_does_not_count(footage: Path, tmp_path: Path) -> None:
    cropped = read_dataset(cut_copy(read_dataset(footage), tmp_path, [0, 40, 80], filmed_to=SIZE / 2))
    shot = shots_of(cropped, [View(0, 1)], (64, 32), np.full(3, 2.4))[0]
    share = float(shot.crop().valid.mean())
    assert 0 < share < 0.6


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("K", np.zeros((3, 8, 3, 3)), "row 0, camera"),
        ("K", np.zeros((2, 8, 3, 3)), "'K' must be (3, 8, 3, 3)"),
        ("filmed", np.full((3, 8, 4), np.nan), "'filmed' must be finite"),
    ],
)
def test_a_wrong_table_is_named(footage: Path, tmp_path: Path, field: str, value: np.ndarray, words: str) -> None:
    folder = cut_copy(read_dataset(footage), tmp_path, [0, 40, 80])
    with np.load(folder / "frames.npz") as data:
        fields = {**data, field: value}
    np.savez(folder / "frames.npz", **fields)
    with pytest.raises(BackendError) as caught:
        read_dataset(folder)
    assert (
        caught.value.code == "dataset-corrupt"
        and words in caught.value.message
        and "frames.npz" in caught.value.message
    )
