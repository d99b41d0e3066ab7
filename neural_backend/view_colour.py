# SPDX-License-Identifier: GPL-3.0-or-later
"""Colour that changes with the direction of view: low-order spherical harmonics for each texel.

The paper's textures are the same from all sides (its section 5 names that as a limit). A part is small and far away, so
one direction holds for all of it: the harmonics' weights are the same over a part, and a frame's texture is a weighted
sum of textures, made once for a frame at next to no cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from .interface.body import BodyFrames
from .interface.camera import Camera
from .interface.proxy import CAPSULES, PART_COUNT

#: Highest order of the harmonics that an avatar may have.
MAX_ORDER = 2
#: The harmonics change slowly from texel to texel: their textures are this many times smaller.
SHRINK = 4


def _part_frames() -> npt.NDArray[np.int64]:
    frames = np.zeros(PART_COUNT, np.int64)
    for capsule in reversed(CAPSULES):  # the first capsule of a part is its main one
        frames[[p - 1 for p in capsule.parts]] = capsule.chart_frame
    return frames


#: The body frame that each part's direction of view is told in.
PART_FRAMES = _part_frames()


def term_count(order: int) -> int:
    """Harmonics from order 1 up to ``order``; the constant one is the texture itself."""
    return (order + 1) ** 2 - 1


def basis(direction: npt.ArrayLike, order: int) -> npt.NDArray[np.float64]:
    """Real spherical harmonics but for the constant one, 1 at most. direction: (..., 3), unit; returns (..., n)."""
    d = np.asarray(direction, np.float64)
    x, y, z = d[..., 0], d[..., 1], d[..., 2]
    terms = [x, y, z]
    if order > 1:
        terms += [2 * x * y, 2 * y * z, 2 * x * z, x * x - y * y, (3 * z * z - 1) / 2]
    return np.stack(terms[: term_count(order)], -1)


def part_directions(frames: BodyFrames, cameras: Sequence[Camera]) -> npt.NDArray[np.float64]:
    """(B, 24, 3) unit vectors from each part towards the camera, along the part's own left, front and along.

    frames: of B bodies, in camera axes; cameras: B cameras.
    """
    middle = (frames.origin[:, PART_FRAMES] + frames.end[:, PART_FRAMES]) / 2
    flat = np.array([camera.orthographic for camera in cameras])
    towards = np.where(flat[:, None, None], np.array([0.0, 0.0, -1.0]), -middle)
    towards = towards / np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-9)
    return np.asarray(np.einsum("bkij,bkj->bki", frames.axes[:, PART_FRAMES], towards))


def textures_seen(textures: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
    """One body's textures as seen from where it is seen.

    textures: (24, 3, S, S); harmonics: (n, 24, 3, s, s), s smaller than S; weights: (24, n), see :func:`basis`. Returns
    (24, 3, S, S).
    """
    change = torch.einsum("nkcij,kn->kcij", harmonics, weights)
    return textures + functional.interpolate(change, size=textures.shape[-2:], mode="bilinear", align_corners=True)
