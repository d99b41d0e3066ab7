# SPDX-License-Identifier: GPL-3.0-or-later
"""Bone rasterization: the stack B of paper section 3, one map for each bone, the depth interpolated along it in 3D."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from .interface.skeleton import BODY_BONES, BONE_CHANNELS

CHANNELS = len(BONE_CHANNELS)

#: Half widths of the drawn lines at 512 pixels of picture height.
BODY_HALF_WIDTH, FINE_HALF_WIDTH = 4.0, 2.0


@functools.cache
def _bones() -> tuple[Tensor, Tensor, Tensor]:
    edges = [(a, b, channel) for channel, bones in enumerate(BONE_CHANNELS) for a, b in bones]
    a, b, channel = (torch.tensor(x) for x in zip(*edges, strict=True))
    return a, b, channel


def draw_bones(
    pixels: Tensor, depth: Tensor, confidence: Tensor, origin: Tensor, orthographic: Tensor,
    height: int, width: int, threshold: float = 0.05, weighted: bool = False,
) -> Tensor:  # fmt: skip
    """Draws the bones as antialiased lines that hold depth.

    pixels: (B, 137, 2) joints in pixels of a height x width picture; depth: (B, 137) distances along the camera's
    axis in body units; confidence: (B, 137), bones with a joint at or under the threshold are left out, and so are
    bones with a joint behind a perspective camera; origin: (B,) depth that is drawn as 1; orthographic: (B,) bool;
    weighted: a bone's line covers less the less sure its joints are, by the lower of their confidences (1 changes
    nothing). Returns (B, 27, height, width): 1 + depth - origin, times the line's coverage, 0 where there is no bone.
    The depth along a bone is that of the 3D point seen at the pixel (in perspective its inverse is linear in the
    picture), the nearest bone wins within a channel.
    """
    device = pixels.device
    first, second, channel = (x.to(device) for x in _bones())
    a, b = pixels[:, first], pixels[:, second]
    za, zb = depth[:, first], depth[:, second]
    drawn = (confidence[:, first] > threshold) & (confidence[:, second] > threshold)
    drawn &= ((za > 1e-4) & (zb > 1e-4)) | orthographic[:, None]
    drawn &= torch.isfinite(a).all(-1) & torch.isfinite(b).all(-1)
    body = channel < len(BODY_BONES)
    half = torch.where(body, BODY_HALF_WIDTH, FINE_HALF_WIDTH) * height / 512

    # As in the proxy's ray casting: only the pixels of each line's bounding box are looked at.
    a, b = a.nan_to_num(-1e4).clamp(-1e4, 1e4), b.nan_to_num(-1e4).clamp(-1e4, 1e4)
    size = torch.tensor([width, height], device=device)
    reach = (half + 1.0)[:, None]
    low = torch.minimum((torch.minimum(a, b) - reach).floor().clamp_min(0), size).long()
    high = torch.minimum((torch.maximum(a, b) + reach).ceil().clamp_min(0), size).long()
    extent = torch.where(drawn[..., None], high - low, torch.zeros_like(low)).flatten(0, 1)
    counts = extent[:, 0] * extent[:, 1]
    line = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
    local = torch.arange(len(line), device=device) - (torch.cumsum(counts, 0) - counts)[line]
    row = torch.div(local, extent[line, 0].clamp_min(1), rounding_mode="floor")
    corner = low.flatten(0, 1)[line]
    column = local - row * extent[line, 0] + corner[:, 0]
    row = row + corner[:, 1]

    bones = len(first)
    which = line % bones
    start, along = a.flatten(0, 1), (b - a).flatten(0, 1)
    length = (along * along).sum(-1).clamp_min(1e-6)
    px = column + 0.5 - start[line, 0]
    py = row + 0.5 - start[line, 1]
    s = ((px * along[line, 0] + py * along[line, 1]) / length[line]).clamp(0, 1)
    distance = torch.hypot(px - s * along[line, 0], py - s * along[line, 1])
    cover = (half[which] + 0.5 - distance).clamp(0, 1)
    if weighted:
        sure = torch.minimum(confidence[:, first], confidence[:, second]).clamp(0, 1)
        cover = cover * sure.flatten()[line]
    near, far = za.flatten()[line], zb.flatten()[line]
    straight = near * (1 - s) + far * s
    seen = torch.where(orthographic[line // bones], straight, near * far / (near * s + far * (1 - s)))
    value = cover * (1 + seen - origin[line // bones])

    # Within a channel full coverage comes first, then nearness.
    out = torch.zeros(pixels.shape[0] * CHANNELS * height * width, device=device)
    slot = ((line // bones * CHANNELS + channel[which]) * height + row) * width + column
    rank = (1 - cover) * 1e3 + seen
    best = torch.full_like(out, 1e9).scatter_reduce_(0, slot, rank, "amin")
    chosen = (rank == best[slot]) & (cover > 0)
    out[slot[chosen]] = value[chosen]
    return out.view(-1, CHANNELS, height, width)
