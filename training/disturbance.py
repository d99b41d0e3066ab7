# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of a pose model, made on purpose in training, so that the network does not trust hands and face too much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND

Floats = npt.NDArray[np.float32]

#: What pose models lose as a whole, and by how much they miss it, as a fraction of a body's height.
_GROUPS: tuple[tuple[list[int], float], ...] = (
    ([*range(LEFT_HAND, RIGHT_HAND)], 0.008),
    ([*range(RIGHT_HAND, FACE)], 0.008),
    ([*range(FACE, JOINT_COUNT)], 0.004),
    ([INDEX[f"L{name}"] for name in ("BigToe", "SmallToe", "Heel")], 0.008),
    ([INDEX[f"R{name}"] for name in ("BigToe", "SmallToe", "Heel")], 0.008),
)
_HEIGHT = 1.7
#: Where a joint is wrong by this many times the usual error along one axis, its confidence is halved: pose models know
#: something of their errors.
_HALVED = 3.0
#: Joints that are wrong are still seen: their confidence stays above what bone maps leave out.
_LEAST = 0.1


@dataclass(frozen=True)
class Disturbance:
    """jitter: factor on the usual error of hands, face and feet, 0 for none. dropout: probability that a hand, the face
    or a foot is absent from a picture."""

    jitter: float = 0.0
    dropout: float = 0.0


def disturb(
    joints: Floats, confidence: Floats, rng: np.random.Generator, disturbance: Disturbance
) -> tuple[Floats, Floats]:
    """Joints (B, 137, 3) metres and confidence (B, 137) with such errors, the confidence lower where they are larger;
    draws from ``rng`` only where some are wanted."""
    if not (disturbance.jitter or disturbance.dropout):
        return joints, confidence
    moved, weight = joints.copy(), confidence.copy()
    for columns, size in _GROUPS:
        group = moved[:, columns]
        sigma = disturbance.jitter * size * _HEIGHT
        whole = rng.normal(0, sigma, (len(joints), 1, 3))  # most of the error is shared, as a hand is misplaced whole
        own = rng.normal(0, sigma / 2, group.shape)
        moved[:, columns] = group + (whole + own).astype(np.float32)
        if sigma:
            error = np.linalg.norm(whole + own, axis=-1) / (_HALVED * size * _HEIGHT)
            told = weight[:, columns] / (1 + error**2).astype(np.float32)
            weight[:, columns] = np.maximum(told, np.minimum(weight[:, columns], _LEAST))
        gone = np.flatnonzero(rng.random(len(joints)) < disturbance.dropout)
        weight[gone[:, None], columns] = 0
    return moved, weight
