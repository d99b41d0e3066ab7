# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibrations of other programs, right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from neural_avatar.training.footage.readers.axes import AXES, guess_up, to_z_up
from neural_avatar.training.footage.readers.calibration import read_calibration
from neural_avatar.training.footage.readers.cameras import rotation
from support.readers import refusal, write_json

ROTATION = rotation([0.3, -1.1, 0.4])
K = np.array([[900.0, 0, 640], [0, 905, 360], [0, 0, 1]])
LENS = [-0.1, 0.02, 0.001, -0.002, 0.003]
T = np.array([0.1, 1.2, 3.4])


def opencv_file(path: Path, skip: str = "", vector: bool = True, size: tuple[int, int] = (1280, 720)) -> Path:
    """A camera as OpenCV itself writes it."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    fields: dict[str, Any] = {
        "image_width": size[0],
        "image_height": size[1],
        "camera_matrix": K,
        "distortion_coefficients": np.array([LENS]),
        "rvec" if vector else "R": cv2.Rodrigues(ROTATION)[0] if vector else ROTATION,
        "tvec" if vector else "T": T[:, None],
    }
    for name, value in fields.items():
        if name != skip:
            storage.write(name, value)
    storage.release()
    return path


def panoptic_file(path: Path, **changes: Any) -> Path:
    camera = {
        "name": "00_03", "type": "hd", "resolution": [1280, 720], "K": K.tolist(), "distCoef": LENS,
        "R": ROTATION.tolist(), "t": (T * 100)[:, None].tolist(),
    }  # fmt: skip
    vga = {**camera, "name": "01_01", "type": "vga", "resolution": [640, 480]}
    return write_json(path, {"cameras": [vga, {**camera, **changes}]})


def toml_file(path: Path, text: str = "") -> Path:
    vector = cv2.Rodrigues(ROTATION)[0].ravel().tolist()
    path.write_text(
        f"[int_cam]\nname = 'left'\nsize = [1280.0, 720.0]\nmatrix = {K.tolist()}\ndistortions = {LENS[:4]}\n"
        f"rotation = {vector}\ntranslation = {T.tolist()}\nfisheye = false\n{text}[metadata]\nerror = 0.0\n"
    )
    return path


def check_camera(camera: Any, name: str, lens: int = 5, shift: float = 0.5) -> None:
    assert camera.name == name and (camera.camera.width, camera.camera.height) == (1280, 720)
    expected = K + np.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]])
    assert np.abs(camera.camera.K - expected).max() < 1e-9
    assert np.abs(camera.camera.R - ROTATION).max() < 1e-9 and np.abs(camera.camera.t - T).max() < 1e-9
    assert camera.distortion == pytest.approx(LENS[:lens])


@pytest.mark.parametrize("ending", [".yml", ".xml"])
@pytest.mark.parametrize("vector", [True, False])
def test_opencv_files_hold_a_camera_each(tmp_path: Path, ending: str, vector: bool) -> None:
    check_camera(read_calibration(opencv_file(tmp_path / f"left{ending}", vector=vector))[0], "left")
    opencv_file(tmp_path / f"right{ending}", vector=vector)
    assert [camera.name for camera in read_calibration(tmp_path)] == ["left", "right"]


def test_opencv_file_may_hold_several_cameras(tmp_path: Path) -> None:
    storage = cv2.FileStorage(str(tmp_path / "all.yml"), cv2.FILE_STORAGE_WRITE)
    for name in ("left", "right"):
        storage.startWriteStruct(name, cv2.FILE_NODE_MAP)
        for key, value in (("K", K), ("dist", np.array(LENS)), ("R", ROTATION), ("t", T)):
            storage.write(key, value)
        storage.write("width", 1280)
        storage.write("height", 720)
        storage.endWriteStruct()
    storage.release()
    cameras = read_calibration(tmp_path / "all.yml")
    for camera, name in zip(cameras, ("left", "right"), strict=True):
        check_camera(camera, name)


def test_other_formats_give_the_same_camera(tmp_path: Path) -> None:
    check_camera(read_calibration(toml_file(tmp_path / "Calib.toml"))[0], "left", lens=4)
    panoptic = read_calibration(panoptic_file(tmp_path / "calibration.json"))
    check_camera(panoptic[0], "00_03")
    assert len(panoptic) == 1 and panoptic[0].up == "-y"
    own = {"name": "left", "K": K.tolist(), "R": ROTATION.tolist(), "t": T.tolist(), "width": 1280, "height": 720}
    cameras = read_calibration(write_json(tmp_path / "cameras.json", {"cameras": [{**own, "distortion": LENS}]}))
    check_camera(cameras[0], "left", shift=0)
    assert cameras[0].up == "z"


def test_formats_are_told_by_content_not_by_name(tmp_path: Path) -> None:
    check_camera(read_calibration(panoptic_file(tmp_path / "cameras.json"))[0], "00_03")
    toml = toml_file(tmp_path / "somewhat.txt")
    check_camera(read_calibration(toml)[0], "left", lens=4)
    refusal(lambda: read_calibration(Path(__file__)), "test_footage_calibrations.py", "Calib.toml")
    refusal(lambda: read_calibration(tmp_path / "none.toml"), "none.toml", code="calibration-missing")


def test_real_qualisys_export_and_its_conversion_agree(shared: Path) -> None:
    folder = shared / "footage" / "real_multiview"
    converted = read_calibration(folder / "Calib.toml")
    exported = read_calibration(folder / "calibration" / "Calib.qca.txt")
    assert [c.name for c in converted] == [c.name for c in exported] == ["cam01", "cam02", "cam03", "cam04"]
    for a, b in zip(converted, exported, strict=True):
        assert (a.camera.width, a.camera.height) == (b.camera.width, b.camera.height) == (1088, 1920)
        assert np.abs(a.camera.K - b.camera.K).max() < 1e-6 and np.abs(a.camera.R - b.camera.R).max() < 1e-6
        assert np.abs(a.camera.t - b.camera.t).max() < 1e-6
        # Pose2Sim divides the lens's coefficients by 64 along with the pixels; they have no unit.
        assert np.array(b.distortion[:4]) == pytest.approx(64 * np.array(a.distortion))
        assert b.up == "z" and a.up == ""
    assert guess_up(converted) == "z"  # the cameras film upright: Z is up in their pictures


def test_real_dataset_is_a_calibration(footage: Path) -> None:
    cameras = read_calibration(footage / "cameras.json")
    assert len(cameras) == 8 and cameras[0].distortion == () and read_calibration(footage)[7].name == "cam07"


@pytest.mark.parametrize("up", AXES)
def test_every_axis_can_be_turned_up(up: str) -> None:
    turn = to_z_up(up)
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    assert np.allclose(turn @ axis, (0, 0, 1)) and np.isclose(np.linalg.det(turn), 1)


def test_wrong_calibrations_name_file_camera_and_field(tmp_path: Path) -> None:
    toml = toml_file(tmp_path / "Calib.toml")
    good = toml.read_text()

    def broken(old: str, new: str) -> Callable[[], Any]:
        assert old in good
        toml.write_text(good.replace(old, new))
        return lambda: read_calibration(toml)

    refusal(broken("translation", "trans"), "Calib.toml", "camera int_cam", "'translation'")
    refusal(broken("[1280.0, 720.0]", "[1280.5, 720.0]"), "camera int_cam", "'size'", "1280.5")
    refusal(broken("[1280.0, 720.0]", "[1280.0]"), "camera int_cam", "'size'")
    refusal(broken("[0.1, 1.2, 3.4]", "['a', 1.2, 3.4]"), "camera int_cam", "'translation'", "numbers")
    refusal(broken("[0.1, 1.2, 3.4]", "[nan, 1.2, 3.4]"), "camera int_cam", "'translation'", "finite")
    refusal(broken("[0.1, 1.2, 3.4]", "[100.0, 1200.0, 3400.0]"), "camera int_cam", "millimetres")
    refusal(broken("-0.1, 0.02, 0.001", "-0.1, 0.02"), "camera int_cam", "coefficients", "not 3")
    refusal(broken("900.0", "-900.0"), "camera int_cam", "focal length")
    refusal(broken("[metadata]", "[metadata"), "Calib.toml", "TOML")
    refusal(broken("'left'", "'a/b'"), "Calib.toml", "a/b")
    again = "\n".join(line for line in good.splitlines() if "[" not in line[:1]).replace("fisheye = false", "")
    toml.write_text(good.replace("[metadata]", f"[second]\n{again.replace('error = 0.0', '')}\n[metadata]"))
    refusal(lambda: read_calibration(toml), "several cameras", "left")


def test_wrong_panoptic_and_opencv_calibrations_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    flipped = (ROTATION * [1, 1, -1]).tolist()
    refusal(lambda: read_calibration(panoptic_file(file, R=flipped)), "calibration.json", "camera 00_03", "rotation")
    refusal(lambda: read_calibration(panoptic_file(file, K=[1, 2])), "camera 00_03", "'K'", "not 2")
    file.write_text(file.read_text()[:200])
    refusal(lambda: read_calibration(file), "calibration.json", "JSON")
    yaml = opencv_file(tmp_path / "left.yml", skip="tvec")
    refusal(lambda: read_calibration(yaml), "left.yml", "camera left", "'tvec'")
    opencv_file(yaml, skip="image_width")
    refusal(lambda: read_calibration(yaml), "left.yml", "'image_width'")
    yaml.write_text("%YAML:1.0\n---\nthis: is: [no\n")
    refusal(lambda: read_calibration(yaml), "left.yml")


def test_qualisys_refuses_what_it_cannot_know(tmp_path: Path, shared: Path) -> None:
    good = (shared / "footage" / "real_multiview" / "calibration" / "Calib.qca.txt").read_text()
    file = tmp_path / "a.qca.txt"
    for old, new, words in (
        ('viewrotation="0"', 'viewrotation="90"', ("cam01", "viewrotation")),
        ('focalLengthU="107599.671875" ', "", ("cam01", "intrinsic", "focalLengthU")),
        ('r11="0.5536380477336265"', 'r11="5.5"', ("cam01", "rotation")),
        ("</calibration>", "", ("XML",)),
    ):
        file.write_text(good.replace(old, new))
        refusal(lambda: read_calibration(file), "a.qca.txt", *words)
