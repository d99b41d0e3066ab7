# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting the proxy to the masks of real footage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import Avatar
from neural_avatar.neural_backend.interface.proxy import ProxyGeometry
from neural_avatar.training.batches import Shot
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.initialise import frame_views, new_avatar
from neural_avatar.training.proxy_fit import fit_proxy


def overlap(avatar: Avatar, shots: list[Shot], geometry: ProxyGeometry) -> float:
    """IoU of the drawn proxy with the masks."""
    avatar.set_proxy(geometry)
    joints, confidence = np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots])
    person = avatar.proxy_maps(joints, confidence, [s.camera for s in shots]).part > 0
    crops = [s.crop() for s in shots]
    valid = torch.from_numpy(np.stack([c.valid[0] for c in crops])) > 0
    mask = torch.from_numpy(np.stack([c.rgba[3] for c in crops])) > 0.5
    return float((person & mask & valid).sum() / ((person | mask) & valid).sum())


def test_the_proxy_comes_to_cover_the_masks(footage: Path) -> None:
    """Also in pictures that the fit has not seen, and as drawn rather than as the fit measures it."""
    config = TrainConfig(method="static", size=160)
    data = read_dataset(footage)
    avatar = new_avatar(config, [data])
    average = avatar.proxy
    seen, other = (frame_views(avatar, [data], [data.training_views()[start::40]]) for start in (0, 20))
    fitted = fit_proxy(seen, avatar.rest_joints, avatar.rest_confidence, average, steps=25)
    for shots in (seen, other):
        assert len({shot.view.camera for shot in shots}) > 1
        assert overlap(avatar, shots, fitted.geometry) > overlap(avatar, shots, average) + 0.04
    assert fitted.iou_before == pytest.approx(overlap(avatar, seen, average), abs=2e-3)
    assert fitted.iou_after == pytest.approx(overlap(avatar, seen, fitted.geometry), abs=2e-3)
