# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses of a person in a film: found, followed among others, and resumed exactly."""

from __future__ import annotations

import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import FACE, INDEX, LEFT_HAND, RIGHT_HAND
from neural_avatar.training.footage import holistic
from neural_avatar.training.footage.landmarks import IBUG_68, Landmarks, ibug_70, to_joints
from neural_avatar.training.footage.masks import MaskOptions, make_masks, read_alpha
from neural_avatar.training.footage.pose import PoseOptions, detect, segmentation_path
from neural_avatar.training.footage.records import Detections
from neural_avatar.training.footage.selection import Selection
from neural_avatar.training.footage.video import open_source
from support.pose_films import SIZE, background, needs_mediapipe, paste, person, write_film


@pytest.fixture(scope="module")
def crowd(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A large person who walks out to the right and comes back, and a small one in other colours who stays; and where
    the large one's middle is."""
    pictures, places = [], []
    for t in range(30):
        picture, mask = background(), np.zeros(SIZE[::-1], np.float32)
        paste(picture, mask, person(shared, "cam02", t, 290, (1.6, 0.5, 0.4)), -20, 150)
        x = 250 + max(t - 5, 0) * 70 if t < 14 else max(1020 - (t - 14) * 70, 250)
        paste(picture, mask, person(shared, "cam00", t, 440), x, 20)
        pictures.append(picture)
        places.append(x + 220)
    return write_film(tmp_path_factory.mktemp("film") / "two.mp4", pictures), places


def test_everything_is_found(film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path]) -> None:
    detections, folder = found
    assert detections.found.all() and (detections.width, detections.height) == SIZE
    assert (detections.confidence >= 0).all() and (detections.confidence <= 1).all()
    absent = detections.confidence == 0
    assert (detections.points[absent] == 0).all() and np.isnan(detections.world[absent]).all()
    small_toes = [INDEX["LSmallToe"], INDEX["RSmallToe"]]
    body = np.delete(np.arange(LEFT_HAND), small_toes)
    assert (detections.confidence[:, body] > 0.5).mean() > 0.9 and absent[:, small_toes].all()
    for index, mask in enumerate(film[1]):
        sure = detections.confidence[index, body] > 0.5
        x, y = detections.points[index, body][sure].astype(int).clip(0, (SIZE[0] - 1, SIZE[1] - 1)).T
        assert cv2.dilate(mask, np.ones((21, 21)))[y, x].mean() > 0.95, "joints lie on the person"
        assert segmentation_path(folder, index).exists()
    # World positions: camera axes (y down), origin at MidHip, a person's size.
    world = detections.world
    np.testing.assert_allclose(world[:, INDEX["MidHip"]], 0, atol=1e-6)
    assert np.median(world[:, INDEX["Neck"], 1]) < -0.3 and np.median(world[:, INDEX["LAnkle"], 1]) > 0.5
    hands = detections.confidence[:, [LEFT_HAND, RIGHT_HAND]] > 0.5
    assert hands.mean() > 0.3 and (detections.confidence[:, FACE] > 0.5).any()


def test_stopped_and_gone_on(
    film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path
) -> None:
    """A run that is stopped goes on at the first missing chunk, and comes to the same result to the last bit."""

    def stop(done: int, total: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    options = PoseOptions(chunk=6)
    with pytest.raises(KeyboardInterrupt):
        detect(open_source(film[0]), tmp_path, options, stop)
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("0*.npz")}
    assert sorted(kept) == ["000000.npz", "000006.npz"]
    (tmp_path / "000006.npz").write_bytes((tmp_path / "000006.npz").read_bytes()[:-300])  # not whole
    told: list[tuple[int, int]] = []
    again = detect(open_source(film[0]), tmp_path, options, lambda *t: told.append(t))
    assert told[0] == (6, 18) and told[-1] == (18, 18)
    assert (tmp_path / "000000.npz").stat().st_mtime_ns == kept["000000.npz"]
    whole, folder = found
    for name in ("points", "confidence", "world", "times"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    for index in range(18):
        assert segmentation_path(tmp_path, index).read_bytes() == segmentation_path(folder, index).read_bytes()


@needs_mediapipe
def test_quiet_and_without_network(
    film: tuple[Path, list[np.ndarray]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something wants the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    detect(Selection(open_source(film[0]), np.arange(2)), tmp_path)
    assert capfd.readouterr() == ("", "")


@needs_mediapipe
def test_one_of_several_people(crowd: tuple[Path, list[int]], tmp_path: Path) -> None:
    """The largest is followed, absent while away though somebody else stays, and found again."""
    path, places = crowd
    first = detect(open_source(path), tmp_path / "1")
    middle = first.points[:, INDEX["MidHip"], 0]
    places_ = np.array(places)
    away = places_ > SIZE[0] + 220
    assert away.sum() >= 4 and not first.found[away].any()
    seen = first.found & ~away
    assert seen[:8].all() and seen[-6:].all()
    assert np.abs(middle[seen] - places_[seen]).max() < 100
    assert not segmentation_path(tmp_path / "1", int(np.flatnonzero(away)[0])).exists()
    second = detect(open_source(path), tmp_path / "2", PoseOptions(person=2))
    assert second.found.mean() > 0.9 and second.points[second.found, INDEX["MidHip"], 0].max() < 230
    with pytest.raises(BackendError, match="person number 5") as caught:
        detect(open_source(path), tmp_path / "5", PoseOptions(person=5))
    assert caught.value.code == "footage-person"


@needs_mediapipe
def test_nobody(tmp_path: Path) -> None:
    path = write_film(tmp_path / "still.mp4", [background()] * 5)
    with pytest.raises(BackendError, match=r"still\.mp4") as caught:
        detect(open_source(path), tmp_path / "pose")
    assert caught.value.code == "footage-nobody"


def test_without_mediapipe(
    film: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'mediapipe'")

    monkeypatch.setattr(holistic.importlib, "import_module", missing)
    with pytest.raises(BackendError, match=r"pip install .*PATH-TO-CHECKOUT\[footage\]") as caught:
        detect(open_source(film[0]), tmp_path)
    assert caught.value.code == "pose-missing"


def test_face_landmarks_are_mirror_images() -> None:
    """iBUG's left and right are each other's mirror images, as MediaPipe's mesh is."""
    assert len(set(IBUG_68)) == 68 and max(IBUG_68) < 468
    mesh = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    points = ibug_70(mesh)
    assert points.shape == (70, 3)
    np.testing.assert_array_equal(points[68:], mesh[[468, 473]])
    np.testing.assert_allclose(ibug_70(mesh[:468])[68], (mesh[33] + mesh[133]) / 2, rtol=1e-6)


def test_confidence_of_hands_and_of_what_is_outside() -> None:
    rng = np.random.default_rng(0)
    body = np.column_stack([rng.uniform(100, 300, (33, 2)), np.full(33, 0.95)]).astype(np.float32)
    body[13, :2], body[15, :2], body[14, :2], body[16, :2] = (100, 150), (100, 200), (300, 150), (300, 200)
    body[28, :2] = (200, 700)  # an ankle under the picture
    hand = np.zeros((21, 3), np.float32)
    hand[:, 1] = np.linspace(0, 40, 21)
    near, far = hand + (302, 203, 0), hand + (300, 330, 0)
    joints = to_joints(Landmarks(body, rng.normal(size=(33, 3)).astype(np.float32), far, near), 640, 480)
    assert joints.confidence[RIGHT_HAND] > 0.8 and joints.confidence[LEFT_HAND] < 0.1
    assert joints.confidence[INDEX["RAnkle"]] < 0.25 and joints.confidence[INDEX["LAnkle"]] > 0.9
    both = to_joints(Landmarks(body, rng.normal(size=(33, 3)).astype(np.float32), near, near), 640, 480)
    assert both.confidence[RIGHT_HAND] > 0.8 and both.confidence[LEFT_HAND] == 0, "one hand is not taken for both"


@needs_mediapipe
def test_real_footage(shared: Path, tmp_path: Path) -> None:
    """A real person, others in the background: found in every frame, and nobody else in the mask."""
    whole = open_source(shared / "footage" / "real_multiview" / "videos" / "cam01.mp4")
    source = Selection(whole, np.arange(40, 52))
    detections = detect(source, tmp_path / "pose")
    assert detections.found.all() and (detections.confidence[:, : INDEX["REye"]] > 0.5).mean() > 0.95
    make_masks(source, detections, tmp_path / "masks", MaskOptions(segmentation=tmp_path / "pose"))
    for index in range(12):
        mask = read_alpha(tmp_path / "masks", index, whole.width, whole.height) > 127
        known = detections.points[index][detections.confidence[index] > 0.5]
        x0, y0 = (known.min(0) - 150).clip(0).astype(int)
        x1, y1 = (known.max(0) + 150).astype(int)
        assert mask[y0:y1, x0:x1].sum() == mask.sum(), "the mask ends near the person"
        assert 0.03 < mask.mean() < 0.2
