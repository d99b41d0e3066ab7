# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibrations and poses of other programs, right and wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND
from neural_avatar.training.footage.readers.axes import AXES, guess_up, to_z_up
from neural_avatar.training.footage.readers.calibration import read_calibration
from neural_avatar.training.footage.readers.cameras import rotation
from neural_avatar.training.footage.readers.densepose import read_densepose
from neural_avatar.training.footage.readers.people import Film
from neural_avatar.training.footage.readers.poses import is_motion, read_motion, read_poses
from neural_avatar.training.footage.records import Detections, Motion

ROTATION = rotation([0.3, -1.1, 0.4])
K = np.array([[900.0, 0, 640], [0, 905, 360], [0, 0, 1]])
LENS = [-0.1, 0.02, 0.001, -0.002, 0.003]
T = np.array([0.1, 1.2, 3.4])
FILM = Film("cam1", 640, 480, np.arange(6) / 30)


def refusal(make: Callable[[], Any], *words: str, code: str = "") -> str:
    """The sentence of the BackendError that ``make()`` raises; it holds all the words."""
    with pytest.raises(BackendError) as caught:
        make()
    for word in words:
        assert word in caught.value.message, caught.value.message
    assert not code or caught.value.code == code
    assert "\n" not in caught.value.message and caught.value.message.endswith(".")
    return caught.value.message


def write_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


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
    refusal(lambda: read_calibration(Path(__file__)), "test_footage_readers.py", "Calib.toml")
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


# ---- 2D poses


def person(x: float, y: float, size: float = 200.0, joints: int = 25) -> list[list[float]]:
    """A body of ``joints`` joints spread over a box of the given size around (x, y)."""
    grid = np.random.default_rng(joints).uniform(-0.5, 0.5, (joints, 2)) * size
    return [[x + a, y + b, 0.9] for a, b in grid]


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]


def openpose(folder: Path, frames: list[list[list[list[float]]]], first: int = 0, **more: Any) -> Path:
    """OpenPose's folder: for each frame a list of people."""
    for i, people in enumerate(frames):
        data = [{"pose_keypoints_2d": flat(p), "face_keypoints_2d": [], **more} for p in people]
        write_json(folder / f"film_{first + i:012d}_keypoints.json", {"version": 1.3, "people": data})
    return folder


def one(path: Path, **more: Any) -> Detections:
    found = read_poses(path, [FILM], **more)
    assert isinstance(found, list) and len(found) == 1
    return found[0]


def test_openpose_body_hands_and_face_land_in_our_order(tmp_path: Path) -> None:
    hand, face = person(320, 240, 30, 21), person(320, 240, 40, 70)
    more = {"hand_left_keypoints_2d": flat(hand), "hand_right_keypoints_2d": [], "face_keypoints_2d": flat(face)}
    body = person(320, 240)
    body[3] = [0, 0, 0]
    openpose(tmp_path, [[body]] * 5, **more)
    found = one(tmp_path)
    assert found.points.shape == (6, JOINT_COUNT, 2) and found.confidence.shape == (6, JOINT_COUNT)
    assert np.allclose(found.points[2, 4], body[4][:2]) and found.confidence[2, 3] == 0
    assert np.allclose(found.points[2, LEFT_HAND + 5], hand[5][:2]) and np.allclose(
        found.points[2, FACE + 9], face[9][:2]
    )
    assert found.confidence[2, LEFT_HAND + 21 : FACE].max() == 0
    assert list(found.found) == [True] * 5 + [False]
    assert (found.width, found.height) == (640, 480) and np.array_equal(found.times, FILM.times)


def test_frames_are_placed_by_their_numbers(tmp_path: Path) -> None:
    openpose(tmp_path / "a", [[person(320, 240)]] * 2, first=2)
    assert list(one(tmp_path / "a").found) == [False, False, True, True, False, False]
    openpose(tmp_path / "b", [[person(320, 240)]] * 6, first=1200)  # a film cut out of a longer one
    assert one(tmp_path / "b").found.all()
    openpose(tmp_path / "c", [[person(320, 240)]] * 20)
    refusal(lambda: one(tmp_path / "c"), "20 frames", "cam1", "has 6")


def test_people_are_followed_and_the_largest_is_taken(tmp_path: Path) -> None:
    frames = []
    for i in range(6):
        large, small = person(150 + 20 * i, 240), person(500 - 20 * i, 240, 120)
        frames.append([large, small] if i % 2 else [small, large])
    openpose(tmp_path, frames)
    largest, second = one(tmp_path), one(tmp_path, person=2)
    for i in range(6):
        assert np.allclose(largest.points[i, 0], person(150 + 20 * i, 240)[0][:2])
        assert np.allclose(second.points[i, 0], person(500 - 20 * i, 240, 120)[0][:2])
    refusal(lambda: one(tmp_path, person=3), "person 3", "cam1", "1 to 2", code="poses-person")
    openpose(tmp_path / "empty", [[], []])
    refusal(lambda: one(tmp_path / "empty"), "Nobody", "cam1", code="poses-person")


@pytest.mark.parametrize("count", [17, 26, 133])
def test_other_bodies_in_openpose_files_are_told_by_their_number(tmp_path: Path, count: int) -> None:
    body = person(320, 240, joints=count)
    found = one(openpose(tmp_path, [[body]] * 6))
    wrist, ankle = INDEX["LWrist"], INDEX["RAnkle"]
    assert np.allclose(found.points[0, wrist], body[9][:2]) and np.allclose(found.points[0, ankle], body[16][:2])
    assert found.confidence[0, INDEX["Neck"]] > 0
    if count != 26:
        middle = (np.array(body[11][:2]) + body[12][:2]) / 2
        assert np.allclose(found.points[0, INDEX["MidHip"]], middle)


def test_wrong_openpose_files_name_file_frame_and_field(tmp_path: Path) -> None:
    refusal(lambda: one(openpose(tmp_path / "coco", [[person(9, 9, joints=18)]])), "frame 0", "18", "BODY_25")
    missing = write_json(tmp_path / "missing" / "a_007_keypoints.json", {"people": [{"face_keypoints_2d": []}]})
    refusal(lambda: one(missing.parent), "a_007_keypoints.json", "frame 7", "person 0", "'pose_keypoints_2d'")
    cut = openpose(tmp_path / "cut", [[person(320, 240)]] * 3) / "film_000000000001_keypoints.json"
    cut.write_text(cut.read_text()[:50])
    refusal(lambda: one(cut.parent), "film_000000000001_keypoints.json", "JSON")
    openpose(tmp_path / "hand", [[person(320, 240)]], hand_left_keypoints_2d=[1, 2, 3])
    refusal(lambda: one(tmp_path / "hand"), "frame 0", "hand_left_keypoints_2d", "21 x 3")
    unit = [[x / 640, y / 480, c] for x, y, c in person(320, 240)]
    refusal(lambda: one(openpose(tmp_path / "unit", [[unit]])), "0 to 1", "keypoint_scale 0")
    refusal(lambda: one(openpose(tmp_path / "big", [[person(2000, 900)]])), "another size", "640x480", "cam1")
    refusal(lambda: read_poses(tmp_path / "nowhere", [FILM]), "nowhere", code="poses-missing")


def test_cameras_find_their_folders(tmp_path: Path) -> None:
    films = [Film(name, 640, 480, np.arange(6) / 30) for name in ("cam1", "cam2")]
    openpose(tmp_path / "cam1", [[person(320, 240)]] * 6)
    refusal(lambda: read_poses(tmp_path, films), "camera cam2", str(tmp_path), "cam1", code="poses-missing")
    openpose(tmp_path / "cam2_json", [[person(100, 240)]] * 6)
    first, second = read_poses(tmp_path, films)  # type: ignore[misc]
    assert np.allclose(first.points[0, 0] - second.points[0, 0], (220, 0))


def whole_body() -> tuple[list[list[float]], list[float]]:
    points = person(320, 240, joints=133)
    return [p[:2] for p in points], [p[2] for p in points]


def wholebody_files(folder: Path) -> dict[str, Path]:
    """The same six frames in each way that COCO-WholeBody comes."""
    points, scores = whole_body()
    whole = flat([[*p, s] for p, s in zip(points, scores, strict=True)])
    cuts = np.cumsum([0, 17, 6, 68, 21, 21]) * 3
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    parted = {key: whole[a:b] for key, a, b in zip(keys, cuts, cuts[1:], strict=False)}
    instances = [{"keypoints": points, "keypoint_scores": scores, "bbox": [[0, 0, 1, 1]]}]
    files = {
        "results": [{"image_id": i, "category_id": 1, "keypoints": whole, "score": 1} for i in range(6)],
        "parted": [{"image_id": i, "category_id": 1, **parted} for i in range(6)],
        "coco": {
            "images": [{"id": 10 + i, "file_name": f"f_{i:04d}.jpg"} for i in range(6)],
            "annotations": [{"image_id": 10 + i, "keypoints": whole} for i in range(6)],
        },
        "mmpose": {"meta_info": {}, "instance_info": [{"frame_id": i + 1, "instances": instances} for i in range(6)]},
    }
    paths = {name: write_json(folder / f"{name}.json", data) for name, data in files.items()}
    for i in range(6):
        write_json(folder / "frames" / f"{i:06d}.json", instances)
    return {**paths, "frames": folder / "frames"}


def test_wholebody_is_read_in_every_way_it_comes(tmp_path: Path) -> None:
    points, _ = whole_body()
    for name, path in wholebody_files(tmp_path).items():
        found = one(path)
        at = slice(1, None) if name == "mmpose" else slice(None)  # that one counts from 1, in a film of 6 frames
        assert found.found[at].all(), name
        row = found.points[3]
        assert np.allclose(row[INDEX["LBigToe"]], points[17]) and np.allclose(row[FACE + 8], points[23 + 8]), name
        assert np.allclose(row[LEFT_HAND], points[91]) and np.allclose(row[FACE - 1], points[132]), name
        assert np.allclose(row[INDEX["Neck"]], (np.array(points[5]) + points[6]) / 2, atol=1e-3), name


def test_wrong_wholebody_names_file_frame_and_field(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [{"image_id": 4, "category_id": 1}])
    refusal(lambda: one(path), "a.json", "frame 4", "'keypoints'")
    write_json(path, [{"image_id": 4, "keypoints": [1.0] * 30}])
    refusal(lambda: one(path), "a.json", "frame 4", "10 keypoints", "133")
    write_json(path, [{"keypoints": [1.0] * 399}])
    refusal(lambda: one(path), "a.json", "'image_id'")
    write_json(path, [{"image_id": [4], "keypoints": [1.0] * 51}])
    refusal(lambda: one(path), "a.json", "entry 0", "'image_id'")
    write_json(path, {"images": [{"id": {}, "file_name": "4.png"}], "annotations": []})
    refusal(lambda: one(path), "a.json", "image 0", "'id'")
    write_json(path, {"annotations": {}})
    refusal(lambda: one(path), "a.json", "'annotations' must be a list")
    write_json(path, {"meta_info": {}, "instance_info": [{"frame_id": 2, "instances": [{"keypoint_scores": [1]}]}]})
    refusal(lambda: one(path), "a.json", "frame 2", "'keypoints'")
    bad = tmp_path / "cam1.pkl"
    bad.write_bytes(b"\x80\x04K\x01.")
    refusal(lambda: one(bad), "cam1.pkl", "pickle")


# ---- 3D motion


def panoptic_poses(folder: Path) -> Path:
    """Two people; 7 in all three frames, 3 in the first."""
    for frame in (100, 101, 103):
        bodies = []
        for who in (7, 3) if frame == 100 else (7,):
            joints = [[10.0 * j, -100.0 - j, 5.0 * who, 0.8] for j in range(19)]
            joints[5] = [0, 0, 0, -1]
            bodies.append({"id": who, "joints19": flat(joints)})
        bodies.append({"id": -1, "joints19": [0] * 76})
        write_json(folder / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json", {"bodies": bodies})
        hand = {"landmarks": list(range(1, 64)), "averageScore": [0.5] * 20 + [0]}
        write_json(folder / "hdHand3d" / f"handRecon3D_hd{frame:08d}.json", {"people": [{"id": 7, "left_hand": hand}]})
        write_json(
            folder / "hdFace3d" / f"faceRecon3D_hd{frame:08d}.json",
            {"people": [{"id": 7, "face70": {"landmarks": [100.0] * 210, "averageScore": [0.9] * 70}}]},
        )
    return folder


def test_panoptic_motion_is_metres_with_z_up(tmp_path: Path) -> None:
    folder = panoptic_poses(tmp_path)
    motion = read_poses(folder, [])
    assert isinstance(motion, Motion) and is_motion(folder)
    assert motion.joints.shape == (3, JOINT_COUNT, 3) and np.allclose(motion.times * 29.97, (100, 101, 103))
    hip = motion.joints[0, INDEX["MidHip"]]  # the third of 19: (20, -102, 35) cm, -Y up
    assert np.allclose(hip, (0.2, 0.35, 1.02), atol=1e-6)
    assert motion.confidence[0, INDEX["LWrist"]] == 0 and motion.confidence[0, INDEX["LBigToe"]] == 0
    assert np.allclose(motion.joints[1, LEFT_HAND + 1], (0.04, 0.06, -0.05), atol=1e-6)
    assert motion.confidence[1, LEFT_HAND + 20] == 0 and motion.confidence[2, FACE + 69] == pytest.approx(0.9)
    second = read_motion(folder, person=3)
    assert list((second.confidence > 0).any(1)) == [True, False, False]
    refusal(lambda: read_motion(folder, person=5), "person 5", "3, 7", code="poses-person")


def test_wrong_panoptic_poses_name_file_and_field(tmp_path: Path) -> None:
    folder = panoptic_poses(tmp_path) / "hdPose3d_stage1_coco19"
    write_json(folder / "body3DScene_00000101.json", {"bodies": [{"id": 7, "joints19": [1, 2]}]})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "person 7", "'joints19'", "19 x 4")
    write_json(folder / "body3DScene_00000101.json", {"bodies": [{"id": 7, "joints15": [1, 2]}]})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "'joints19'")
    write_json(folder / "body3DScene_00000101.json", {})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "'bodies'")


MARKERS = ("Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "Neck", "Head", "left_shoulder", "RShoulder")
#: Metres, Y up, of the markers above.
STANDING = np.array(
    [[0, 1, 0], [-0.1, 1, 0], [-0.1, 0.55, 0], [-0.1, 0.1, 0], [0.1, 1, 0], [0.1, 0.55, 0], [0.1, 0.1, 0], [0, 1.45, 0],
     [0, 1.6, 0], [0.2, 1.4, 0], [-0.2, 1.4, 0]]
)  # fmt: skip


def trc_file(path: Path, unit: str = "m", scale: float = 1.0, points: np.ndarray = STANDING) -> Path:
    names = "\t\t\t".join(MARKERS)
    axes = "\t".join(f"{a}{i + 1}" for i in range(len(MARKERS)) for a in "XYZ")
    head = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames"
    lines = [
        "PathFileType\t4\t(X/Y/Z)\tout.trc", head, f"60\t60\t3\t{len(MARKERS)}\t{unit}\t60\t1\t3",
        f"Frame#\tTime\t{names}\t\t", f"\t\t{axes}", "",
    ]  # fmt: skip
    for i in range(3):
        lines.append("\t".join([str(i + 1), f"{i / 60:.6f}", *(f"{v:.6f}" for v in (points * scale).ravel())]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("unit", "scale"), [("m", 1.0), ("mm", 1000.0)])
def test_trc_is_metres_with_z_up(tmp_path: Path, unit: str, scale: float) -> None:
    motion = read_motion(trc_file(tmp_path / "a.trc", unit, scale))
    assert np.allclose(motion.joints[2, INDEX["RKnee"]], (-0.1, 0, 0.55), atol=1e-5)
    assert np.allclose(motion.joints[2, INDEX["LShoulder"]], (0.2, 0, 1.4), atol=1e-5)
    assert np.allclose(motion.joints[0, INDEX["MidHip"]], (0, 0, 1), atol=1e-5)
    assert motion.times == pytest.approx([0, 1 / 60, 2 / 60], abs=1e-5) and (motion.confidence[0] > 0).sum() == 10
    lying = read_motion(trc_file(tmp_path / "z.trc", points=STANDING[:, [0, 2, 1]]))  # a file whose Z is up already
    assert np.allclose(lying.joints[0, INDEX["RKnee"]], (-0.1, 0, 0.55), atol=1e-5)


def test_wrong_trc_names_file_and_line(tmp_path: Path) -> None:
    path = trc_file(tmp_path / "a.trc")
    good = path.read_text()
    for old, new, words in (
        ("PathFileType\t4", "Path", ("PathFileType",)),
        ("\tm\t", "\tfoot\t", ("line 3", "Units", "foot")),
        ("1.450000", "high", ("line 7", "high")),
        ("0.016667", "0.000000", ("times",)),
    ):
        assert old in good
        path.write_text(good.replace(old, new))
        refusal(lambda: read_motion(path), "a.trc", *words)
    path.write_text("\n".join(good.splitlines()[:6]))
    refusal(lambda: read_motion(path), "a.trc", "no frames")


def bvh_file(path: Path, bones: dict[str, tuple[str, tuple[float, float, float]]], rows: list[list[float]]) -> Path:
    """bones: name → (parent, offset), roots with the parent ''. rows: the root's position and Z, X, Y rotations, then
    every other bone's rotations; what a row lacks is 0."""
    lines = ["HIERARCHY"]
    width = 0

    def write(name: str, depth: int) -> None:
        nonlocal width
        pad = "  " * depth
        places = "6 Xposition Yposition Zposition " if depth == 0 else "3 "
        width += 6 if depth == 0 else 3
        offset = " ".join(map(str, bones[name][1]))
        lines.extend([f"{pad}{'JOINT' if depth else 'ROOT'} {name}", pad + "{", f"{pad}OFFSET {offset}"])
        lines.append(f"{pad}CHANNELS {places}Zrotation Xrotation Yrotation")
        children = [child for child, (parent, _) in bones.items() if parent == name]
        for child in children:
            write(child, depth + 1)
        if not children:
            lines.extend([f"{pad}End Site", pad + "{", "OFFSET 0 5 0", pad + "}"])
        lines.append(pad + "}")

    write(next(iter(bones)), 0)
    lines += ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.033333"]
    lines += [" ".join(map(str, row + [0.0] * (width - len(row)))) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def mixamo(prefix: str = "mixamorig:", side: tuple[str, str] = ("Left", "Right")) -> dict[str, Any]:
    """A standing person in centimetres, Y up, facing Z."""
    bones = {"Hips": ("", (0.0, 100.0, 0.0)), "Spine": ("Hips", (0.0, 40.0, 0.0)), "Head": ("Spine", (0.0, 20.0, 0.0))}
    for word, x in zip(side, (1.0, -1.0), strict=True):
        bones |= {
            f"{word}UpLeg": ("Hips", (10 * x, 0.0, 0.0)), f"{word}Leg": (f"{word}UpLeg", (0.0, -45.0, 0.0)),
            f"{word}Foot": (f"{word}Leg", (0.0, -45.0, 0.0)), f"{word}ToeBase": (f"{word}Foot", (0.0, -7.0, 13.0)),
            f"{word}Shoulder": ("Spine", (5 * x, 5.0, 0.0)), f"{word}Arm": (f"{word}Shoulder", (12 * x, 0.0, 0.0)),
            f"{word}ForeArm": (f"{word}Arm", (28 * x, 0.0, 0.0)), f"{word}Hand": (f"{word}ForeArm", (25 * x, 0.0, 0.0)),
        }  # fmt: skip
    return {prefix + n: (prefix + p if p else "", offset) for n, (p, offset) in bones.items()}


def test_bvh_is_metres_with_z_up(tmp_path: Path) -> None:
    # In the second frame the person has turned by 90 degrees about the vertical and gone half a metre.
    row = [50.0, 100.0, 0.0, 0.0, 0.0, 90.0]
    motion = read_motion(bvh_file(tmp_path / "a.bvh", mixamo(), [[0, 100.0, 0], row]))
    assert motion.times == pytest.approx([0, 1 / 30], abs=1e-4)
    at = {n: motion.joints[0, INDEX[n]] for n in BODY_JOINTS}
    assert np.allclose(at["LWrist"], (0.70, 0, 1.45), atol=1e-5) and np.allclose(
        at["RKnee"], (-0.1, 0, 0.55), atol=1e-5
    )
    assert np.allclose(at["Neck"], (0, 0, 1.45), atol=1e-5)
    # He looks along +Z of the file, which is -Y of ours, and what no BVH has lies where people have it.
    assert at["Nose"][1] < -0.1 and at["LBigToe"][1] < -0.1 < 0 < at["LHeel"][1] and at["LHeel"][2] < 0.09
    assert at["LEar"][0] > at["REar"][0] and 1.5 < at["LEye"][2] < 1.7
    turned = motion.joints[1]
    assert np.allclose(turned[INDEX["LWrist"]], (0.5, 0.70, 1.45), atol=1e-4)
    assert turned[INDEX["Nose"]][0] > 0.6
    assert motion.confidence[0, LEFT_HAND] == 0


def test_bvh_rotations_follow_the_channels_order(tmp_path: Path) -> None:
    bones = mixamo()
    rows = [0.0] * (6 + 3 * (len(bones) - 1))
    rows[1] = 100.0
    order = ["mixamorig:Hips"]

    def visit(name: str) -> None:
        for child, (parent, _) in bones.items():
            if parent == name:
                order.append(child)
                visit(child)

    visit("mixamorig:Hips")
    column = 3 + 3 * order.index("mixamorig:LeftForeArm")
    rows[column : column + 3] = [30.0, 40.0, 50.0]
    motion = read_motion(bvh_file(tmp_path / "a.bvh", bones, [rows]))
    z, x, y = (rotation(np.radians(a) * np.eye(3)[i]) for a, i in ((30, 2), (40, 0), (50, 1)))
    wrist = np.array([45.0, 145, 0]) + z @ x @ y @ [25, 0, 0]
    assert np.allclose(motion.joints[0, INDEX["LWrist"]], np.array([wrist[0], -wrist[2], wrist[1]]) / 100, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "Character1:"])
def test_rigs_are_known_by_their_names(tmp_path: Path, prefix: str) -> None:
    assert read_motion(bvh_file(tmp_path / "a.bvh", mixamo(prefix), [[0, 100.0, 0]])).confidence[0, :25].all()
    metres = {n: (p, tuple(v / 100 for v in o)) for n, (p, o) in mixamo(prefix).items()}
    motion = read_motion(bvh_file(tmp_path / "m.bvh", metres, [[0, 1.0, 0]]))
    assert motion.joints[0, INDEX["Neck"], 2] == pytest.approx(1.45)
    odd = {n.replace("ForeArm", "Noodle"): (p.replace("ForeArm", "Noodle"), o) for n, (p, o) in mixamo(prefix).items()}
    refusal(lambda: read_motion(bvh_file(tmp_path / "b.bvh", odd, [[0, 100.0, 0]])), "b.bvh", "LElbow")


def test_wrong_bvh_names_file_and_line(tmp_path: Path) -> None:
    path = bvh_file(tmp_path / "a.bvh", mixamo(), [[0, 100.0, 0]] * 3)
    good = path.read_text()
    for old, new, words in (
        ("Frames: 3", "Frames: 4", ("3 frames instead of 4",)),
        ("OFFSET 0.0 40.0 0.0", "OFFSET 0.0 40.0", ("line", "3 values")),
        ("OFFSET 0.0 40.0 0.0", "OFFSET 0.0 up 0.0", ("line", "'up'")),
        ("Frame Time: 0.033333", "Frame Time: 0", ("frame time",)),
        ("Zrotation", "Wrotation", ("Wrotation",)),
        ("MOTION", "", ("MOTION",)),
        ("HIERARCHY", "", ("line 2", "HIERARCHY")),
    ):
        path.write_text(good.replace(old, new))
        refusal(lambda: read_motion(path), "a.bvh", *words)
    tiny = {n: (p, tuple(v / 1e6 for v in o)) for n, (p, o) in mixamo().items()}
    refusal(lambda: read_motion(bvh_file(tmp_path / "t.bvh", tiny, [[0.0]])), "t.bvh", "legs")


def test_real_motion_stands_on_the_floor(shared: Path) -> None:
    for name, frames in (("002_03", 86), ("005_06", 443)):
        motion = read_motion(shared / "motion" / f"{name}.bvh")
        body = motion.joints[:, :25]
        assert len(motion) == frames and motion.confidence[:, :25].all() and motion.confidence[0, LEFT_HAND + 8] == 0
        assert motion.confidence[0, LEFT_HAND + 5 : LEFT_HAND + 8].all()
        assert abs(np.percentile(body[..., 2].min(1), 20)) < 0.06
        thigh = np.linalg.norm(body[:, INDEX["LHip"]] - body[:, INDEX["LKnee"]], axis=-1)
        assert np.ptp(thigh) < 1e-3 and 0.4 < thigh[0] < 0.55


# ---- DensePose


def test_densepose_pictures_are_read(tmp_path: Path) -> None:
    iuv = np.zeros((60, 80, 3), np.uint8)
    iuv[10:30, 20:50] = (7, 128, 255)
    cv2.imwrite(str(tmp_path / "frame_0003_IUV.png"), iuv)
    cv2.imwrite(str(tmp_path / "frame_0004_IUV.png"), iuv[..., ::-1])  # written by a program that swaps colours
    for name in ("frame_0003_INDS.png", "frame_0002_INDS.png"):  # DensePose's own program leaves these beside them
        cv2.imwrite(str(tmp_path / name), iuv[..., 0])
    ((first, surface), (second, swapped)) = read_densepose(tmp_path)
    assert (first, second) == (3, 4) and (surface.x, surface.y) == (20, 10) and surface.labels.shape == (20, 30)
    assert (surface.labels == 7).all() and np.allclose(surface.uv[1], 1) and np.array_equal(surface.uv, swapped.uv)
    full = surface.full(80, 60)
    assert full.labels.sum() == 7 * 600 and full.uv.shape == (2, 60, 80)
    cv2.imwrite(str(tmp_path / "frame_0005_IUV.png"), np.full((60, 80, 3), 99, np.uint8))
    refusal(lambda: list(read_densepose(tmp_path)), "frame_0005_IUV.png", "IUV")


class DensePoseChartResult:
    """Pickles as detectron2's class of that name does."""

    def __init__(self, labels: torch.Tensor, uv: torch.Tensor) -> None:
        self.labels, self.uv = labels, uv


DensePoseChartResult.__module__ = "densepose.structures.chart_result"
DensePoseChartResult.__qualname__ = "DensePoseChartResult"


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a dump as apply_net does, by torch.save or by pickle."""
    import sys
    import types

    for name in ("densepose", "densepose.structures", "densepose.structures.chart_result"):
        module = types.ModuleType(name)
        module.DensePoseChartResult = DensePoseChartResult  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)

    def write(torch_file: bool, data: Any = None) -> Path:
        results = [DensePoseChartResult(torch.full((8, 6), part), torch.full((2, 8, 6), 0.25)) for part in (3, 5)]
        entry = {
            "file_name": "images/0007.jpg", "scores": torch.tensor([0.4, 0.9]), "pred_densepose": results,
            "pred_boxes_XYXY": torch.tensor([[0.0, 0, 6, 8], [10.0, 20, 16, 28]]),
        }  # fmt: skip
        empty = {"file_name": "images/0008.jpg", "scores": torch.zeros(0)}
        path = tmp_path / "dump.pkl"
        with path.open("wb") as file:
            (torch.save if torch_file else pickle.dump)([entry, empty] if data is None else data, file)
        return path

    return write


@pytest.mark.parametrize("torch_file", [True, False])
def test_densepose_dump_is_read(dump: Callable[..., Path], torch_file: bool) -> None:
    ((frame, surface),) = read_densepose(dump(torch_file))
    assert frame == 7 and (surface.x, surface.y) == (10, 20) and (surface.labels == 5).all()
    assert surface.uv.shape == (2, 8, 6) and np.allclose(surface.uv, 0.25)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["NEURAL_AVATAR_TEST_TRAP"],)


@pytest.mark.parametrize("torch_file", [True, False])
def test_pickle_that_is_not_denseposes_is_not_opened(
    dump: Callable[..., Path], torch_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("NEURAL_AVATAR_TEST_TRAP", str(trap))
    path = dump(torch_file, [Evil()])
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "not DensePose's", "apply_net", code="densepose-corrupt")
    assert not trap.exists()
    # A tensor within an old pickle is itself a file of torch's: a trap in there must stay shut too.
    inner = io.BytesIO()
    torch.save(Evil(), inner)
    load = torch.storage._load_from_bytes

    class Nested:
        def __reduce__(self) -> tuple[Any, ...]:
            return load, (inner.getvalue(),)

    path.write_bytes(pickle.dumps([Nested()]))
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "not DensePose's")
    assert not trap.exists()
    path = dump(torch_file, {"a": 1})
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "no DensePose dump")
    path = dump(torch_file, [{"scores": [1]}])
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "picture 0", "pred_boxes_XYXY")


def test_densepose_dump_of_odd_numbers_is_one_sentence(dump: Callable[..., Path]) -> None:
    def entry(**other: Any) -> dict[str, Any]:
        result = DensePoseChartResult(torch.ones(4, 3, dtype=torch.int64), torch.zeros(2, 4, 3))
        return {"file_name": "1.jpg", "scores": torch.ones(1), "pred_densepose": [result],
                "pred_boxes_XYXY": torch.tensor([[0.0, 0, 3, 4]]), **other}  # fmt: skip

    def with_result(labels: torch.Tensor, uv: torch.Tensor) -> dict[str, Any]:
        return entry(pred_densepose=[DensePoseChartResult(labels, uv)])

    assert len(list(read_densepose(dump(False, [entry()])))) == 1
    labels, uv = torch.ones(4, 3, dtype=torch.int64), torch.zeros(2, 4, 3)
    for odd in (
        with_result(-labels, uv),
        with_result(labels, uv * torch.nan),
        with_result(labels, uv.clone().requires_grad_()),
        with_result(torch.ones(1, 1).expand(1 << 20, 1 << 20), torch.ones(1, 1, 1).expand(2, 1 << 20, 1 << 20)),
        entry(pred_boxes_XYXY=torch.tensor([[torch.inf, 0, 3, 4]])),
        entry(pred_densepose=7),
        {"scores": 7},
    ):
        path = dump(False, [odd])
        refusal(lambda path=path: list(read_densepose(path)), "dump.pkl", "picture 0", code="densepose-corrupt")
