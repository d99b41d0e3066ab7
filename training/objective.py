# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step of training minimises: the paper's losses (section 3) and those past it, each with its weight."""

from __future__ import annotations

from torch import Tensor, nn

from ..neural_backend.avatar import Avatar
from . import losses
from .batches import Batch, BatchSource
from .config import TrainConfig
from .light import LightGains

#: One part in so many is smoothed in each step, in turn: all of them would take as long as drawing the pictures does.
SMOOTHED = 6


class Objective:
    """The weighted terms of an avatar's loss. light: the gains of the takes where they are learned."""

    def __init__(self, config: TrainConfig, avatar: Avatar, image_loss: nn.Module, light: LightGains | None) -> None:
        self._config, self._avatar, self._image_loss, self._light = config, avatar, image_loss, light

    def terms(self, batch: Batch, step: int, detail: int) -> dict[str, Tensor]:
        """The terms over a step's batch, scalars by name. detail: of the batch's pictures (see Avatar.shade)."""
        config, avatar, truth = self._config, self._avatar, batch.truth
        prediction = avatar(batch.joints, batch.confidence, batch.cameras, detail)
        maps, rgb = prediction.maps, prediction.rgb
        if self._light is not None:
            rgb = rgb * self._light(batch.which)
        terms = {
            "image": config.weight_image * losses.image_loss(self._image_loss, rgb, prediction.alpha, truth),
            "mask": config.weight_mask * losses.mask_loss(prediction.mask_logits, truth.rgba[:, 3:], truth.valid),
        }
        if avatar.textures is not None:
            some = avatar.textures[step % SMOOTHED :: SMOOTHED]
            terms["smooth"] = config.weight_smooth * losses.total_variation(some)
        if avatar.view_textures is not None:
            terms["smooth"] = terms["smooth"] + config.weight_view * avatar.view_textures.square().mean()
        if self._light is not None:
            terms["light"] = self._light.penalty()
        if maps.proxy is not None and maps.coordinates is not None:
            stray = nn.functional.mse_loss(maps.coordinates, maps.proxy.coordinates)
            terms["coordinates"] = config.weight_coordinates * stray
        return terms

    def pretraining_terms(self, source: BatchSource, step: int, attempt: int) -> dict[str, Tensor]:
        """The terms of pre-training towards the proxy's maps (method textured)."""
        joints, confidence, cameras = source.poses(step, attempt)
        target = self._avatar.proxy_maps(joints, confidence, cameras)
        maps = self._avatar.maps(joints, confidence, cameras)
        assert maps.coordinates is not None
        parts, coordinates = losses.proxy_loss(maps.logits, maps.coordinates, target.part, target.visible)
        return {"parts": parts, "coordinates": 5 * coordinates}
