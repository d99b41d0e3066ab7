# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling of the 24 part textures (paper equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .coordinates import Coordinates
from .interface.proxy import PART_COUNT

#: Parts that a pixel's colour is mixed from; where surfaces meet, two share a pixel, and a third may.
KEPT_PARTS = 3


def sample_pictures(
    textures: Tensor, probabilities: Tensor, coordinates: Coordinates, where: Tensor | None = None, detail: int = 1
) -> Tensor:
    """Equation 1 for whole pictures, of the few likeliest parts of each pixel (:data:`KEPT_PARTS`), as rendering does.

    probabilities: (B, 24, H, W), the parts' probabilities divided by their sum (the mask is kept apart);
    coordinates: of the same bodies, at a ``detail``-th of that size; where: (B, H, W) bool, pixels to sample (None for
    all). Returns (B, 3, H, W), 0 elsewhere. Differentiable with respect to textures, probabilities and coordinates.
    """
    b, _, height, width = probabilities.shape
    size = height * width
    flags = where.reshape(b, size) if where is not None else probabilities.new_ones(b, size, dtype=torch.bool)
    body, pixel = torch.nonzero(flags, as_tuple=True)
    weights, which = (x.T for x in probabilities.view(b, PART_COUNT, size)[body, :, pixel].topk(KEPT_PARTS, 1))
    row = torch.div(pixel, width, rounding_mode="floor")
    column = pixel - row * width
    if detail == 1:
        places = coordinates.at(body, which, row, column)
    else:
        places = coordinates.between(body, which, (column + 0.5) / detail, (row + 0.5) / detail)
    colours = sample_dominant(textures, weights, places, which)
    flat = torch.zeros(3, b * size, dtype=colours.dtype, device=colours.device)
    flat = flat.index_copy(1, body * size + pixel, colours)
    return flat.view(3, b, height, width).permute(1, 0, 2, 3)


def sample_dominant(textures: Tensor, weights: Tensor, coordinates: Tensor, which: Tensor) -> Tensor:
    """Equation 1 at N points, with only the K largest weights of each, rescaled to sum to one.

    textures: (24, 3, S, S); weights: (K, N) of the K chosen parts; coordinates: (K, N, 2), x and y in 0..1 with 0 and 1
    at the centres of the outermost texels (the paper's 0..w over w-1 intervals), clamped to that; which: (K, N) int64,
    the chosen parts. Returns (3, N).
    """
    parts, channels, _, side = textures.shape
    # One atlas of all parts: the sampler is asked once, and finds each part by its row and column in it.
    columns, rows = 4, parts // 4
    grid = textures.view(rows, columns, channels, side, side).permute(2, 0, 3, 1, 4)
    atlas = grid.reshape(1, channels, rows * side, columns * side)
    place = coordinates.clamp(0, 1) * (side - 1) + 0.5
    x = (which % columns * side + place[..., 0]) * (2 / (columns * side)) - 1
    y = (which // columns * side + place[..., 1]) * (2 / (rows * side)) - 1
    colours = F.grid_sample(atlas, torch.stack([x, y], -1)[None], padding_mode="border", align_corners=False)[0]
    return (colours * (weights / weights.sum(0, keepdim=True).clamp_min(1e-8))).sum(1)
