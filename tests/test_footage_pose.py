# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses and masks of a person in a film: found, followed among others, resumed exactly, and masks that fit.

The films are composed from pictures of the rendered person, so that the true mask of every frame is known.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import FACE, INDEX, LEFT_HAND, RIGHT_HAND
from neural_avatar.training.footage import given_masks, holistic
from neural_avatar.training.footage.landmarks import IBUG_68, Landmarks, ibug_70, to_joints
from neural_avatar.training.footage.masks import MaskOptions, make_masks, read_alpha
from neural_avatar.training.footage.matte import clean
from neural_avatar.training.footage.pose import PoseOptions, detect, segmentation_path
from neural_avatar.training.footage.records import Detections
from neural_avatar.training.footage.selection import Selection
from neural_avatar.training.footage.video import open_source

SIZE = (640, 480)
needs_mediapipe = pytest.mark.skipif(not holistic.available(), reason="MEDIAPIPE MISSING: poses are not tested")


def person(
    shared: Path, camera: str, row: int, height: int, tint: tuple[float, float, float] = (1, 1, 1)
) -> np.ndarray:
    """(height, height, 4) float, a picture of the rendered person; ``tint`` gives them other colours."""
    files = sorted((shared / "footage" / "rendered_human_512" / "images" / camera).glob("*.png"))
    rgba = cv2.imread(str(files[row]), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]].astype(np.float32)
    rgba[..., :3] = np.clip(rgba[..., :3] * tint, 0, 255)
    return cv2.resize(rgba, (height, height), interpolation=cv2.INTER_AREA)


def paste(picture: np.ndarray, mask: np.ndarray, rgba: np.ndarray, x: int, y: int) -> None:
    h, w = rgba.shape[:2]
    x0, x1, y0, y1 = max(x, 0), min(x + w, picture.shape[1]), max(y, 0), min(y + h, picture.shape[0])
    if x0 < x1 and y0 < y1:
        part = rgba[y0 - y : y1 - y, x0 - x : x1 - x]
        alpha = part[..., 3:] / 255
        picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + part[..., :3] * alpha
        mask[y0:y1, x0:x1] = np.maximum(mask[y0:y1, x0:x1], alpha[..., 0])


def background() -> np.ndarray:
    rng = np.random.default_rng(0)
    blotches = rng.integers(90, 170, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(blotches, SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32)


def write_film(path: Path, pictures: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.options = *SIZE, "yuv420p", {"crf": "12"}
        for rgb in pictures:
            frame = av.VideoFrame.from_ndarray(np.clip(rgb, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def film(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """One person for 18 frames, and their true masks."""
    pictures, masks = [], []
    for row in range(18):
        picture, mask = background(), np.zeros(SIZE[::-1], np.float32)
        paste(picture, mask, person(shared, "cam00", row, 470), 80, 4)
        pictures.append(picture)
        masks.append(mask)
    return write_film(tmp_path_factory.mktemp("film") / "one.mp4", pictures), masks


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


@pytest.fixture(scope="module")
def found(film: tuple[Path, list[np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Detections, Path]:
    """What is found in the film of one person, in chunks of 6 frames, and where it is kept."""
    if not holistic.available():
        pytest.skip("MEDIAPIPE MISSING: poses are not tested")
    folder = tmp_path_factory.mktemp("pose")
    return detect(open_source(film[0]), folder, PoseOptions(chunk=6)), folder


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


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_masks_fit(film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path) -> None:
    detections, folder = found
    make_masks(open_source(film[0]), detections, tmp_path, MaskOptions(segmentation=folder))
    fits = [_iou(read_alpha(tmp_path, i) > 127, mask > 0.5) for i, mask in enumerate(film[1])]
    assert np.mean(fits) > 0.94 and min(fits) > 0.85, fits
    mask = read_alpha(tmp_path, 3)
    partly = ((mask > 0) & (mask < 255)).sum()
    assert 0.3 < partly / cv2.Canny(mask, 100, 200).astype(bool).sum() < 5, "a soft border of a pixel or two"
    assert read_alpha(tmp_path, 3, 320, 240).shape == (240, 320)


@needs_mediapipe
def test_masks_where_poses_were_given(
    film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path
) -> None:
    """Without segmentations the model is run for them; frames without a pose have an empty mask."""
    given = Detections(
        found[0].points[:4], found[0].confidence[:4].copy(), found[0].times[:4], *SIZE, "poses"
    )  # fmt: skip
    given.confidence[2] = 0
    make_masks(Selection(open_source(film[0]), np.arange(4)), given, tmp_path)
    for index in (0, 1, 3):
        assert _iou(read_alpha(tmp_path, index) > 127, film[1][index] > 0.5) > 0.85
    assert not read_alpha(tmp_path, 2).any()


def test_masks_are_kept(film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    source, options = open_source(film[0]), MaskOptions(segmentation=found[1])
    with pytest.raises(KeyboardInterrupt):
        make_masks(source, found[0], tmp_path, options, stop)
    before = (tmp_path / "00003.png").stat().st_mtime_ns
    told: list[int] = []
    make_masks(source, found[0], tmp_path, options, lambda done, total: told.append(done))
    assert told[0] == 7 and (tmp_path / "00003.png").stat().st_mtime_ns == before
    assert len(list(tmp_path.glob("*.png"))) == 18


def test_grabcut(film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path) -> None:
    source = Selection(open_source(film[0]), np.arange(2))
    make_masks(source, found[0], tmp_path, MaskOptions(segmentation=found[1], grabcut=True))
    assert _iou(read_alpha(tmp_path, 1) > 127, film[1][1] > 0.5) > 0.8


def test_deeplab_missing(film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path) -> None:
    """A sentence where torchvision, or its weights, are not there; nothing is downloaded."""
    with pytest.raises(BackendError) as caught:
        options = MaskOptions(segmentation=found[1], deeplab=tmp_path / "weights.pth")
        make_masks(open_source(film[0]), found[0], tmp_path / "masks", options)
    assert caught.value.code in ("deeplab-missing", "deeplab-weights")


def _pictures(folder: Path, count: int, size: tuple[int, int] = SIZE) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        mask = np.zeros(size[::-1], np.uint8)
        mask[: 10 * index + 5] = 255
        cv2.imwrite(str(folder / f"mask{index}.png"), mask)
    return folder


def _nothing(count: int) -> Detections:
    return Detections(
        np.zeros((count, 137, 2), np.float32), np.zeros((count, 137), np.float32), np.arange(count) / 12, *SIZE, ""
    )


def test_given_masks(film: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    """Taken as they are, in natural order, from the folder or the camera's own folder in it."""
    source = open_source(film[0])
    for given, inside in ((tmp_path / "a", "."), (tmp_path / "b", "one")):
        _pictures(given / inside, 18)
        out = tmp_path / "out" / given.name
        make_masks(source, _nothing(18), out, MaskOptions(given=given))
        for index in (0, 2, 11, 17):
            mask = read_alpha(out, index)
            assert set(np.unique(mask)) == {0, 255} and (mask[:, 0] > 0).sum() == 10 * index + 5
    chosen = Selection(source, np.array([3, 5, 12]))
    make_masks(chosen, _nothing(3), tmp_path / "some", MaskOptions(given=tmp_path / "a"))
    assert [(read_alpha(tmp_path / "some", i)[:, 0] > 0).sum() for i in range(3)] == [35, 55, 125]


def test_given_masks_that_do_not_fit(film: tuple[Path, list[np.ndarray]], tmp_path: Path) -> None:
    source = open_source(film[0])
    for folder, count, size, code, words in (
        ("few", 17, SIZE, "masks-count", "17 masks.*18 frames"), ("many", 19, SIZE, "masks-count", "19 masks"),
        ("small", 18, (320, 240), "masks-size", "mask0.png is 320x240.*640x480"),
        ("none", 0, SIZE, "masks-missing", "none"),
    ):  # fmt: skip
        _pictures(tmp_path / folder, count, size)
        with pytest.raises(BackendError, match=words) as caught:
            make_masks(source, _nothing(18), tmp_path / "out" / folder, MaskOptions(given=tmp_path / folder))
        assert caught.value.code == code
    with pytest.raises(BackendError) as caught:
        make_masks(source, _nothing(18), tmp_path / "out" / "x", MaskOptions(given=tmp_path / "nowhere"))
    assert caught.value.code == "masks-missing"


def test_alpha_of_pictures_is_the_mask(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    rgba = np.full((40, 60, 4), 90, np.uint8)
    rgba[..., 3] = np.linspace(0, 255, 60).astype(np.uint8)
    cv2.imwrite(str(folder / "0.png"), rgba)
    make_masks(open_source(folder), _nothing(1), tmp_path / "masks")
    np.testing.assert_array_equal(read_alpha(tmp_path / "masks", 0), rgba[..., 3])


def test_opaque_alpha_is_no_mask(
    film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path
) -> None:
    """Renderers and converters write an alpha of 1 everywhere: it does not say that the whole picture is the person."""
    (tmp_path / "shots").mkdir()
    for index, rgb in open_source(film[0]).frames(0, 2):
        cv2.imwrite(str(tmp_path / "shots" / f"{index}.png"), np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255)]))
    source = open_source(tmp_path / "shots")
    assert not source.has_alpha
    make_masks(source, found[0], tmp_path / "masks", MaskOptions(segmentation=found[1]))
    assert _iou(read_alpha(tmp_path / "masks", 1) > 127, film[1][1] > 0.5) > 0.8


def test_a_damaged_segmentation_is_told(
    film: tuple[Path, list[np.ndarray]], found: tuple[Detections, Path], tmp_path: Path
) -> None:
    shutil.copytree(found[1], tmp_path / "pose")
    segmentation_path(tmp_path / "pose", 2).write_bytes(b"not a picture")
    with pytest.raises(BackendError, match=r"00002\.png.*--restart") as caught:
        make_masks(open_source(film[0]), found[0], tmp_path / "masks", MaskOptions(segmentation=tmp_path / "pose"))
    assert caught.value.code == "masks-missing"


class _Trap:
    """A pickle that would run a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch sprung",)


def test_a_pickle_that_is_not_denseposes_is_not_opened(
    film: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dump.pkl").write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(BackendError, match=r"dump\.pkl.*not DensePose's.*apply_net") as caught:
        make_masks(open_source(film[0]), _nothing(18), tmp_path / "out", MaskOptions(given=tmp_path / "dump.pkl"))
    assert caught.value.code == "densepose-corrupt" and not (tmp_path / "sprung").exists()


def test_denseposes_parts_are_masks(
    film: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As IUV pictures, one for each frame; and as a dump that counts from 1 and leaves out who was not found."""
    source, truth = open_source(film[0]), [mask > 0.5 for mask in film[1]]
    rng = np.random.default_rng(0)
    entries = []
    structures = types.ModuleType("densepose.structures.chart_result")
    structures.DensePoseChartResult = type(  # type: ignore[attr-defined]
        "DensePoseChartResult", (), {"__module__": "densepose.structures.chart_result"}
    )
    for name in ("densepose", "densepose.structures"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, structures.__name__, structures)
    (tmp_path / "iuv").mkdir()
    for i, person in enumerate(truth):
        iuv = rng.integers(1, 255, (*person.shape, 3)).astype(np.uint8)
        iuv[..., 0] = rng.integers(1, 25, person.shape)
        iuv[~person] = 0
        cv2.imwrite(str(tmp_path / "iuv" / f"frame_{i:03d}_IUV.png"), iuv)
        result = structures.DensePoseChartResult()  # type: ignore[attr-defined]
        result.labels = torch.from_numpy(iuv[..., 0].astype(np.int64))
        result.uv = torch.zeros(2, *person.shape)
        box = torch.tensor([[0.0, 0, person.shape[1], person.shape[0]]])
        entry = {
            "file_name": f"{i + 1:03d}.jpg",
            "scores": torch.ones(1),
            "pred_boxes_XYXY": box,
            "pred_densepose": [result],
        }
        entries.append(entry if i != 4 else {"file_name": "005.jpg", "scores": torch.zeros(0)})
    torch.save(entries, tmp_path / "dump.pkl")
    for given, lost in (("iuv", -1), ("dump.pkl", 4)):
        out = tmp_path / f"out_{given}"
        make_masks(source, _nothing(18), out, MaskOptions(given=tmp_path / given))
        for i, person in enumerate(truth):
            alpha = read_alpha(out, i, source.width, source.height)
            assert ((alpha > 127) == (person if i != lost else np.zeros_like(person))).mean() > 0.995, (given, i)


class _Gappy:
    """A video of masks in which some frames cannot be decoded."""

    def __init__(self, lost: int) -> None:
        self._lost = lost

    def __len__(self) -> int:
        return 18

    def frames(self, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        for index in range(start, 18):
            if index != self._lost:
                yield index, np.full((*SIZE[::-1], 3), 10 * index, np.uint8)


def test_a_gap_in_a_video_of_masks_stays_one(
    film: tuple[Path, list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "masks.mp4").touch()
    monkeypatch.setattr(given_masks, "open_source", lambda path: _Gappy(4))
    make_masks(open_source(film[0]), _nothing(18), tmp_path / "out", MaskOptions(given=tmp_path / "masks.mp4"))
    grey = [int(read_alpha(tmp_path / "out", i).max()) for i in range(18)]
    assert grey == [0 if i == 4 else 10 * i for i in range(18)]


def _stick(scale: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """A trunk with two legs and an arm stretched out, in a picture of 200 x 200."""
    points, confidence = np.zeros((137, 2), np.float32), np.zeros(137, np.float32)
    for name, at in {
        "Nose": (100, 20), "Neck": (100, 40), "MidHip": (100, 100), "RHip": (90, 100), "RKnee": (88, 140),
        "RAnkle": (88, 180), "LHip": (110, 100), "LKnee": (112, 140), "LAnkle": (112, 180), "LShoulder": (115, 45),
        "LElbow": (150, 50), "LWrist": (185, 55),
    }.items():  # fmt: skip
        points[INDEX[name]], confidence[INDEX[name]] = at, 0.9
    return points * scale, confidence


def test_cleaning() -> None:
    points, confidence = _stick()
    raw = np.zeros((200, 200), np.uint8)
    cv2.rectangle(raw, (85, 10), (115, 185), 255, -1)
    cv2.rectangle(raw, (98, 120), (102, 184), 0, -1)  # between the legs
    raw[60:62, 100:102] = 0  # a hole
    raw[5:9, 190:194] = 255  # a crumb
    raw[100:185, 5:35] = 255  # somebody else, far from every bone
    mask = clean(raw, points, confidence)
    assert mask[50, 100] == 255 and mask[61, 101] == 255, "the hole is closed"
    assert mask[7, 192] == 0 and not mask[100:185, 5:25].any(), "crumbs and others are dropped"
    assert mask[50, 150] > 127 and mask[140, 88] == 255, "bones are always foreground"
    assert mask[150, 100] == 0, "the gap between the legs stays"


def test_cleaning_leaves_no_ghosts() -> None:
    """Where the model is in doubt, away from the person's border, a picture is neither half there nor half gone."""
    points, confidence = _stick()
    raw = np.zeros((200, 200), np.uint8)
    cv2.rectangle(raw, (85, 10), (115, 185), 255, -1)
    raw[60:100, 60:82] = 120  # something pale beside the trunk
    raw[50:80, 93:108] = 140  # a doubtful place within it
    mask = clean(raw, points, confidence)
    assert not mask[62:98, 60:76].any(), "nothing faint away from the border"
    assert (mask[58:72, 98:103] == 255).all(), "no hole that shows through"


def test_cleaning_keeps_the_border_where_it_is() -> None:
    """An edge between two pixels' centres comes out at its place to a fraction of a pixel."""
    points, confidence = _stick()
    for edge in (120.0, 120.3, 120.5, 120.8):
        x = np.arange(200) + 0.5
        level = np.clip((edge - x) / 6 + 0.5, 0, 1) * (x > 70)
        raw = np.tile(np.rint(level * 255).astype(np.uint8), (200, 1))
        mask = clean(raw, points, confidence)[60] / 255
        assert 70.5 + mask[71:].sum() == pytest.approx(edge, abs=0.6)
        assert ((mask[100:] > 0.02) & (mask[100:] < 0.98)).sum() <= 4


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
