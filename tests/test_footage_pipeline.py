# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar footage` as a user runs it: films in, a dataset out; killed, resumed, and given what is wrong."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.skeleton import BODY_BONES, BODY_JOINTS
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.footage.framing import cut, plan, undistort
from neural_avatar.training.footage.records import CalibratedCamera

ROOT = Path(__file__).resolve().parent.parent
FRAMES, WIDTH, HEIGHT, RATE = 130, 120, 160, 25.0
LENS = (-0.12, 0.03, 0.001, -0.001)
NAMES = ("left", "middle", "right")

# A person who stands and faces -Y, metres; the right side is at -X. Left joints mirror the right ones.
_RIGHT = {
    "Shoulder": (-0.18, 0, 1.42), "Elbow": (-0.32, 0, 1.16), "Wrist": (-0.42, -0.06, 0.93), "Hip": (-0.1, 0, 0.92),
    "Knee": (-0.11, -0.01, 0.5), "Ankle": (-0.12, 0.02, 0.09), "Eye": (-0.03, -0.11, 1.65), "Ear": (-0.075, 0, 1.63),
    "BigToe": (-0.12, -0.17, 0.02), "SmallToe": (-0.18, -0.14, 0.02), "Heel": (-0.12, 0.06, 0.02),
}  # fmt: skip
_MIDDLE = {"Nose": (0, -0.13, 1.61), "Neck": (0, 0, 1.45), "MidHip": (0, 0, 0.93)}


def walk(count: int = FRAMES) -> npt.NDArray[np.float64]:
    """(T, 25, 3) somebody who turns to and fro, sways and lifts the arms."""
    sides = {"R" + name: place for name, place in _RIGHT.items()}
    sides |= {"L" + name: (-x, y, z) for name, (x, y, z) in _RIGHT.items()}
    rest = np.array([(_MIDDLE | sides)[name] for name in BODY_JOINTS])
    out = np.repeat(rest[None], count, 0)
    for t in range(count):
        lift = 0.5 + 0.5 * np.sin(2 * np.pi * t / 60)
        for side, sign in (("R", -1), ("L", 1)):
            shoulder = out[t, BODY_JOINTS.index(side + "Shoulder")].copy()
            for name in ("Elbow", "Wrist"):
                i = BODY_JOINTS.index(side + name)
                c, s = np.cos(sign * -lift), np.sin(sign * -lift)
                x, z = out[t, i, 0] - shoulder[0], out[t, i, 2] - shoulder[2]
                out[t, i, [0, 2]] = shoulder[[0, 2]] + (c * x + s * z, c * z - s * x)
        turn = 0.8 * np.sin(2 * np.pi * t / 90)
        c, s = np.cos(turn), np.sin(turn)
        out[t] = out[t] @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + (0.25 * np.sin(t / 14), 0, 0)
    return out


def cameras() -> tuple[CalibratedCamera, ...]:
    """Three cameras around the person, with a lens that bends."""
    out = []
    for name, angle in zip(NAMES, (-50, 10, 70), strict=True):
        a = np.radians(angle)
        place = np.array([3.4 * np.sin(a), -3.4 * np.cos(a), 1.2])
        forward = np.array([0, 0, 0.85]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0, 0, 1))
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[210, 0, WIDTH / 2 + 2], [0, 210, HEIGHT / 2 - 3], [0, 0, 1.0]])
        out.append(CalibratedCamera(name, Camera(K, R, -R @ place, WIDTH, HEIGHT), LENS))
    return tuple(out)


def through_lens(camera: CalibratedCamera, joints: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(25, 2) pixels of the film, centres at +0.5."""
    rotation = cv2.Rodrigues(camera.camera.R)[0]
    pixels, _ = cv2.projectPoints(joints, rotation, camera.camera.t, camera.camera.K, np.array(camera.distortion))
    return np.asarray(pixels).reshape(-1, 2)


def draw(pixels: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A figure of thick bones before a chequered wall, (H, W, 3) RGB, and its mask."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.repeat((60 + 40 * ((x // 8 + y // 8) % 2))[..., None], 3, 2).astype(np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    at = np.rint((pixels - 0.5) * 16).astype(int)
    for i, (a, b) in enumerate(BODY_BONES):
        colour = (200, 40 + 7 * i, 230 - 8 * i)
        cv2.line(picture, at[a].tolist(), at[b].tolist(), colour, 9, cv2.LINE_AA, 4)
        cv2.line(mask, at[a].tolist(), at[b].tolist(), 255, 9, cv2.LINE_AA, 4)
    return picture, mask


def person(pixels: npt.NDArray[np.float64] | None) -> dict[str, Any]:
    """OpenPose's JSON of a frame."""
    if pixels is None:
        return {"version": 1.3, "people": []}
    flat = np.concatenate([pixels, np.full((25, 1), 0.9)], 1).ravel().round(3).tolist()
    return {"version": 1.3, "people": [{"pose_keypoints_2d": flat}]}


@pytest.fixture(scope="session")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """films/CAMERA/*.png, poses/CAMERA/*.json, masks/CAMERA/*.png and cameras.json of three cameras."""
    folder = tmp_path_factory.mktemp("shoot")
    for camera in cameras():
        for kind in ("films", "poses", "masks"):
            (folder / kind / camera.name).mkdir(parents=True)
        for t, joints in enumerate(walk()):
            pixels = through_lens(camera, joints)
            picture, mask = draw(pixels)
            cv2.imwrite(str(folder / "films" / camera.name / f"{t:04d}.png"), picture[..., ::-1])
            cv2.imwrite(str(folder / "masks" / camera.name / f"{t:04d}.png"), mask)
            (folder / "poses" / camera.name / f"{t:04d}_keypoints.json").write_text(json.dumps(person(pixels)))
    entries = [
        {"name": c.name, "K": c.camera.K.tolist(), "R": c.camera.R.tolist(), "t": c.camera.t.tolist(),
         "width": WIDTH, "height": HEIGHT, "distortion": list(LENS)}
        for c in cameras()
    ]  # fmt: skip
    (folder / "cameras.json").write_text(json.dumps({"cameras": entries}))
    return folder


def arguments(shoot: Path, output: Path, *more: object, films: tuple[str, ...] = NAMES) -> list[str]:
    """The command line that turns the shoot into a dataset."""
    given = ("--calibration", shoot / "cameras.json", "--poses", shoot / "poses", "--masks", shoot / "masks")
    return [str(a) for a in (*(shoot / "films" / f for f in films), "-o", output, *given, "--crop", 96, *more)]


def start(command: list[str], **more: Any) -> subprocess.Popen[str]:
    """The command `neural-avatar footage …`, its output to be read line by line."""
    line = [sys.executable, str(ROOT / "__main__.py"), "footage", *command]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)


def run(command: list[str], code: int = 0, **more: Any) -> str:
    """Run to the end; what was printed."""
    process = start(command, **more)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == code, said
    assert "Traceback" not in said, said
    return said


def complaint(command: list[str], output: Path, **more: Any) -> str:
    """The sentence with which a run fails; the output's name must not be taken."""
    said = run(command, 1, **more)
    assert not output.exists()
    (sentence,) = [line for line in said.splitlines() if line.startswith("neural-avatar: ")]
    return sentence


def pixels_of(folder: Path) -> dict[str, bytes]:
    """Every picture and table of a dataset."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def tables_of(folder: Path) -> dict[str, npt.NDArray[Any]]:
    out = {}
    for name in ("joints", "frames", "quality"):
        with np.load(folder / f"{name}.npz") as data:
            out |= {f"{name}/{key}": data[key] for key in data.files}
    return out


def assert_same(one: Path, other: Path) -> None:
    """Equal pixels, arrays and cameras."""
    assert pixels_of(one) == pixels_of(other)
    a, b = tables_of(one), tables_of(other)
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)
    assert (one / "cameras.json").read_text() == (other / "cameras.json").read_text()


@pytest.fixture(scope="session")
def made(shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset made in one go, its work kept."""
    output = tmp_path_factory.mktemp("made") / "person"
    run(arguments(shoot, output, "--heldout", "right", "--keep"))
    return output


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


def _video(path: Path, times: npt.NDArray[np.float64]) -> Path:
    """An H.264 video of the middle camera's first frames at the given seconds."""
    av = pytest.importorskip("av")
    from fractions import Fraction

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for joints, time in zip(walk(len(times)), times, strict=True):
            picture, _ = draw(through_lens(cameras()[1], joints))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_an_uneven_frame_rate_is_evened_out(shoot: Path, tmp_path: Path) -> None:
    """A phone's film with jittering times: rows are even in time, each the frame nearest to it."""
    gaps = np.where(np.arange(60) % 7 == 3, 0.1, 0.04)
    times = np.concatenate([[0], np.cumsum(gaps)[:-1]])
    video = _video(tmp_path / "middle.mp4", times)
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


def _spoil_video(folder: Path) -> list[str]:
    (folder / "garbage.mp4").write_bytes(b"not a video at all" * 100)
    return [str(folder / "garbage.mp4")]


def _truncate_video(folder: Path) -> list[str]:
    whole = _video(folder / "whole.mp4", np.arange(20) / 25)
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


def _edit(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def _wrong_size(mine: Path) -> None:
    _edit(mine / "cameras.json", lambda d: d["cameras"][1].update(width=HEIGHT * 3, height=WIDTH))


def _missing_key(mine: Path) -> None:
    _edit(mine / "poses" / "left" / "0007_keypoints.json", lambda d: d["people"][0].pop("pose_keypoints_2d"))


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


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_is_self_contained(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text) and "http" not in text and "url(" not in text
    assert "prefers-color-scheme:dark" in text
    pictures = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    assert len(pictures) >= 3 * 3
    for source in pictures:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.std() > 5
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 8
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    # The person looks at the cameras, more or less: the back was never seen.
    assert "Hardly anything is seen of the" in text and "back" in text


def test_a_sound_dataset_passes(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").unlink()
    assert "sound" in run(["--check", str(tmp_path / "copy"), "--report"])
    assert "How it was made" in (tmp_path / "copy" / "report.html").read_text("utf-8")


def test_the_older_layout_passes(footage: Path, tmp_path: Path) -> None:
    assert "1272 pictures; sound" in run(["--check", str(footage)])


def _change_npz(path: Path, name: str, change: Any) -> None:
    with np.load(path) as data:
        arrays = dict(data)
    change(arrays[name])
    np.savez(path, **arrays)


def _lose(folder: Path) -> None:
    (folder / "images" / "left" / "00005.png").unlink()


def _damage(folder: Path) -> None:
    (folder / "images" / "left" / "00005.png").write_bytes(b"PNG?")


def _shrink(folder: Path) -> None:
    cv2.imwrite(str(folder / "images" / "left" / "00005.png"), np.zeros((10, 10, 4), np.uint8))


def _blank(folder: Path) -> None:
    for path in (folder / "images" / "middle").glob("*.png"):
        cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def _move_camera(folder: Path) -> None:
    _edit(folder / "cameras.json", lambda d: d["cameras"][2].update(t=[0.6, 0.1, 3.4]))


def _stretch(joints: npt.NDArray[np.float32]) -> None:
    joints[:40, BODY_JOINTS.index("LWrist")] += 0.4


def _centimetres(joints: npt.NDArray[np.float32]) -> None:
    joints *= 100


def _no_training(split: npt.NDArray[np.str_]) -> None:
    split[:] = "test_near"


def _nan_window(K: npt.NDArray[np.float64]) -> None:
    K[3, 1] = np.nan


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lose, ("00005.png", "cannot be read")),
        (_damage, ("00005.png", "damaged")),
        (_shrink, ("00005.png", "10x10")),
        (_blank, ("middle", "mask is empty in 130 pictures")),
        (_move_camera, ("right disagrees with the joints",)),
        (lambda f: _change_npz(f / "joints.npz", "joints", _stretch), ("left forearm", "rows 0-39")),
        (lambda f: _change_npz(f / "joints.npz", "joints", _centimetres), ("joints are metres",)),
        (lambda f: _change_npz(f / "joints.npz", "split", _no_training), ("no picture to train on",)),
        (lambda f: _change_npz(f / "frames.npz", "K", _nan_window), ("frames.npz", "row 3")),
        (lambda f: (f / "joints.npz").unlink(), ("joints.npz is missing",)),
        (lambda f: (f / "cameras.json").write_text("{"), ("cameras.json cannot be understood",)),
    ],
)
def test_a_spoilt_dataset_is_found_out(spoil: Any, words: tuple[str, ...], made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    spoil(copy)
    said = run(["--check", str(copy)], 1)
    assert all(word in said for word in words), said


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
