# SPDX-License-Identifier: GPL-3.0-or-later
"""Sides of the body that no camera filmed: found, and the network held to the proxy there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.skeleton import INDEX
from neural_avatar.training import losses, prepare
from neural_avatar.training.batches import UNSEEN_EVERY, BatchSource, Shot
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.initialise import fill_textures, frame_views, new_avatar
from neural_avatar.training.sides import FAR, FEW, FilmedSides
from neural_avatar.training.surfaces import ProxySurfaces
from neural_avatar.training.trainer import Trainer

CONFIG = TrainConfig(
    size=64, batch=2, texture_size=16, steps=60, lr=0.01, cameras=("cam00",), precision="full", device="cpu",
    image_loss="fallback", refine=0.0,
)  # fmt: skip


def shots_of(footage: Path, cameras: Sequence[str]) -> list[Shot]:
    data = read_dataset(footage)
    return frame_views(new_avatar(CONFIG, [data]), [data], [data.training_views(cameras)[::3]])


def towards(shot: Shot, camera: Camera) -> npt.NDArray[np.float64]:
    """The direction from the shot's hips to the camera, world axes."""
    way = -camera.R.T @ camera.t - shot.joints[INDEX["MidHip"]]
    return np.asarray(way / np.linalg.norm(way))


def test_cameras_all_around_leave_no_side_unseen_and_one_alone_does(footage: Path) -> None:
    assert FilmedSides(shots_of(footage, ("train",))).unseen_share() < FEW
    still = shots_of(footage, ("cam00",))[:1]
    sides = FilmedSides(still)  # of a circle at the camera's own height
    raised = np.arcsin(towards(still[0], still[0].camera)[2])
    arc = np.degrees(2 * np.arcsin(np.sin(np.radians(FAR / 2)) / np.cos(raised)))
    assert sides.unseen_share() == pytest.approx(1 - arc / 180, abs=0.06)
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = sides.unseen(rng)
        assert found is not None
        shot, camera = found
        angle = np.degrees(np.arccos(towards(shot, camera) @ towards(shot, shot.camera)))
        assert angle > FAR - 0.1 and (camera.width, camera.height) == (32, 64)


def test_processes_share_out_what_is_unseen(footage: Path) -> None:
    shots = shots_of(footage, ("cam00",))[:4]
    sides, last = FilmedSides(shots), UNSEEN_EVERY - 1
    made = []
    for part in ((0, 1), (0, 2), (1, 2)):
        with closing(BatchSource(shots, 4, 0, Augmentation(), torch.device("cpu"), part=part, sides=sides)) as source:
            assert all(source.batch(step).unseen is None for step in range(last))
            poses = source.batch(last).unseen
            assert poses is not None
            made.append(poses)
    whole, *parts = made
    assert len(whole[2]) == 4
    for i in range(2):
        assert np.array_equal(whole[i], np.concatenate([part[i] for part in parts]))
    for one, other in zip(whole[2], (*parts[0][2], *parts[1][2]), strict=True):
        assert np.array_equal(one.K, other.K) and np.array_equal(one.R, other.R)


def test_from_unseen_sides_the_network_keeps_to_the_proxy(footage: Path, tmp_path: Path) -> None:
    shots, left = shots_of(footage, ("cam00",))[:4], []
    for weight in (0.0, CONFIG.weight_sides):
        config = replace(CONFIG, weight_sides=weight)
        sides = FilmedSides(shots) if config.holds_sides else None
        avatar = new_avatar(config, [shots[0].dataset])
        fill_textures(avatar, shots, ProxySurfaces(avatar, shots))
        with closing(BatchSource(shots, 2, 0, Augmentation(), torch.device("cpu"), sides=sides)) as source:
            trainer = Trainer(config, avatar.train(), source, prepare.make_image_loss(config)[0], tmp_path, "")
            logged = [trainer.step() for _ in range(config.steps)]
        assert [k for k, values in enumerate(logged) if "sides" in values] == (
            list(range(UNSEEN_EVERY - 1, config.steps, UNSEEN_EVERY)) if weight else []
        )
        rng, found = np.random.default_rng(7), []
        while len(found) < 8:
            pair = FilmedSides(shots).unseen(rng)
            assert pair is not None
            found.append(pair)
        joints, confidence = np.stack([s.joints for s, _ in found]), np.stack([s.confidence for s, _ in found])
        with torch.no_grad():
            maps = avatar.maps(joints, confidence, [camera for _, camera in found])
            assert maps.proxy is not None and maps.coordinates is not None
            left.append(float(losses.proxy_loss(maps.logits, maps.coordinates, maps.proxy)))
        assert logged[-1]["image"] < 0.8 * logged[0]["image"]
    assert left[1] < 0.5 * left[0], left
