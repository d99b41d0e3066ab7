# SPDX-License-Identifier: GPL-3.0-or-later
"""Textures as the mean of all pixels that are assigned to each texel (paper section 3, Initialization)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.proxy import PART_COUNT
from .batches import Shot, enlarged

#: Footage that tight crops shrink to less than this, on average, is averaged at twice the network's size.
FINER = 0.75


@dataclass(frozen=True)
class AveragedTextures:
    """textures: (24, 3, S, S) display sRGB; seen: (24, S, S) bool, texels that some pixel was assigned to; coverage:
    their share."""

    textures: Tensor
    seen: Tensor

    @property
    def coverage(self) -> float:
        """Share of all texels that were seen."""
        return float(self.seen.float().mean())

    @property
    def coverage_parts(self) -> list[float]:
        """The same for each of the 24 parts."""
        return [float(share) for share in self.seen.float().mean((1, 2))]


@torch.no_grad()
def average_textures(
    avatar: Avatar,
    shots: Sequence[Shot],
    black: bool = False,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> AveragedTextures:
    """Averages the training pictures into textures through the avatar's own assignments and coordinates.

    Each opaque pixel is spread bilinearly over the four texels around its coordinates, which is what sampling reads
    from. Where the footage is finer than the network's pictures, pixels are taken from crops of twice that size.
    black: leave unseen texels black, as the paper does; else they take the nearest seen texel's colour, so that no
    black creeps in where the network moves coordinates a little.
    """
    size = avatar.config.texture_size
    device = avatar.proxy_params.device
    total = torch.zeros(PART_COUNT * size * size, 4, device=device)
    for first in range(0, len(shots), batch):
        some = shots[first : first + batch]
        detail = 2 if np.mean([shot.magnification for shot in some]) < FINER else 1
        crops = [shot.crop(enlarged(shot.camera, detail)) for shot in some]
        maps = avatar.maps(
            np.stack([s.joints for s in some]), np.stack([s.confidence for s in some]), [s.camera for s in some]
        )
        if maps.coordinates is None:
            raise ValueError(f"method {avatar.config.method} has no textures to average")
        rgba = torch.from_numpy(np.stack([c.rgba for c in crops])).to(device)
        valid = torch.from_numpy(np.stack([c.valid for c in crops])).to(device)
        weights = _enlarged(maps.logits[:, :-1].softmax(1), detail)
        part, body = weights.argmax(1), _enlarged(maps.mask_logits, detail)[:, 0] > 0
        opaque = (rgba[:, 3] > 0.95) & (valid[:, 0] > 0) & body
        b, y, x = torch.nonzero(opaque, as_tuple=True)
        k = part[b, y, x]
        straight = rgba[b, :3, y, x] / rgba[b, 3:, y, x]
        colour = torch.cat([straight, torch.ones(len(k), 1, device=device)], 1)
        place = maps.coordinates.between(b, k[None], (x + 0.5) / detail, (y + 0.5) / detail)[0]
        # A residual may point a little beyond its chart, where sampling reads the chart's edge.
        _splat(total, k, place.clamp(0, 1) * (size - 1), colour, size)
        if progress:
            progress(min(first + batch, len(shots)), len(shots))
    weight = total[:, 3:]
    mean = (total[:, :3] / weight.clamp_min(1e-6)).view(PART_COUNT, size, size, 3)
    seen = (weight > 1e-3).view(PART_COUNT, size, size)
    whole = mean * seen[..., None] if black else _filled(mean, seen)
    return AveragedTextures(whole.permute(0, 3, 1, 2).contiguous(), seen)


def _enlarged(x: Tensor, detail: int) -> Tensor:
    """Maps (B, C, H, W) at ``detail`` times their size, as Avatar.shade enlarges them."""
    return functional.interpolate(x, scale_factor=detail, mode="bilinear") if detail > 1 else x


def _splat(total: Tensor, part: Tensor, place: Tensor, colour: Tensor, size: int) -> None:
    corner = place.floor().clamp(0, size - 2)
    f = place - corner
    index = (part * size + corner[:, 1].long()) * size + corner[:, 0].long()
    for dy, wy in ((0, 1 - f[:, 1]), (1, f[:, 1])):
        for dx, wx in ((0, 1 - f[:, 0]), (1, f[:, 0])):
            total.index_add_(0, index + dy * size + dx, colour * (wx * wy)[:, None])


def _filled(textures: Tensor, seen: Tensor) -> Tensor:
    """Unseen texels take the nearest seen one's colour; a part that was never seen takes the mean of all."""
    pictures, known = textures.cpu().numpy(), seen.cpu().numpy()
    mean = pictures[known].mean(0) if known.any() else np.full(3, 0.5, np.float32)
    for k in range(len(pictures)):
        if known[k].any():
            y, x = ndimage.distance_transform_edt(~known[k], return_distances=False, return_indices=True)
            pictures[k] = pictures[k][y, x]
        else:
            pictures[k] = mean
    return torch.from_numpy(pictures).to(textures.device)
