# SPDX-License-Identifier: GPL-3.0-or-later
"""Short sequences, on which method v2v learns: the frames before are its own, as they will be when it draws a film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..neural_backend.avatar import Avatar, Prediction
from ..neural_backend.interface.camera import Camera
from ..neural_backend.past import Past
from .losses import Truth

#: How often a frame, and with it all frames before it, is taken for unknown: the first frames of a film have no past,
#: and a picture in Blender never has.
FORGET = 0.2
#: In this share of the steps a sequence begins with the film's own picture, else with one drawn without a past.
FROM_TRUTH = 0.5


@dataclass(frozen=True)
class Before:
    """The rows before those of a batch, N of them, the nearest first, seen by the *batch's* cameras.

    joints: (B, N, 137, 3) world metres; confidence: (B, N, 137); truth: N of them, of the same size as the batch's;
    there: (B, N) bool, False where the dataset has no such row (what the others hold then means nothing). forgotten:
    (B, N) bool, and from_truth: draws for ``remembered``.
    """

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    truth: tuple[Truth, ...]
    there: npt.NDArray[np.bool_]
    forgotten: npt.NDArray[np.bool_]
    from_truth: bool


def picture(prediction: Prediction) -> Tensor:
    """A prediction as the truth is kept: (B, 4, H, W) premultiplied display sRGB and alpha."""
    return torch.cat([prediction.rgb * prediction.alpha, prediction.alpha], 1)


def at_network_size(pictures: Tensor, detail: int) -> Tensor:
    """Pictures (B, C, H, W) that are ``detail`` times larger than the network's, at its size."""
    return functional.avg_pool2d(pictures, detail) if detail > 1 else pictures


@torch.no_grad()
def remembered(avatar: Avatar, before: Before, cameras: tuple[Camera, ...], detail: int) -> Past:
    """The past of a batch as the network itself draws it: two frames, one after the other. Some are forgotten."""
    there = np.logical_and.accumulate(before.there & ~before.forgotten, axis=1)
    joints, confidence = before.joints, before.confidence
    if not there.any():
        blank = torch.zeros_like(at_network_size(before.truth[0].rgba, detail))
        return Past(joints, confidence, torch.stack([blank, blank], 1), there, there)
    if before.from_truth:
        first = at_network_size(before.truth[1].rgba, detail)
    else:
        first = picture(avatar(joints[:, 1], confidence[:, 1], cameras))
    alone = np.stack([there[:, 1], np.zeros(len(there), bool)], 1)
    second_past = Past(joints[:, [1, 1]], confidence[:, [1, 1]], torch.stack([first, first], 1), alone, alone)
    second = picture(avatar(joints[:, 0], confidence[:, 0], cameras, past=second_past))
    return Past(joints, confidence, torch.stack([second, first], 1), there, there)
