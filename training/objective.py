# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step of training minimises: the paper's losses (section 3) and those past it, each with its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..neural_backend.avatar import Avatar, BodyMaps, Prediction
from ..neural_backend.past import Past
from . import losses
from .adversarial import Adversary, Seen
from .batches import Batch, Poses
from .config import TrainConfig
from .light import LightGains
from .parallel import mean_over_processes
from .pretraining import Lesson
from .sequences import Before, at_network_size, picture, remembered
from .surfaces import Surface

#: One part in so many is smoothed in each step, in turn: all of them would take as long as drawing the pictures does.
SMOOTHED = 6

#: Weight of a known surface's coordinates (mean distance) against its parts (cross-entropy).
SURFACE_COORDINATES = 2.0


@dataclass(frozen=True)
class Terms:
    """The terms of a step's loss.

    logged: scalars by name. weights: of those that do not count as they are: a weight that falls as a run goes on would
    make their curves fall with it, whatever the network learns.
    """

    logged: dict[str, Tensor]
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """What the step minimises."""
        return torch.stack([x * self.weights[n] if n in self.weights else x for n, x in self.logged.items()]).sum()


class Objective:
    """The weighted terms of an avatar's loss. light: the gains of the takes where they are learned; adversary: the
    discriminators where they are asked for."""

    def __init__(
        self, config: TrainConfig, avatar: Avatar, image_loss: nn.Module, light: LightGains | None,
        adversary: Adversary | None,
    ) -> None:  # fmt: skip
        self._config, self._avatar, self._image_loss = config, avatar, image_loss
        self._light, self._adversary = light, adversary

    def terms(
        self, batch: Batch, step: int, detail: int, surface: Surface | None = None, guidance: float = 0.0
    ) -> Terms:
        """The terms over a step's batch.

        detail: of the batch's pictures (see Avatar.shade). surface: what is known of the batch's, and guidance the
        weight with which the prediction is held to it.
        """
        config, avatar, truth, past = self._config, self._avatar, batch.truth, None
        if avatar.config.reads_past and batch.before is not None:
            past = remembered(avatar, batch.before, batch.cameras, detail)
        prediction = avatar(batch.joints, batch.confidence, batch.cameras, detail, past)
        prediction = self._lit(prediction, batch.which)
        maps, rgb = prediction.maps, prediction.rgb
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
            terms["coordinates"] = config.weight_coordinates * losses.coordinates_loss(maps.coordinates, maps.proxy)
        if batch.unseen is not None:
            terms["sides"] = config.weight_sides * self._left(batch.unseen)
        taught = Terms({})
        if surface is not None and maps.coordinates is not None:
            taught = self._taught(maps, surface, guidance)
        if self._adversary is not None:
            adversarial, features = self._adversary.terms(self._seen(prediction, batch, past, detail))
            terms |= {"adversarial": config.adversarial * adversarial, "features": config.features * features}
        if config.weight_temporal and batch.before is not None:
            terms["temporal"] = config.weight_temporal * self._temporal(prediction, batch, batch.before, past, detail)
        return Terms(terms | taught.logged, taught.weights)

    def _left(self, poses: Poses) -> Tensor:
        maps = self._avatar.maps(*poses)
        assert maps.coordinates is not None and maps.proxy is not None
        return losses.proxy_loss(maps.logits, maps.coordinates, maps.proxy)

    def _lit(self, prediction: Prediction, which: Sequence[int]) -> Prediction:
        return prediction if self._light is None else replace(prediction, rgb=prediction.rgb * self._light(which))

    def _past_lit(self, past: Past, before: Before, which: Sequence[int]) -> Tensor:
        """The past's pictures in the light in which the present one is compared; the film's own has it already."""
        if self._light is None:
            return past.pictures
        gain = functional.pad(self._light(which), (0, 0, 0, 0, 0, 1), value=1.0)[:, None]  # none for alpha
        lit = past.pictures * gain
        return torch.stack([lit[:, 0], past.pictures[:, 1]], 1) if before.from_truth else lit

    def _seen(self, prediction: Prediction, batch: Batch, past: Past | None, detail: int) -> list[Seen]:
        """What the discriminators judge: the picture with the pose, and where a film is drawn three frames in a row."""
        assert self._adversary is not None and prediction.maps.shown is not None
        truth, shown = batch.truth, prediction.maps.shown
        if detail > 1:
            shown = functional.interpolate(shown, scale_factor=detail, mode="bilinear")
        fake = torch.lerp(truth.rgba, picture(prediction), truth.valid)
        seen = [Seen("picture", torch.cat([shown, fake], 1), torch.cat([shown, truth.rgba], 1))]
        if not self._adversary.judges_film or past is None or batch.before is None:
            return seen
        rows, lit = np.flatnonzero(past.drawn[:, -1]), self._past_lit(past, batch.before, batch.which)
        usual = float(mean_over_processes(torch.tensor(float(len(rows)))))
        if not usual:
            return seen
        real, drawn = [at_network_size(truth.rgba, detail)[rows]], [at_network_size(fake, detail)[rows]]
        for i, before in enumerate(batch.before.truth):
            rgba, valid = (at_network_size(x, detail)[rows] for x in (before.rgba, before.valid))
            real.append(rgba)
            drawn.append(torch.lerp(rgba, lit[rows, i], valid))
        return [*seen, Seen("film", torch.cat(drawn, 1), torch.cat(real, 1), len(rows) / usual)]

    def _temporal(self, prediction: Prediction, batch: Batch, before: Before, past: Past | None, detail: int) -> Tensor:
        """The temporal loss over the shots whose row before is there. A network that reads the past is held to what it
        remembers of it; others draw the row before anew, and learn from both."""
        known = past.drawn[:, 0] if past is not None else before.there[:, 0]
        if not known.any():  # other processes may have some, and ask this one how many it has
            return mean_over_processes(prediction.rgb.new_zeros(())) * 0
        rows, truth, earlier = np.flatnonzero(known), batch.truth, before.truth[0]
        images = [x[rows] for x in (picture(prediction), truth.rgba, earlier.rgba, truth.valid * earlier.valid)]
        if past is not None:
            image, true, true_before, valid = (at_network_size(x, detail) for x in images)
            drawn_before = self._past_lit(past, before, batch.which)[rows, 0]
            return losses.temporal_loss(image, drawn_before, true, true_before, valid)
        cameras, which = [batch.cameras[i] for i in rows], [batch.which[i] for i in rows]
        drawn = self._avatar(before.joints[rows, 0], before.confidence[rows, 0], cameras, detail)
        image, true, true_before, valid = images
        return losses.temporal_loss(image, picture(self._lit(drawn, which)), true, true_before, valid)

    def pretraining_terms(self, lesson: Lesson) -> Terms:
        """The terms of pre-training (see TrainConfig.pretrain)."""
        maps = self._avatar.maps(lesson.joints, lesson.confidence, lesson.cameras)
        return self._taught(maps, lesson.surface, 1.0)

    @staticmethod
    def _taught(maps: BodyMaps, surface: Surface, weight: float) -> Terms:
        """The terms that hold a prediction to a known surface."""
        assert maps.coordinates is not None
        parts, coordinates = losses.surface_loss(maps.logits, maps.coordinates, surface.part, surface.coordinates)
        weights = {"parts": weight, "surface": weight * SURFACE_COORDINATES}
        return Terms({"parts": parts, "surface": coordinates}, weights)
