# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluation's protocol and its newer metrics."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.signal import convolve2d

from neural_avatar.cli import main
from neural_avatar.neural_backend.png import write_png
from neural_avatar.training import metrics
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.evaluate import Choice
from neural_avatar.training.quadrants import QUADRANTS


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


def test_multi_scale_ssim_is_what_its_authors_define() -> None:
    """Against their formula written out, over whole windows alone: ours mirrors the border, which is some per mille."""
    rng = np.random.default_rng(1)
    image = cv2.GaussianBlur(rng.random((256, 320)), (0, 0), 3)
    image = (image - image.min()) / np.ptp(image)
    other = np.clip(cv2.GaussianBlur(image, (0, 0), 2) + rng.normal(0, 0.05, image.shape), 0, 1)
    line = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    a, b, product = image, other, 1.0
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        means = [convolve2d(x, window, "valid") for x in (a, b, a * a, b * b, a * b)]
        covariance = means[4] - means[0] * means[1]
        spread = means[2] - means[0] ** 2 + means[3] - means[1] ** 2
        term = (2 * covariance + 0.03**2) / (spread + 0.03**2)
        if scale == 4:
            term = term * (2 * means[0] * means[1] + 0.01**2) / (means[0] ** 2 + means[1] ** 2 + 0.01**2)
        product *= term.mean() ** exponent
        a, b = (x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean((1, 3)) for x in (a, b))
    assert 0.6 < product < 0.95
    assert metrics.ms_ssim(image[..., None], other[..., None]) == pytest.approx(product, abs=0.004)


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
    found = Choice(quadrants=True, most=12).groups(data, data.train_cameras)
    assert list(found) == list(QUADRANTS)
    for name, (camera_seen, motion_seen) in QUADRANTS.items():
        views = found[name]
        assert 6 <= len(views) <= 12
        assert all((v.camera in data.train_cameras) == camera_seen for v in views)
        assert all((data.split[v.row] == "train") == motion_seen for v in views)
        assert any(b.row - a.row == 1 and a.camera == b.camera for a, b in itertools.pairwise(views))


def test_a_camera_that_was_trained_on_all_the_same_is_not_held_out(footage: Path) -> None:
    data = read_dataset(footage)
    first, *others = data.heldout_cameras
    assert {view.camera for view in Choice().views(data, [*data.train_cameras, first])} == set(others)
    everything = {view.camera for view in Choice().views(data, range(len(data.camera_names)))}
    assert everything == set(data.heldout_cameras)  # nothing better is there; that they were trained on is told


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


@pytest.fixture
def small(footage: Path, tmp_path: Path) -> Path:
    """Two rows to train on and two that are held out, by a camera to train on and one that is held out."""
    folder = tmp_path / "small"
    folder.mkdir()
    with np.load(footage / "joints.npz") as data:
        split = data["split"].astype(str)
        rows = [*np.flatnonzero(split == "train")[:2], *np.flatnonzero(split != "train")[:2]]
        kept = {name: data[name][rows] if len(data[name]) == len(split) else data[name] for name in data.files}
    np.savez(folder / "joints.npz", **kept)
    about = json.loads((footage / "cameras.json").read_text())
    about["cameras"] = [camera for camera in about["cameras"] if camera["name"] in ("cam00", "cam03")]
    about["train_cameras"], about["heldout_cameras"] = ["cam00"], ["cam03"]
    (folder / "cameras.json").write_text(json.dumps(about))
    for camera in ("cam00", "cam03"):
        (folder / "images" / camera).mkdir(parents=True)
        for i, row in enumerate(rows):
            shutil.copy(footage / "images" / camera / f"{row:05d}.png", folder / "images" / camera / f"{i:05d}.png")
    return folder


def evaluate(root: Path, data: Path, *words: object) -> int:
    """`neural-avatar evaluate` of the bundled avatar, in this process."""
    return main(["evaluate", str(root / "assets" / "demo.avatar"), str(data), "--device", "cpu", *map(str, words)])


def test_bad_datasets_are_one_sentence_before_anything_is_drawn(
    root: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        assert evaluate(root, small, *words) == 1
        said = capsys.readouterr()
        assert said.out == "" and "Traceback" not in said.err and "Evaluating" not in said.err
        (line,) = said.err.strip().splitlines()
        return line

    picture = small / "images" / "cam03" / "00003.png"
    whole = picture.read_bytes()
    picture.unlink()
    for words in ([], ["--quadrants"]):
        assert "1 of" in refused(*words) and "are missing" in refused(*words)
    picture.write_bytes(whole[:500])
    assert "damaged" in refused("--quadrants")
    rgba = read_dataset(small).picture(View(2, 1)).full()
    write_png(picture, rgba[:128, :128])
    assert "is 128x128, but its camera in cameras.json is 256x256" in refused()
    for path in (small / "images").rglob("*.png"):
        write_png(path, np.zeros_like(rgba))
    assert "Every mask" in refused() and "Every mask" in refused("--quadrants")
    joints = dict(np.load(small / "joints.npz"))
    np.savez(small / "joints.npz", **{**joints, "split": ["train"] * 4})
    assert "--split train" in refused()
    assert "neither cameras nor motions" in refused("--quadrants", "--cameras", "cam00")
    about = json.loads((small / "cameras.json").read_text())
    (small / "cameras.json").write_text(json.dumps({**about, "heldout_cameras": []}))
    assert "holds no camera out" in refused("--split", "train")


def test_quadrants_of_chosen_cameras_and_what_is_left_out(
    root: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(root, small, "--quadrants", "--cameras", "cam03", "--json", tmp_path / "a.json") == 0
    result = json.loads((tmp_path / "a.json").read_text())
    assert {frame["camera"] for frame in result["frames"]} == {"cam03"}
    assert list(result["quadrants"]) == ["unseen camera, seen motion", "unseen camera, unseen motion"]
    said = capsys.readouterr().out
    assert result["missing"][-1] in said and "seen camera, seen motion; seen camera, unseen motion" in said


def test_a_single_picture_can_be_compared(root: Path, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = dict(np.load(small / "joints.npz"))
    np.savez(small / "joints.npz", **{k: v[3:] if len(v) == 4 else v for k, v in joints.items()})
    for camera in ("cam00", "cam03"):
        (small / "images" / camera / "00003.png").replace(small / "images" / camera / "00000.png")
    assert evaluate(root, small) == 0
    said = capsys.readouterr().out
    assert "SSIM box" in said and "does not name this dataset" in said and "Flicker was not measured" in said
