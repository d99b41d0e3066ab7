# SPDX-License-Identifier: GPL-3.0-or-later
"""2D poses of other programs, right and wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND
from neural_avatar.training.footage.readers.people import Film
from neural_avatar.training.footage.readers.poses import read_poses
from neural_avatar.training.footage.records import Detections
from support.readers import flat, refusal, write_json

FILM = Film("cam1", 640, 480, np.arange(6) / 30)


def person(x: float, y: float, size: float = 200.0, joints: int = 25) -> list[list[float]]:
    """A body of ``joints`` joints spread over a box of the given size around (x, y)."""
    grid = np.random.default_rng(joints).uniform(-0.5, 0.5, (joints, 2)) * size
    return [[x + a, y + b, 0.9] for a, b in grid]


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
