# SPDX-License-Identifier: GPL-3.0-or-later
"""Textures as the mean of all pixels that are assigned to each texel (paper section 3, Initialization), smoothed where
they are few unless the paper's own way is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ..neural_backend.interface.proxy import PART_COUNT
from .batches import Shot, enlarged
from .surfaces import Surfaces

#: Footage that tight crops shrink to less than this, on average, is averaged at twice the network's size.
FINER = 0.75
#: So many pixels of its neighbourhood's colour count in each texel's mean. The median texel has three to four pixels of
#: its own, and what they are off by, for a misplaced joint or a camera that sees colours differently, would be grain.
BORROWED = 8.0
#: Weights of a texel's neighbours, along each axis.
_NEIGHBOURS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


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
    surfaces: Surfaces,
    shots: Sequence[Shot],
    size: int,
    black: bool = False,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> AveragedTextures:
    """Averages the training pictures into textures of ``size`` texels a side, through the surfaces of the shots.

    Each opaque pixel is spread bilinearly over the four texels around its coordinates, which is what sampling reads
    from. Where the footage is finer than the network's pictures, pixels are taken from crops of twice that size.
    black: plain means, and unseen texels left black, as in the paper; else texels that few pixels saw borrow from their
    neighbours (BORROWED), and unseen ones take the nearest seen one's colour, so that no black creeps in where the
    network moves coordinates a little.
    """
    total: Tensor | None = None
    for first in range(0, len(shots), batch):
        some = shots[first : first + batch]
        detail = 2 if np.mean([shot.magnification for shot in some]) < FINER else 1
        crops = [shot.crop(enlarged(shot.camera, detail)) for shot in some]
        surface = surfaces.seen(range(first, first + len(some)), [shot.camera for shot in some], detail)
        device = surface.part.device
        rgba = torch.from_numpy(np.stack([c.rgba for c in crops])).to(device)
        valid = torch.from_numpy(np.stack([c.valid for c in crops])).to(device)
        b, y, x = torch.nonzero((rgba[:, 3] > 0.95) & (valid[:, 0] > 0) & (surface.part > 0), as_tuple=True)
        straight = rgba[b, :3, y, x] / rgba[b, 3:, y, x]
        colour = torch.cat([straight, torch.ones(len(b), 1, device=device)], 1)
        total = torch.zeros(PART_COUNT * size * size, 4, device=device) if total is None else total
        # A residual may point a little beyond its chart, where sampling reads the chart's edge.
        place = surface.coordinates[b, :, y, x].clamp(0, 1) * (size - 1)
        _splat(total, surface.part[b, y, x] - 1, place, colour, size)
        if progress:
            progress(min(first + batch, len(shots)), len(shots))
    assert total is not None, "there are no shots"
    total = total.view(PART_COUNT, size, size, 4)
    seen = total[..., 3] > 1e-3
    whole = _mean(total) * seen[..., None] if black else _filled(_mean(total + BORROWED * _around(total)), seen)
    return AveragedTextures(whole.permute(0, 3, 1, 2).contiguous(), seen)


def _mean(total: Tensor) -> Tensor:
    """Colours (24, S, S, 3) of sums (24, S, S, 4) whose last channel is their weight."""
    return total[..., :3] / total[..., 3:].clamp_min(1e-6)


def _around(total: Tensor) -> Tensor:
    """One pixel (24, S, S, 4) of the mean colour of each texel and its neighbours; of none where nothing is near."""
    near, kernel = total.permute(0, 3, 1, 2), total.new_tensor(_NEIGHBOURS)
    reach = len(kernel) // 2
    for view in ((1, 1, -1, 1), (1, 1, 1, -1)):
        each = kernel.view(view).expand(4, *(-1,) * 3)
        near = functional.conv2d(near, each, padding=(reach, 0) if view[2] < 0 else (0, reach), groups=4)
    return torch.cat([_mean(near.permute(0, 2, 3, 1)), (near[:, 3:] > 1e-6).permute(0, 2, 3, 1).float()], -1)


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
