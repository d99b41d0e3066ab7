# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-training, as the paper does it (section 3, Initialization): a network that predicts outright learns known
surfaces alone, before it sees pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.camera import Camera
from .batches import BatchSource
from .config import TrainConfig
from .surfaces import Surface, Surfaces, undisputed


@dataclass(frozen=True)
class Lesson:
    """One step's. joints: (B, 137, 3) world metres; confidence: (B, 137); cameras: B of the network's size; surface:
    what is to be predicted there."""

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    cameras: Sequence[Camera]
    surface: Surface


def lesson_of(
    config: TrainConfig, avatar: Avatar, source: BatchSource, surfaces: Surfaces, step: int, attempt: int
) -> Lesson:
    """The lesson of a step: DensePose's results as the step's crops see them, or the proxy of any pose from any side.

    attempt: raised after a rollback.
    """
    if config.init == "densepose":
        batch = source.batch(step, attempt)
        surface = surfaces.seen(batch.which, batch.cameras)
        surface = undisputed(surface, batch.truth.rgba[:, 3], batch.truth.valid[:, 0])
        return Lesson(batch.joints, batch.confidence, batch.cameras, surface)
    joints, confidence, cameras = source.poses(step, attempt)
    maps = avatar.proxy_maps(joints, confidence, cameras)
    return Lesson(joints, confidence, cameras, Surface(maps.part, maps.visible))
