# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of a person in a film: made, given or taken from DensePose, cleaned, and such that they fit."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import INDEX
from neural_avatar.training.footage import given_masks
from neural_avatar.training.footage.masks import MaskOptions, make_masks, read_alpha
from neural_avatar.training.footage.matte import clean
from neural_avatar.training.footage.pose import segmentation_path
from neural_avatar.training.footage.records import Detections
from neural_avatar.training.footage.selection import Selection
from neural_avatar.training.footage.video import open_source
from support.pose_films import SIZE, needs_mediapipe


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
