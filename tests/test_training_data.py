# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets as people bring them, right and wrong, and the crops cut from them."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import initialise
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation, cut_crop, vary_camera
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.pictures import Picture, load_picture
from neural_avatar.training.surfaces import ProxySurfaces
from neural_avatar.training.textures_init import average_textures

NAMES = ("Neck", "RShoulder", "LShoulder", "MidHip", "RHip", "LHip", "RKnee", "LKnee", "Nose")
POSE = np.array(
    [[0, 0, 1.5], [-0.2, 0, 1.45], [0.2, 0, 1.45], [0, 0, 1], [-0.1, 0, 1], [0.1, 0, 1], [-0.1, 0, 0.5], [0.1, 0, 0.5],
     [0, -0.1, 1.65]]
)  # fmt: skip


def make_dataset(folder: Path, rows: int = 4) -> Path:
    """A small dataset: two train cameras and a held-out one, a grey rectangle as the person; the last row is a test."""
    rotation = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    camera = {"K": [[60, 0, 24], [0, 60, 32], [0, 0, 1]], "R": rotation, "t": [0, 1, 3], "width": 48, "height": 64}
    cameras = [{"name": f"cam{i}", **camera} for i in range(3)]
    for entry in cameras:
        (folder / "images" / str(entry["name"])).mkdir(parents=True)
        picture = np.zeros((64, 48, 4), np.uint8)
        picture[16:50, 18:30] = (90, 120, 150, 255)
        for row in range(rows):
            cv2.imwrite(str(folder / "images" / str(entry["name"]) / f"{row:05d}.png"), picture)
    (folder / "cameras.json").write_text(
        json.dumps({"cameras": cameras, "train_cameras": [0, 1], "heldout_cameras": [2]})
    )
    write_joints(folder, np.repeat(POSE[None], rows, 0))
    return folder


def write_joints(folder: Path, joints: np.ndarray) -> None:
    """joints.npz: everything is train but the last row."""
    split = np.array(["train"] * (len(joints) - 1) + ["test_far"])
    np.savez(folder / "joints.npz", joints=joints.astype(np.float32), names=np.array(NAMES), split=split)


def sentence(code: str, make: object) -> str:
    """The sentence of the BackendError that ``make()`` raises."""
    with pytest.raises(BackendError) as caught:
        make()  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


def test_only_train_rows_and_train_cameras_are_trained_on(tmp_path: Path) -> None:
    data = read_dataset(make_dataset(tmp_path))
    views = data.training_views()
    assert {(v.row, v.camera) for v in views} == {(r, c) for r in range(3) for c in (0, 1)}
    assert {v.camera for v in data.training_views(["cam2"])} == {2}
    assert {(v.row, v.camera) for v in data.views(["test_far"], ["heldout"])} == {(3, 2)}
    assert data.joints.shape == (4, 137, 3) and (data.confidence > 0).sum() == 4 * len(NAMES)


def test_real_footage_is_read_as_its_readme_says(footage: Path) -> None:
    data = read_dataset(footage)
    views = data.training_views()
    assert len(views) == 123 * 6 and {v.camera for v in views} == {0, 1, 2, 4, 5, 7}
    assert all(data.split[v.row] == "train" for v in views)
    picture = data.picture(views[0]).full()
    written = cv2.imread(str(data.picture_path(views[0])), cv2.IMREAD_UNCHANGED).astype(np.float32) / 255
    opaque = written[..., 3] == 1
    assert np.abs(picture[..., 3] - written[..., 3]).max() < 1e-6
    assert np.abs(picture[opaque][:, :3] - written[opaque][:, 2::-1]).max() < 1e-6


def test_rows_with_nan_joints_are_left_out(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path)
    joints = np.repeat(POSE[None], 4, 0)
    joints[1, 0] = np.nan  # the neck: no trunk without it
    joints[2, -1] = np.nan  # the nose can be missed
    write_joints(folder, joints)
    assert {v.row for v in read_dataset(folder).training_views()} == {0, 2}
    joints[:] = np.nan
    write_joints(folder, joints)
    assert "finite" in sentence("dataset-corrupt", lambda: read_dataset(folder))


def test_bad_datasets_are_told_in_a_sentence(tmp_path: Path) -> None:
    assert "no dataset folder" in sentence("dataset-missing", lambda: read_dataset(tmp_path / "none"))
    good = make_dataset(tmp_path / "good")

    def broken(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    folder = broken("picture")
    (folder / "images/cam1/00001.png").unlink()
    assert "1 of 6 pictures are missing" in sentence("dataset-picture", lambda: read_dataset(folder).training_views())
    assert read_dataset(folder).training_views(["cam0"])

    folder2 = broken("size")
    cv2.imwrite(str(folder2 / "images/cam0/00000.png"), np.zeros((8, 8, 4), np.uint8))
    data = read_dataset(folder2)
    assert "8x8" in sentence("dataset-picture", lambda: data.preload(data.training_views()))

    # A few bytes that promise 40 GB are refused by their head.
    huge = bytearray((good / "images/cam0/00000.png").read_bytes())
    huge[16:24] = struct.pack(">II", 100_000, 100_000)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    (folder2 / "images/cam0/00000.png").write_bytes(huge)
    data = read_dataset(folder2)
    assert "100000x100000" in sentence("dataset-picture", lambda: data.preload(data.training_views()))

    folder3 = broken("rgb")
    cv2.imwrite(str(folder3 / "images/cam0/00000.png"), np.zeros((64, 48, 3), np.uint8))
    data3 = read_dataset(folder3)
    assert "alpha" in sentence("dataset-picture", lambda: data3.preload(data3.training_views()))

    folder4 = broken("empty")
    for path in (folder4 / "images").rglob("*.png"):
        cv2.imwrite(str(path), np.zeros((64, 48, 4), np.uint8))
    data4 = read_dataset(folder4)
    assert "mask" in sentence("dataset-masks", lambda: data4.preload(data4.training_views()))

    folder5 = broken("json")
    (folder5 / "cameras.json").write_text('{"cameras": [{"name": "cam0"}]}')
    assert "cameras.json" in sentence("dataset-corrupt", lambda: read_dataset(folder5))
    (folder5 / "cameras.json").unlink()
    assert "cameras.json" in sentence("dataset-missing", lambda: read_dataset(folder5))

    folder6 = broken("npz")
    (folder6 / "joints.npz").write_bytes(b"PK nonsense")
    assert "joints.npz" in sentence("dataset-corrupt", lambda: read_dataset(folder6))
    np.savez(folder6 / "joints.npz", joints=POSE[None], names=np.array(["Bottom"] * len(NAMES)))
    assert "Bottom" in sentence("dataset-corrupt", lambda: read_dataset(folder6))

    assert "heldout" in sentence("dataset-cameras", lambda: read_dataset(good).training_views(["cam9"]))
    assert "test_far" in sentence("dataset-split", lambda: read_dataset(good).views(["test_near"], ["heldout"]))


def test_cameras_that_cannot_be_are_told_in_a_sentence(tmp_path: Path) -> None:
    path = make_dataset(tmp_path) / "cameras.json"
    good = path.read_text()
    for change, words in (
        ({"R": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}, "'R' is not a rotation"),
        ({"R": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}, "'R' is not a rotation"),
        ({"K": [[-60, 0, 24], [0, 60, 32], [0, 0, 1]]}, "focal length"),
        ({"K": [[60, 0, 0], [0, 60, 0], [24, 32, 1]]}, "'K' is not"),
        ({"width": float("inf")}, "infinity"),
    ):
        cameras = json.loads(good)
        cameras["cameras"][1] |= change
        path.write_text(json.dumps(cameras))
        said = sentence("dataset-corrupt", lambda: read_dataset(tmp_path))
        assert words in said and "cameras.json" in said


def test_damaged_joints_are_told_in_a_sentence(tmp_path: Path) -> None:
    path = make_dataset(tmp_path) / "joints.npz"
    np.savez_compressed(path, joints=np.repeat(POSE[None], 4, 0), names=np.array(NAMES))
    good = path.read_bytes()
    start = 30 + int.from_bytes(good[26:28], "little") + int.from_bytes(good[28:30], "little")
    for damaged in (good[:start] + b"\xff" * 8 + good[start + 8 :], good[: len(good) // 2], b""):
        path.write_bytes(damaged)
        assert "joints.npz" in sentence("dataset-corrupt", lambda: read_dataset(tmp_path))
    np.save(tmp_path / "single.npy", POSE)
    (tmp_path / "single.npy").replace(path)
    assert "joints.npz" in sentence("dataset-corrupt", lambda: read_dataset(tmp_path))


def test_pickled_joints_are_refused(tmp_path: Path) -> None:
    folder = make_dataset(tmp_path)
    np.savez(folder / "joints.npz", joints=np.array([object()]), names=np.array(NAMES))
    assert "joints.npz" in sentence("dataset-corrupt", lambda: read_dataset(folder))


def dot_picture(camera: Camera, pixels: np.ndarray) -> Picture:
    """A picture with a soft opaque dot at each pixel position (N, 2)."""
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    alpha = np.zeros((camera.height, camera.width))
    for u, v in pixels:
        alpha = np.maximum(alpha, np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8))
    rgba = np.repeat(alpha[..., None], 4, 2)
    return Picture(np.rint(rgba * 255).astype(np.uint8), 0, 0, camera.width, camera.height)


@pytest.mark.parametrize("size", [(64, 32), (192, 96)])
def test_a_crop_shows_points_where_its_camera_projects_them(size: tuple[int, int]) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [0, 0, -1], [np.sin(angle), np.cos(angle), 0]])
    focal = 260.0
    k = np.array([[focal, 0, 70], [0, focal * 1.1, 64], [0, 0, 1.0]])
    camera = Camera(k, turn, np.array([0.1, 0.2, 3]), 140, 150)
    point = np.array([0.05, 0.02, 0.15])
    u, v = camera.project(point)[0]
    tight = camera.crop(u - 20, v - 60, 50, 100, size[1], size[0])
    target = vary_camera(tight, np.random.default_rng(5), Augmentation(1.2, 0.05, 25))
    crop = cut_crop(dot_picture(camera, camera.project(point)[0][None]), camera, target)
    alpha = crop.rgba[3]
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    found = np.array([(alpha * x).sum(), (alpha * y).sum()]) / alpha.sum()
    assert np.abs(found - target.project(point)[0]).max() < 0.15
    assert crop.valid.all()


def test_the_crop_keeps_the_body_in_its_middle() -> None:
    camera = Camera(np.array([[500.0, 0, 128], [0, 500, 128], [0, 0, 1]]), np.eye(3), np.zeros(3), 256, 256)
    tight = camera.crop(150, 40, 60, 120, 64, 128)
    middle = np.linalg.inv(tight.K) @ np.array([32, 64, 1.0])
    for seed in range(5):
        moved = vary_camera(tight, np.random.default_rng(seed), Augmentation(1.0, 0.0, 30))
        assert np.abs(moved.project(middle)[0] - (32, 64)).max() < 1e-6


def test_shrinking_averages_and_the_border_is_not_valid() -> None:
    camera = Camera(np.array([[100.0, 0, 64], [0, 100, 64], [0, 0, 1]]), np.eye(3), np.zeros(3), 128, 128)
    checker = np.zeros((128, 128, 4), np.uint8)
    checker[..., 3] = 255
    checker[::2, ::2, :3] = checker[1::2, 1::2, :3] = 255
    crop = cut_crop(Picture(checker, 0, 0, 128, 128), camera, camera.crop(0, 0, 128, 128, 16, 16))
    assert np.abs(crop.rgba[:3, 2:-2, 2:-2] - 0.5).max() < 0.02
    outside = cut_crop(Picture(checker, 0, 0, 128, 128), camera, camera.crop(-64, 0, 128, 128, 32, 32))
    assert not outside.valid[:, :, :15].any() and outside.valid[:, 1:-1, 18:].all()
    across = cut_crop(Picture(checker, 0, 0, 128, 128), camera, camera.crop(-61, 0, 128, 128, 32, 32))
    assert across.rgba[3, 16, 15] < 0.9 and not across.valid[:, :, 15].any()  # a quarter of it was not filmed
    assert (across.rgba[3][across.valid[0] > 0] > 0.99).all() and across.valid[:, 1:-1, 16:].all()


def test_premultiplied_pictures_have_no_dark_edges(tmp_path: Path) -> None:
    image = np.zeros((32, 32, 4), np.uint8)
    image[8:24, 8:24] = (255, 255, 255, 255)
    cv2.imwrite(str(tmp_path / "p.png"), image)
    picture = load_picture(tmp_path / "p.png", 32, 32)
    assert picture.pixels.shape[:2] == (16, 16) and (picture.x, picture.y) == (8, 8)
    camera = Camera(np.diag([32.0, 32, 1]), np.eye(3), np.zeros(3), 32, 32)
    crop = cut_crop(picture, camera, camera.crop(2.3, 1.7, 28, 28, 41, 37))
    seen = crop.rgba[3] > 0.05
    assert np.abs(crop.rgba[:3, seen] / crop.rgba[3, seen] - 1).max() < 0.02


def test_textures_are_averaged_from_straight_colours(tmp_path: Path) -> None:
    """A pixel that is not quite opaque is not a darker one."""
    folder = make_dataset(tmp_path / "data")
    for path in (folder / "images").rglob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        image[image[..., 3] > 0] = (40, 120, 200, 245)
        cv2.imwrite(str(path), image)
    data = read_dataset(folder)
    avatar = initialise.new_avatar(TrainConfig(method="static", size=64), [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views()])
    averaged = initialise.fill_textures(avatar, shots, ProxySurfaces(avatar, shots))
    colours = averaged.textures.permute(0, 2, 3, 1)[averaged.seen]
    assert len(colours) > 100
    # At the outline the crops' filter overshoots.
    assert (colours - torch.tensor([200, 120, 40]) / 255).abs().amax(1).median() < 1 / 255


def test_texels_that_few_pixels_saw_borrow_from_their_neighbours(tmp_path: Path) -> None:
    """Grain goes, colours stay, and much footage is believed."""
    folder, grain = make_dataset(tmp_path / "data"), np.random.default_rng(3)
    for path in (folder / "images").rglob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        image[..., :3] = 128 + grain.integers(-60, 61, (*image.shape[:2], 1))
        cv2.imwrite(str(path), image)
    data = read_dataset(folder)
    avatar = initialise.new_avatar(TrainConfig(method="static", size=64), [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views()])

    def averaged(times: int, black: bool) -> torch.Tensor:
        many = shots * times
        found = average_textures(ProxySurfaces(avatar, many), many, 16, black)
        return found.textures.permute(0, 2, 3, 1)[found.seen]

    ours, plain = averaged(1, False), averaged(1, True)
    assert ours.std() < 0.9 * plain.std() and abs(float(ours.mean() - plain.mean())) < 0.01
    assert (averaged(30, False) - plain).abs().mean() < 0.3 * (ours - plain).abs().mean()
