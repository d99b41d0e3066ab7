# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar footage` given what is wrong: one sentence says what, where, and what to do; nothing is spoilt."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.shoot import HEIGHT, NAMES, WIDTH, arguments, assert_same, complaint, edit_json, person, run, write_video


def _spoil_video(folder: Path) -> list[str]:
    (folder / "garbage.mp4").write_bytes(b"not a video at all" * 100)
    return [str(folder / "garbage.mp4")]


def _truncate_video(folder: Path) -> list[str]:
    whole = write_video(folder / "whole.mp4", np.arange(20) / 25)
    (folder / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    return [str(folder / "cut.mp4")]


def _empty_video(folder: Path) -> list[str]:
    (folder / "empty.mp4").touch()
    return [str(folder / "empty.mp4")]


def _empty_folder(folder: Path) -> list[str]:
    (folder / "pictures").mkdir()
    return [str(folder / "pictures")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_spoil_video, ("garbage.mp4", "cannot be read as a video", "copy it")),
        (_truncate_video, ("cut.mp4", "cut off", "copy it")),
        (_empty_video, ("empty.mp4", "empty", "copy it")),
        (_empty_folder, ("pictures", "holds no pictures")),
        (lambda folder: [str(folder / "nothing.mp4")], ("nothing.mp4", "There is no file")),
    ],
)
def test_films_that_cannot_be_read(make: Any, words: tuple[str, ...], tmp_path: Path) -> None:
    said = complaint([*make(tmp_path), "-o", str(tmp_path / "person")], tmp_path / "person")
    assert all(word in said for word in words), said


def _wrong_size(mine: Path) -> None:
    edit_json(mine / "cameras.json", lambda d: d["cameras"][1].update(width=HEIGHT * 3, height=WIDTH))


def _missing_key(mine: Path) -> None:
    edit_json(mine / "poses" / "left" / "0007_keypoints.json", lambda d: d["people"][0].pop("pose_keypoints_2d"))


def _nobody(mine: Path) -> None:
    for path in (mine / "poses" / "middle").glob("*.json"):
        path.write_text(json.dumps(person(None)))


def _no_masks(mine: Path) -> None:
    (mine / "masks" / "right" / "0003.png").unlink()


def _not_json(mine: Path) -> None:
    (mine / "poses" / "left" / "0007_keypoints.json").write_text('{"people": [')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_wrong_size, ("middle", "calibrated at 480x120", "120x160")),
        (_missing_key, ("0007_keypoints.json", "pose_keypoints_2d", "missing")),
        (_not_json, ("0007_keypoints.json",)),
        (_nobody, ("middle", "Nobody")),
        (_no_masks, ("masks", "129", "130 frames")),
    ],
)
def test_inputs_that_do_not_fit(spoil: Any, words: tuple[str, ...], shoot: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shoot"
    shutil.copytree(shoot, mine)
    spoil(mine)
    said = complaint(arguments(mine, tmp_path / "person"), tmp_path / "person")
    assert all(word in said for word in words), said


def test_a_pickle_is_not_opened(shoot: Path, tmp_path: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    (tmp_path / "poses.pkl").write_bytes(pickle.dumps(Trap()))
    command = [str(shoot / "films" / "left"), "-o", str(tmp_path / "person"), "--poses", str(tmp_path / "poses.pkl")]
    said = complaint(command, tmp_path / "person")
    assert "poses.pkl" in said and "pickle" in said and not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--heldout", "behind"), "there is no such camera; there are left, middle, right"),
        (("--heldout", *NAMES), "leave at least one to train on"),
        (("--start", "30"), "has no frame from 30 s"),
        (("--crop", "8"), "--crop must lie in"),
        (("--person", "3"), "no person 3"),
    ],
)
def test_options_that_cannot_be(more: tuple[str, ...], words: str, shoot: Path, tmp_path: Path) -> None:
    assert words in complaint(arguments(shoot, tmp_path / "person", *more), tmp_path / "person")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--up", "w"), "choose from x, y, z"),
        (("--focal", "nan"), "--focal"),
        (("--cutoff", "inf"), "--cutoff"),
        (("--fps", "nan"), "--fps"),
        (("--start", "nan"), "--start"),
        (("--rate", "0"), "--rate"),
        (("--focal", "900"), "--focal is for one camera"),
        (("--lift", "mine.lift"), "--lift is for one camera"),
    ],
)
def test_options_that_cannot_be_are_told_before_any_work(
    more: tuple[str, ...], words: str, shoot: Path, tmp_path: Path
) -> None:
    assert words in complaint(arguments(shoot, tmp_path / "person", *more), tmp_path / "person")
    assert not list(tmp_path.iterdir())


def test_up_needs_a_world(shoot: Path, tmp_path: Path) -> None:
    command = [str(shoot / "films" / "left"), "-o", str(tmp_path / "person"), "--up", "y"]
    assert "--up" in complaint(command, tmp_path / "person") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_an_output_needs_a_name(name: str, shoot: Path, tmp_path: Path) -> None:
    said = run([str(shoot / "films" / "left"), "-o", name, "--overwrite"], 1, cwd=tmp_path)
    assert f"-o {name}" in said and "new folder" in said


def test_overwriting_replaces_nothing_but_datasets(shoot: Path, tmp_path: Path) -> None:
    """Neither a folder of other things, nor a file, nor what is read from."""
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "today.txt").write_text("dear diary")
    (tmp_path / "letter.txt").write_text("dear friend")
    for name in ("diary", "letter.txt"):
        said = run(arguments(shoot, tmp_path / name, "--overwrite"), 1)
        assert f"{name} is no dataset" in said and "another -o" in said
    assert (tmp_path / "diary" / "today.txt").read_text() == "dear diary"
    assert (tmp_path / "letter.txt").read_text() == "dear friend"
    mine = tmp_path / "mine"
    shutil.copytree(shoot, mine)
    (mine / "joints.npz").touch()  # looks like a dataset, but the films are in it
    said = run(arguments(mine, mine, "--overwrite"), 1)
    assert str(mine / "films" / "left") in said and "another -o" in said
    assert (mine / "films" / "left").is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["diary", "letter.txt", "mine"]


def test_several_films_need_a_calibration(shoot: Path, tmp_path: Path) -> None:
    films = [str(shoot / "films" / name) for name in NAMES]
    said = complaint([*films, "-o", str(tmp_path / "person")], tmp_path / "person")
    assert "--calibration" in said and "takes" in said


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX")
def test_a_full_disk_is_told_and_survived(shoot: Path, made: Path, tmp_path: Path) -> None:
    import resource

    output = tmp_path / "person"
    command = arguments(shoot, output, "--heldout", "right", "--keep")
    limit = 60_000  # bytes of a file: pictures fit, tables do not
    said = complaint(command, output, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert "no room left" in said and str(tmp_path / "person.partial") in said
    assert not list(tmp_path.rglob("*.tmp"))
    run(command)
    assert_same(output, made)
