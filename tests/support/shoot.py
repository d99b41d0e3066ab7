# SPDX-License-Identifier: GPL-3.0-or-later
"""A shoot of three cameras, drawn here, and `neural-avatar footage` as a user runs it on that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.skeleton import BODY_BONES, BODY_JOINTS
from neural_avatar.training.footage.records import CalibratedCamera
from support.people import standing

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES, WIDTH, HEIGHT = 130, 120, 160
LENS = (-0.12, 0.03, 0.001, -0.001)
NAMES = ("left", "middle", "right")


def walk(count: int = FRAMES) -> npt.NDArray[np.float64]:
    """(T, 25, 3) somebody who turns to and fro, sways and lifts the arms."""
    out = np.repeat(standing(np.float64)[None], count, 0)
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


def write_shoot(folder: Path) -> Path:
    """films/CAMERA/*.png, poses/CAMERA/*.json, masks/CAMERA/*.png and cameras.json of three cameras."""
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


def write_video(path: Path, times: npt.NDArray[np.float64]) -> Path:
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


def edit_json(path: Path, change: Any) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
