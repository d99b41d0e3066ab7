# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network that predicts outright is taught before it learns from pictures: parts and coordinates of the proxy,
or DensePose's (paper section 3, Initialization)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.camera import Camera
from .batches import BatchSource
from .config import TrainConfig
from .densepose import Results, find_results, seen_by


@dataclass(frozen=True)
class Lesson:
    """One step's. joints: (B, 137, 3) world metres; confidence: (B, 137); cameras: B of the network's size; part:
    (B, H, W) int64, 0 background, -1 where nothing is known; coordinates: (B, 2, H, W) of that part."""

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    cameras: Sequence[Camera]
    part: Tensor
    coordinates: Tensor


class Lessons(Protocol):
    """The lesson of any step. fingerprint: a digest of the files that they come from; about: how they were had, for
    the avatar's provenance."""

    fingerprint: str
    about: dict[str, float]

    def of(self, step: int, attempt: int) -> Lesson:
        """The lesson of a step; attempt: raised after a rollback."""
        ...


class ProxyLessons:
    """The proxy's maps, of any pose from any side."""

    def __init__(self, avatar: Avatar, source: BatchSource) -> None:
        self.fingerprint, self.about = "", dict[str, float]()
        self._avatar, self._source = avatar, source

    def of(self, step: int, attempt: int) -> Lesson:
        """See Lessons."""
        joints, confidence, cameras = self._source.poses(step, attempt)
        maps = self._avatar.proxy_maps(joints, confidence, cameras)
        return Lesson(joints, confidence, cameras, maps.part, maps.visible)


class DensePoseLessons:
    """DensePose's results of the pictures that are trained on, as the steps' crops see them. Where a result and the
    mask do not agree on who is a person, and in pictures without a result, nothing is taught."""

    def __init__(self, source: BatchSource, results: Results) -> None:
        self.fingerprint = results.fingerprint()
        self.about = {"densepose_pictures": results.found, "densepose_overlap": round(results.overlap, 4)}
        self._source, self._surfaces = source, results.surfaces

    def of(self, step: int, attempt: int) -> Lesson:
        """See Lessons."""
        batch = self._source.batch(step, attempt)
        height, width = batch.truth.rgba.shape[-2:]
        parts = np.full((len(batch.which), height, width), -1, np.int64)
        coordinates = np.zeros((len(parts), 2, height, width), np.float32)
        for i, (k, camera) in enumerate(zip(batch.which, batch.cameras, strict=True)):
            surface, shot = self._surfaces[k], self._source.shots[k]
            if surface is not None:
                parts[i], coordinates[i] = seen_by(surface, shot.dataset.camera(shot.view), camera)
        device = batch.truth.rgba.device
        part, uv = torch.from_numpy(parts).to(device), torch.from_numpy(coordinates).to(device)
        disputed = ((batch.truth.rgba[:, 3] > 0.5) != (part > 0)) | (batch.truth.valid[:, 0] == 0)
        return Lesson(batch.joints, batch.confidence, batch.cameras, part.masked_fill(disputed, -1), uv)


def make_lessons(
    config: TrainConfig, avatar: Avatar, source: BatchSource, say: Callable[[str], None] | None = None
) -> Lessons:
    """The lessons that the configuration asks for. Raises what find_results raises."""
    if config.init != "densepose":
        return ProxyLessons(avatar, source)
    results = find_results(config.densepose, source.shots)
    if say:
        say(
            f"DensePose found the person in {results.found} of {len(source.shots)} pictures; its outlines share "
            f"{results.overlap:.0%} of their area with the masks."
        )
    return DensePoseLessons(source, results)
