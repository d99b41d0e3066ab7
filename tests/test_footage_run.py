# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar footage` as a user runs it: films in, a dataset out; killed, resumed, run again with other options."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.footage.framing import cut, plan, undistort
from neural_avatar.training.footage.records import CalibratedCamera
from support.shoot import (
    FRAMES,
    HEIGHT,
    NAMES,
    WIDTH,
    arguments,
    assert_same,
    cameras,
    complaint,
    person,
    pixels_of,
    run,
    start,
    walk,
    write_video,
)


def test_films_become_a_dataset(made: Path) -> None:
    data = read_dataset(made)
    truth = walk()
    assert data.camera_names == NAMES and data.heldout_cameras == (2,) and data.train_cameras == (0, 1)
    assert data.joints.shape == (FRAMES, 137, 3) and data.usable.all()
    assert np.median(np.linalg.norm(data.joints[:, :25] - truth, axis=-1)) < 0.01
    assert list(data.split) == ["train"] * 117 + ["test_near"] * 13
    assert data.frames is not None and data.frames.valid.all()
    with np.load(made / "frames.npz") as frames:
        assert (frames["source_frame"] == np.arange(FRAMES)[:, None]).all()
    for c in range(3):
        view = View(70, c)
        camera = data.camera(view)
        rgba = cv2.imread(str(data.picture_path(view)), cv2.IMREAD_UNCHANGED)
        assert rgba.shape == (camera.height, camera.width, 4) and max(rgba.shape) <= 96
        assert (rgba[rgba[..., 3] == 0] == 0).all()
        # The lens is undone: every joint, seen by the pinhole, lies inside the figure that the bent film shows.
        at = np.floor(camera.project(truth[70])[0]).astype(int)
        assert (rgba[at[:, 1].clip(0, rgba.shape[0] - 1), at[:, 0].clip(0, rgba.shape[1] - 1), 3] > 127).all()
        assert camera.K[1, 1] <= cameras()[c].camera.K[1, 1] + 1e-9  # never enlarged


def test_windows_move_calmly_and_hold_the_person(made: Path) -> None:
    data = read_dataset(made)
    assert data.frames is not None
    for c in range(3):
        K = data.frames.K[:, c]
        shift = np.abs(np.diff(K[:, :2, 2], n=2, axis=0)).max()
        assert shift < 1.0, "the window jerks"
        for row in range(0, FRAMES, 10):
            alpha = data.picture(View(row, c)).full()[..., 3]
            border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
            x0, y0, x1, y1 = data.filmed(View(row, c))
            if x0 <= 0 and y0 <= 0 and x1 >= alpha.shape[1] and y1 >= alpha.shape[0]:
                assert (border == 0).all()


def test_no_work_is_left_behind_and_a_second_run_says_so(shoot: Path, tmp_path: Path) -> None:
    output = tmp_path / "person"
    command = arguments(shoot, output, "--every", 10)
    run(command)
    assert {p.name for p in tmp_path.iterdir()} == {"person"}
    before = pixels_of(output)
    assert "is complete" in run(command)
    other = run(arguments(shoot, output, "--every", 10, "--crop", 64), 1)
    assert "exists already" in other and "--overwrite" in other
    assert pixels_of(output) == before
    assert len(before) == 3 * 13
    run(arguments(shoot, output, "--every", 10, "--crop", 64, "--overwrite"))
    assert pixels_of(output) != before and {p.name for p in tmp_path.iterdir()} == {"person"}


STOPS = (
    "decode middle",
    "masks left: 6",
    "masks right: 6",
    "3D: ",
    "framing middle",
    "dataset left: 6",
    "dataset right",
    "check: ",
)


def _times(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.suffix == ".png"}


@pytest.mark.parametrize("stop", STOPS)
def test_a_killed_run_goes_on(stop: str, shoot: Path, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "person"
    command = arguments(shoot, output, "--heldout", "right", "--keep")
    process = start(command)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(stop):
            process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
            break
    process.wait(60)
    process.stdout.close()
    assert process.returncode != 0 and not output.exists()
    partial = tmp_path / "person.partial"
    before = _times(partial)
    assert "Going on" in run(command) or stop == "decode middle"
    after = _times(partial) | {f"dataset/dataset/{name}": t for name, t in _times(output).items()}
    redone = [name for name, time in before.items() if after[name] != time]
    assert len(redone) <= 50, redone
    assert_same(output, made)


def test_pictures_are_played_at_the_rate_that_is_said(shoot: Path, tmp_path: Path) -> None:
    for more, rate in (((), 30), (("--rate", 5), 5)):
        output = tmp_path / f"at{rate}"
        said = run(arguments(shoot, output, "--every", 10, "--no-sync", *more))
        assert ("30 a second are assumed" in said) == (not more)
        with np.load(output / "joints.npz") as joints:
            np.testing.assert_allclose(np.diff(joints["times"]), 10 / rate)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX halts a process")
def test_two_runs_do_not_share_a_folder(shoot: Path, made: Path, tmp_path: Path) -> None:
    output = tmp_path / "person"
    first = start(arguments(shoot, output, "--heldout", "right"))
    assert first.stdout is not None
    try:
        next(line for line in first.stdout if line.startswith("decode"))
        first.send_signal(signal.SIGSTOP)
        said = complaint(arguments(shoot, output, "--heldout", "left"), tmp_path / "other")
        assert "Another run is at work" in said and str(output) in said
    finally:
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=300)
    assert first.returncode == 0 and [p.name for p in tmp_path.iterdir()] == ["person"]
    assert_same(output, made)


def test_another_option_goes_on_from_its_stage(shoot: Path, tmp_path: Path) -> None:
    output = tmp_path / "person"
    some = ("--every", 5, "--keep")
    run(arguments(shoot, output, *some))
    masks = _times(tmp_path / "person.partial" / "masks")
    said = run(arguments(shoot, output, *some, "--overwrite", "--crop", 64))
    assert "--crop was 96, now 64" in said and "'dataset'" in said and "masks left" not in said and "3D" not in said
    assert _times(tmp_path / "person.partial" / "masks") == masks
    assert read_dataset(output).cameras[0].width == 64
    said = run(arguments(shoot, output, *some, "--overwrite", "--crop", 64, "--cutoff", 3))
    assert "--cutoff was 6.0, now 3.0" in said and "masks left" not in said and "3D" in said
    said = run(arguments(shoot, output, "--every", 4, "--keep", "--overwrite", "--crop", 64))
    assert "--every was 5, now 4" in said and "everything" in said


def test_changed_inputs_are_noticed(shoot: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shoot"
    shutil.copytree(shoot, mine)
    output = tmp_path / "person"
    run(arguments(mine, output, "--every", 10, "--keep"))
    file = mine / "masks" / "left" / "0000.png"
    os.utime(file, ns=(1, 1))
    said = run(arguments(mine, output, "--every", 10, "--keep", "--overwrite"))
    assert f"{mine / 'masks'} has changed" in said and "'masks'" in said and "3D" not in said
    film = mine / "films" / "left" / "0000.png"
    cv2.imwrite(str(film), np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    said = run(arguments(mine, output, "--every", 10, "--keep", "--overwrite"))
    assert f"{film.parent} has changed" in said and "everything is done again" in said


def test_a_foreign_folder_is_left_alone(shoot: Path, tmp_path: Path) -> None:
    precious = tmp_path / "person.partial" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    said = complaint(arguments(shoot, tmp_path / "person"), tmp_path / "person")
    assert str(precious.parent) in said and precious.read_text() == "mine"


def test_who_leaves_is_marked_and_not_guessed(shoot: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shoot"
    shutil.copytree(shoot, mine)
    gone = range(50, 76)
    for name, frames in (("left", gone), ("middle", gone), ("right", range(0, 20))):
        for t in frames:
            (mine / "poses" / name / f"{t:04d}_keypoints.json").write_text(json.dumps(person(None)))
    output = tmp_path / "person"
    run(arguments(mine, output))
    data = read_dataset(output)
    assert data.frames is not None
    assert not data.usable[55:71].any() and (data.confidence[55:71] == 0).all()
    assert (
        not data.frames.valid[55:71].any() and not data.frames.valid[:18, 2].any() and data.frames.valid[:18, 0].all()
    )
    stored = {p.relative_to(output / "images").as_posix() for p in (output / "images").rglob("*.png")}
    listed = {f"{NAMES[c]}/{row:05d}.png" for row, c in np.argwhere(data.frames.valid)}
    assert stored == listed
    said = run(["--check", str(output)])
    assert "cannot be used" in said and "Remark" in said


def test_films_of_different_lengths(shoot: Path, tmp_path: Path) -> None:
    mine = tmp_path / "shoot"
    shutil.copytree(shoot, mine)
    for t in range(90, FRAMES):
        for kind, name in (("films", f"{t:04d}.png"), ("masks", f"{t:04d}.png"), ("poses", f"{t:04d}_keypoints.json")):
            (mine / kind / "right" / name).unlink()
    output = tmp_path / "person"
    run(arguments(mine, output, "--no-sync"))
    data = read_dataset(output)
    assert data.frames is not None and len(data.joints) == FRAMES
    assert data.frames.valid[:90].all() and data.frames.valid[95:, :2].all() and not data.frames.valid[95:, 2].any()


def test_an_uneven_frame_rate_is_evened_out(shoot: Path, tmp_path: Path) -> None:
    """A phone's film with jittering times: rows are even in time, each the frame nearest to it."""
    gaps = np.where(np.arange(60) % 7 == 3, 0.1, 0.04)
    times = np.concatenate([[0], np.cumsum(gaps)[:-1]])
    video = write_video(tmp_path / "middle.mp4", times)
    for kind, end in (("poses", "_keypoints.json"), ("masks", ".png")):
        (tmp_path / kind / "middle").mkdir(parents=True)
        for t in range(60):
            shutil.copy(shoot / kind / "middle" / f"{t:04d}{end}", tmp_path / kind / "middle" / f"{t:04d}{end}")
    motion = tmp_path / "walk.trc"
    write_trc(motion, walk(60), times)
    output = tmp_path / "person"
    said = run([str(video), "-o", str(output), "--calibration", str(shoot / "cameras.json"), "--poses", str(motion),
                "--masks", str(tmp_path / "masks"), "--crop", "96", "--up", "z"])  # fmt: skip
    assert "frame rate of middle.mp4 varies" in said
    with np.load(output / "frames.npz") as frames:
        used = frames["source_frame"][:, 0]
    assert (np.diff(used[used >= 0]) >= 1).all()


def write_trc(path: Path, joints: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> None:
    """A TRC file with Z up, metres."""
    head = ["PathFileType\t4\t(X/Y/Z)\twalk.trc",
            "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
            f"25\t25\t{len(joints)}\t25\tm\t25\t1\t{len(joints)}",
            "Frame#\tTime\t" + "\t\t\t".join(BODY_JOINTS) + "\t\t",
            "\t\t" + "\t".join(f"X{i}\tY{i}\tZ{i}" for i in range(1, 26))]  # fmt: skip
    rows = [f"{t + 1}\t{times[t]:.4f}\t" + "\t".join(f"{v:.6f}" for v in j.ravel()) for t, j in enumerate(joints)]
    path.write_text("\n".join([*head, *rows]) + "\n")


def test_a_window_follows_without_cutting_and_undoes_the_lens() -> None:
    """A chequerboard seen through a strong lens comes out straight; the film is not enlarged."""
    K = np.array([[300, 0, 160], [0, 300, 120], [0, 0, 1.0]])
    camera = CalibratedCamera("c", Camera(K, np.eye(3), np.zeros(3), 320, 240), (-0.3, 0.1, 0, 0))
    rng = np.random.default_rng(0)
    boxes = np.array([100, 60, 220, 200]) + rng.normal(0, 6, (50, 4))
    boxes[20:25] = np.nan
    framing = plan(camera, boxes, 128, 6)
    assert framing.size <= 128 and (framing.K[:, 0, 0] <= 300 + 1e-9).all()
    seen = np.isfinite(boxes).all(1)
    for row in np.flatnonzero(seen):
        turn = framing.K[row] @ np.linalg.inv(K)
        low, high = turn[:2, :2] @ boxes[row, :2] + turn[:2, 2], turn[:2, :2] @ boxes[row, 2:] + turn[:2, 2]
        assert (low >= 0).all() and (high <= framing.size).all()
    # A line that is straight to a pinhole is bent in the film; in the window it is straight again.
    y, x = np.mgrid[:240, :320]
    rays = undistort(camera, np.stack([x + 0.5, y + 0.5], -1).reshape(-1, 2)).reshape(240, 320, 2)
    film = np.where(rays[..., :1] < 150.0, 30, 220).astype(np.uint8).repeat(3, 2)
    picture = cut(camera, framing.K[0], framing.size, film, np.full((120, 160), 255, np.uint8))
    edge = (framing.K[0] @ np.linalg.inv(K) @ (150.0, 100.0, 1.0))[0]
    rows = np.arange(10, framing.size - 10)
    found = (picture[rows, :, 0] < 125).sum(1)
    assert np.abs(found - edge).max() < 1.5


@pytest.mark.slow
def test_a_real_film_from_one_camera(shared: Path, tmp_path: Path) -> None:
    """The built-in pose model, its masks, and the fit for one camera, on a part of a real film."""
    film = shared / "footage" / "real_multiview" / "videos" / "cam01.mp4"
    if not film.exists():
        pytest.skip(f"REAL DATA MISSING: no {film}")
    output = tmp_path / "man"
    said = run([str(film), "-o", str(output), "--every", "4"])
    assert "the body was found in 100%" in said
    data = read_dataset(output)
    assert len(data.joints) == 25 and data.usable.all()
    with np.load(output / "quality.npz") as quality:
        assert np.nanmedian(quality["reprojection"][:, :, :25]) < 8
    assert "sound" in run(["--check", str(output)])
