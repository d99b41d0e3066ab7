# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling of the 24 part textures (paper equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .interface.proxy import PART_COUNT


def sample_textures(textures: Tensor, weights: Tensor, coordinates: Tensor) -> Tensor:
    """Equation 1 at N points: sum over parts of weight times the bilinear sample of that part's texture.

    textures: (24, 3, S, S); weights: (24, N); coordinates: (24, N, 2), x and y in 0..1 with 0 and 1 at the centres of
    the outermost texels (the paper's 0..w over w-1 intervals). Returns (3, N). Coordinates outside are clamped.
    """
    grid = coordinates[:, None] * 2 - 1
    colours = F.grid_sample(textures, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]
    return torch.einsum("kcn,kn->cn", colours, weights)


def sample_pictures(
    textures: Tensor, probabilities: Tensor, coordinates: Tensor, where: Tensor | None = None
) -> Tensor:
    """Equation 1 for whole pictures.

    probabilities: (B, 24, H, W), the parts' probabilities divided by their sum (the mask is kept apart);
    coordinates: (B, 48, H, W) in 0..1; where: (B, H, W) bool, pixels to sample (None for all). Returns (B, 3, H, W),
    0 elsewhere.
    """
    b, _, height, width = probabilities.shape
    weights = probabilities.permute(1, 0, 2, 3).reshape(PART_COUNT, -1)
    places = coordinates.view(b, PART_COUNT, 2, height, width).permute(1, 0, 3, 4, 2).reshape(PART_COUNT, -1, 2)
    if where is None:
        flat = sample_textures(textures, weights, places)
    else:
        index = torch.nonzero(where.flatten()).squeeze(1)
        colours = sample_textures(textures, weights[:, index], places[:, index])
        flat = torch.zeros(3, b * height * width, dtype=colours.dtype, device=colours.device).index_copy(
            1, index, colours
        )
    return flat.view(3, b, height, width).permute(1, 0, 2, 3)


def sample_dominant(textures: Tensor, weights: Tensor, coordinates: Tensor, which: Tensor) -> Tensor:
    """Equation 1 with only the few largest weights of each point, rescaled to sum to one: what rendering uses, many
    times cheaper.

    textures: (24, 3, S, S); weights: (K, N) of the K chosen parts; coordinates: (K, N, 2) as in
    :func:`sample_textures`; which: (K, N) int64, the chosen parts. Returns (3, N).
    """
    _, channels, height, width = textures.shape
    weights = weights / weights.sum(0, keepdim=True).clamp_min(1e-8)
    x = coordinates[..., 0].clamp(0, 1) * (width - 1)
    y = coordinates[..., 1].clamp(0, 1) * (height - 1)
    x0, y0 = x.floor().clamp(max=width - 2), y.floor().clamp(max=height - 2)
    fx, fy = x - x0, y - y0
    texels = textures.permute(0, 2, 3, 1).reshape(-1, channels)
    corner = ((which * height + y0.long()) * width + x0.long()).to(torch.int64)
    colour = torch.zeros(weights.shape[1], channels, device=textures.device, dtype=textures.dtype)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            colour += (texels[corner + (dy * width + dx)] * (weights * wx * wy)[..., None]).sum(0)
    return colour.T
