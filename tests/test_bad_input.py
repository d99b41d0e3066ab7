# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input to train, evaluate and compare: one sentence and exit code 1, never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from neural_avatar.cli import main

NAMES = ("Neck", "RShoulder", "LShoulder", "MidHip", "RHip", "LHip", "RKnee", "LKnee", "Nose")
POSE = np.array(
    [[0, 0, 1.5], [-0.2, 0, 1.45], [0.2, 0, 1.45], [0, 0, 1], [-0.1, 0, 1], [0.1, 0, 1], [-0.1, 0, 0.5], [0.1, 0, 0.5],
     [0, -0.1, 1.65]]
)  # fmt: skip
SMALL = ("--steps", "1", "--size", "64", "--batch", "1", "--texture-size", "16", "--proxy-steps", "0", "--threads", "1",
         "--device", "cpu", "--image-loss", "fallback")  # fmt: skip
Split = tuple[str, ...]
SPLIT: Split = ("train", "train", "test_far")


def dataset(folder: Path, split: Split = SPLIT, heldout: bool = True) -> Path:
    """Two cameras, the second held out where that is asked for, and a grey box as the person in each row's picture."""
    rotation = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    lens = {"K": [[60, 0, 24], [0, 60, 32], [0, 0, 1]], "R": rotation, "t": [0, 1, 3], "width": 48, "height": 64}
    cameras = [{"name": f"cam{i}", **lens} for i in range(2)]
    for camera in cameras:
        (folder / "images" / str(camera["name"])).mkdir(parents=True)
    groups = {"train_cameras": [0], "heldout_cameras": [1]} if heldout else {}
    (folder / "cameras.json").write_text(json.dumps({"cameras": cameras, **groups}))
    joints = np.repeat(POSE[None], len(split), 0).astype(np.float32)
    np.savez(folder / "joints.npz", joints=joints, names=np.array(NAMES), split=np.array(split))
    person = np.zeros((64, 48, 4), np.uint8)
    person[16:50, 18:30] = (90, 120, 150, 255)
    paint(folder, person)
    return folder


def paint(folder: Path, picture: np.ndarray) -> None:
    """Make every picture of a dataset this one."""
    with np.load(folder / "joints.npz") as data:
        rows = len(data["joints"])
    for camera in sorted((folder / "images").iterdir()):
        for row in range(rows):
            cv2.imwrite(str(camera / f"{row:05d}.png"), picture)


@pytest.fixture(scope="module")
def avatar(root: Path) -> Path:
    """The bundled avatar: any will do."""
    return root / "assets" / "demo.avatar"


def commands(folder: Path, avatar: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """Every command that reads a dataset, on the rows and cameras that are bad in each case."""
    return {
        "train": ("train", folder, "-o", out / "x.avatar", *SMALL),
        "evaluate": ("evaluate", avatar, folder, "--device", "cpu"),
        "quadrants": ("evaluate", avatar, folder, "--quadrants", "--device", "cpu"),
        "compare": ("compare", avatar, avatar, "--dataset", folder, "-o", out / "study", "--device", "cpu"),
    }


def missing(folder: Path) -> None:
    for camera in (folder / "images").iterdir():
        for picture in camera.iterdir():
            picture.unlink()


def other_size(folder: Path) -> None:
    paint(folder, np.full((32, 32, 4), 255, np.uint8))


def empty(folder: Path) -> None:
    paint(folder, np.zeros((64, 48, 4), np.uint8))


def damaged(folder: Path) -> None:
    for camera in (folder / "images").iterdir():
        for picture in camera.iterdir():
            picture.write_bytes(picture.read_bytes()[:60])


def other_skeleton(folder: Path) -> None:
    with np.load(folder / "joints.npz") as data:
        np.savez(folder / "joints.npz", **{**data, "names": np.array([f"bone{i}" for i in range(len(NAMES))])})


@pytest.mark.parametrize("command", ["train", "evaluate", "quadrants", "compare"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (missing, "pictures are missing"),
        (other_size, "is 32x32, but its camera in cameras.json is 48x64"),
        (empty, "is empty; the alpha of the pictures must be the person's mask"),
        (damaged, "is damaged or not a PNG"),
        (other_skeleton, "bone0"),
    ],
)
def test_a_bad_dataset_is_one_sentence(
    tmp_path: Path, avatar: Path, refused: Callable[..., str], command: str, spoil: object, words: str
) -> None:
    folder = dataset(tmp_path / "data")
    spoil(folder)  # type: ignore[operator]
    said = refused(*commands(folder, avatar, tmp_path)[command])
    assert words in said and str(folder) in said


def test_a_single_frame_is_too_little_to_learn_from_and_enough_to_judge_by(
    tmp_path: Path, avatar: Path, capfd: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    one = dataset(tmp_path / "one", ("train",))
    assert "a single frame to train on" in refused(*commands(one, avatar, tmp_path)["train"])
    assert "nothing but split train" in refused(*commands(one, avatar, tmp_path)["evaluate"])
    test = dataset(tmp_path / "test", ("test_far",))
    assert "no usable rows of split train" in refused(*commands(test, avatar, tmp_path)["train"])
    assert main([str(a) for a in commands(test, avatar, tmp_path)["evaluate"]]) == 0
    assert "PSNR" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("split", "heldout", "lacks", "evaluate", "quadrants"),
    [
        (("train", "train"), True, "no rows", "nothing but split train", ""),
        (SPLIT, False, "no camera", "holds no camera out", ""),
        (("train", "train"), False, "no camera", "nothing but split train", "neither cameras nor motions"),
    ],
)
def test_what_holds_nothing_out_is_trained_on_if_asked_and_cannot_be_judged(
    tmp_path: Path, avatar: Path, capfd: pytest.CaptureFixture[str], refused: Callable[..., str], split: Split,
    heldout: bool, lacks: str, evaluate: str, quadrants: str,
) -> None:  # fmt: skip
    folder = dataset(tmp_path / "data", split, heldout)
    ways, everything = commands(folder, avatar, tmp_path), bool(quadrants)
    train = (*ways["train"], "--method", "static")
    if everything:
        said = refused(*train)
        assert "holds out no camera" in said and "and no rows" in said and "--unjudged" in said
    assert main([str(a) for a in (*train, *(("--unjudged",) if everything else ()))]) == 0
    said = capfd.readouterr().err
    assert f"holds out {lacks}" in said and "figures will not tell" in said
    for command, words in (("evaluate", evaluate), ("quadrants", quadrants), ("compare", evaluate)):
        if words:
            assert words in refused(*ways[command])


def test_cameras_that_were_trained_on_after_all_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = dataset(tmp_path / "data")
    for cameras, expected in (("train", False), ("all", True)):
        file = tmp_path / f"{cameras}.avatar"
        words = ("train", folder, "-o", file, *SMALL, "--method", "static", "--cameras", cameras)
        assert main([str(word) for word in words]) == 0
        capfd.readouterr()
        assert main(["evaluate", str(file), str(folder), "--device", "cpu"]) == 0
        assert ("Every camera here was trained on" in capfd.readouterr().out) == expected


def test_the_exit_code_of_the_program_is_1(root: Path, tmp_path: Path, avatar: Path) -> None:
    folder = dataset(tmp_path / "data")
    empty(folder)
    words = [str(a) for a in commands(folder, avatar, tmp_path)["train"]]
    done = subprocess.run(
        [sys.executable, str(root), *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if "mask" in line] != []


@pytest.mark.parametrize("rows", [(3, 5), (4, 8)])
def test_damaged_pictures_of_what_is_held_out_do_not_cost_the_avatar(
    tmp_path: Path, avatar: Path, capfd: pytest.CaptureFixture[str], rows: tuple[int, int]
) -> None:
    folder = dataset(tmp_path / "data", ("train", "train", *["test_far"] * 8))
    for row in rows:  # the preview shows the latter two
        path = folder / "images" / "cam1" / f"{row:05d}.png"
        path.write_bytes(path.read_bytes()[:60])
    assert main([str(a) for a in (*commands(folder, avatar, tmp_path)["train"], "--method", "static")]) == 0
    said = capfd.readouterr().err
    assert f"0000{rows[0]}.png is damaged" in said and "holds no figures" in said and "Wrote" in said
    assert ("The preview goes without it" in said) == (rows == (4, 8))


def test_pictures_with_empty_masks_are_counted_and_one_that_is_left_is_too_few(
    tmp_path: Path, avatar: Path, capfd: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    folder = dataset(tmp_path / "data", ("train",) * 3 + ("test_far",))
    train = (*commands(folder, avatar, tmp_path)["train"], "--method", "static")
    nobody = np.zeros((64, 48, 4), np.uint8)
    cv2.imwrite(str(folder / "images" / "cam0" / "00001.png"), nobody)
    assert main([str(a) for a in train]) == 0
    assert "1 of them are left out: their mask is empty" in capfd.readouterr().err
    cv2.imwrite(str(folder / "images" / "cam0" / "00000.png"), nobody)
    said = refused(*train, "--restart")
    assert "A single frame is left to train on, row 2" in said


def test_a_run_does_not_go_on_with_other_pictures(
    tmp_path: Path, avatar: Path, capfd: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    folder = dataset(tmp_path / "data")
    train = [str(a) for a in (*commands(folder, avatar, tmp_path)["train"], "--method", "static")]
    picture = folder / "images" / "cam0" / "00001.png"
    assert main(train) == main(train) == 0
    assert "is finished" in capfd.readouterr().err
    cv2.imwrite(str(picture), cv2.imread(str(picture), cv2.IMREAD_UNCHANGED), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    assert main(train) == 0 and "is finished" in capfd.readouterr().err  # the same pixels, packed otherwise
    masked = cv2.imread(str(picture), cv2.IMREAD_UNCHANGED)
    masked[20:24, 20:24] = 0
    cv2.imwrite(str(picture), masked)
    assert "The dataset is not the one" in refused(*train)
