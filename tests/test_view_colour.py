# SPDX-License-Identifier: GPL-3.0-or-later
"""Colour that changes with the direction of view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.avatar_file import load_avatar, save_avatar
from neural_avatar.neural_backend.interface.avatar_header import read_header
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.proxy import PART_COUNT
from neural_avatar.neural_backend.interface.skeleton import JOINTS
from neural_avatar.neural_backend.layer import body_maps, render_layer
from neural_avatar.neural_backend.view_colour import basis, term_count
from neural_avatar.training.rest_pose import rest_pose


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, np.ndarray]:
    """A standing person (137, 3) with all confidence where a joint is known (137,)."""
    known = {
        "MidHip": (0, 0, 0.95), "Neck": (0, 0, 1.45), "LShoulder": (0.17, 0, 1.43), "RShoulder": (-0.17, 0, 1.43),
        "LElbow": (0.35, 0, 1.25), "RElbow": (-0.35, 0, 1.25), "LWrist": (0.5, -0.1, 1.1), "RWrist": (-0.5, -0.1, 1.1),
        "LHip": (0.09, 0, 0.93), "RHip": (-0.09, 0, 0.93), "LKnee": (0.1, -0.03, 0.5), "RKnee": (-0.1, -0.03, 0.5),
        "LAnkle": (0.1, 0, 0.08), "RAnkle": (-0.1, 0, 0.08),
    }  # fmt: skip
    joints = np.array([known.get(name, (0, 0, 0)) for name in JOINTS], np.float32)
    return joints, np.array([float(name in known) for name in JOINTS], np.float32)


def make(person: tuple[np.ndarray, np.ndarray], order: int) -> Avatar:
    """A grey person who is redder the more one stands at the left of its parts."""
    config = AvatarConfig("static", (128, 64), texture_size=16, view_order=order)
    avatar = Avatar(config, *rest_pose(person[0][None], person[1][None])).eval()
    if avatar.view_textures is not None:
        with torch.no_grad():
            avatar.view_textures[0, :, 0] = 0.3
    return avatar


def camera_at(angle: float) -> Camera:
    """A camera 4 m from the person, turned about the vertical; 0 sees the face, a quarter turn the left side."""
    c, s = np.cos(angle), np.sin(angle)
    forward = np.array([-s, c, 0.0])
    rotation = np.stack([np.array([c, s, 0.0]), np.array([0, 0, -1.0]), forward])
    k = np.array([[240.0, 0, 32], [0, 240, 64], [0, 0, 1]])
    return Camera(k, rotation, -rotation @ (np.array([0, 0, 0.9]) - 4 * forward), 64, 128)


def mean_colour(avatar: Avatar, person: tuple[np.ndarray, np.ndarray], camera: Camera) -> np.ndarray:
    """The mean colour of the body in a rendered frame."""
    layer = render_layer(avatar, body_maps(avatar, *person, camera), camera, camera)
    assert layer is not None
    return np.asarray(layer.rgb[layer.alpha > 0.5].mean(0))


def test_colour_follows_the_direction_of_view(person: tuple[np.ndarray, np.ndarray]) -> None:
    plain, shiny = make(person, 0), make(person, 1)
    left, right = (mean_colour(shiny, person, camera_at(a)) for a in (np.pi / 2, -np.pi / 2))
    assert left[0] > right[0] + 0.3 and np.allclose(left[1:], 0.5, atol=1e-3)
    assert np.allclose(mean_colour(plain, person, camera_at(0)), 0.5, atol=1e-3)


def test_training_and_rendering_see_the_same_colour(person: tuple[np.ndarray, np.ndarray]) -> None:
    avatar, camera = make(person, 2), camera_at(0.7)
    with torch.no_grad():
        trained = avatar(person[0][None], person[1][None], [camera])
    inside = trained.alpha[0, 0] > 0.99
    layer = render_layer(avatar, body_maps(avatar, *person, camera), camera, camera)
    assert layer is not None and inside.any()
    assert torch.allclose(layer.rgb.permute(2, 0, 1)[:, inside], trained.rgb[0][:, inside], atol=2e-2)


def test_the_file_keeps_it_and_only_then_is_of_the_newer_format(
    person: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    for order, version in ((0, 1), (1, 2), (2, 2)):
        avatar = make(person, order)
        save_avatar(tmp_path / "a.avatar", avatar)
        assert read_header(tmp_path / "a.avatar").format_version == version
        again = load_avatar(tmp_path / "a.avatar")
        assert again.config == avatar.config
        assert (again.view_textures is None) == (order == 0)
        if avatar.view_textures is not None and again.view_textures is not None:
            assert torch.allclose(again.view_textures, avatar.view_textures, atol=1e-3)


def test_harmonics_are_orthogonal() -> None:
    points = np.random.default_rng(0).normal(size=(200_000, 3))
    values = basis(points / np.linalg.norm(points, axis=1, keepdims=True), 2)
    assert values.shape[1] == term_count(2) == 8 and np.abs(values).max() <= 1 + 1e-9
    products = values.T @ values / len(points)
    assert np.abs(products - np.diag(np.diag(products))).max() < 5e-3 and np.abs(values.mean(0)).max() < 5e-3


def test_only_textures_can_have_it() -> None:
    with pytest.raises(ValueError, match="direct cannot have"):
        AvatarConfig("direct", view_order=1)
    assert replace(AvatarConfig(), view_order=2).view_order == 2 and PART_COUNT == 24
