# SPDX-License-Identifier: GPL-3.0-or-later
"""From layers to the planes that Blender stores: several avatars ordered by depth, colour scene-linear and
premultiplied.

This is the border at which display-referred colour becomes scene-linear, and the only place where it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .interface.messages import EMPTY_DEPTH, PLANES
from .layer import Layer

Planes = dict[str, npt.NDArray[np.float32]]


def srgb_to_linear(x: Tensor) -> Tensor:
    """The sRGB transfer function's inverse (IEC 61966-2-1), element by element."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def over(image: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """The paper's composition: image * mask + background * (1 - mask). image, background: (..., 3); alpha: (...)."""
    return image * alpha[..., None] + background * (1 - alpha[..., None])


def empty_planes(
    names: Sequence[str], height: int, width: int, out: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> Planes:
    """Planes of a frame without anybody in it; written into ``out``'s arrays where given."""
    planes: Planes = {}
    for name in names:
        plane = out[name] if out is not None else np.empty((height, width, PLANES[name]), np.float32)
        plane.fill(EMPTY_DEPTH if name == "depth" else 0)
        planes[name] = plane
    return planes


def write_layers(layers: Sequence[Layer], planes: Planes) -> None:
    """Composites the layers into planes made by :func:`empty_planes` (rows from the bottom up)."""
    if not layers:
        return
    layer = layers[0] if len(layers) == 1 else _merged(layers)
    height, width = layer.alpha.shape
    rows = next(iter(planes.values())).shape[0]
    place = (slice(rows - layer.y - height, rows - layer.y), slice(layer.x, layer.x + width))

    def put(name: str, value: Tensor) -> None:
        if name in planes:
            flipped = value.flip(0).cpu().numpy()
            planes[name][place] = flipped if flipped.ndim == 3 else flipped[..., None]

    alpha = layer.alpha
    if "color" in planes:
        put("color", torch.cat([srgb_to_linear(layer.rgb) * alpha[..., None], alpha[..., None]], -1))
    put("mask", alpha)
    put("depth", torch.where(alpha >= 0.5, layer.depth, torch.full_like(layer.depth, EMPTY_DEPTH)))
    solid = alpha >= 0.5
    put("part", layer.part * solid)
    put("uv", torch.cat([layer.uv, torch.zeros_like(layer.uv[..., :1])], -1) * solid[..., None])


def _merged(layers: Sequence[Layer]) -> Layer:
    """One layer from several, the nearer over the farther in every pixel."""
    x0, y0 = min(la.x for la in layers), min(la.y for la in layers)
    x1 = max(la.x + la.alpha.shape[1] for la in layers)
    y1 = max(la.y + la.alpha.shape[0] for la in layers)
    size = (len(layers), y1 - y0, x1 - x0)
    device = layers[0].alpha.device
    rgb = torch.zeros(*size, 3, device=device)
    uv = torch.zeros(*size, 2, device=device)
    alpha, part = torch.zeros(size, device=device), torch.zeros(size, device=device)
    depth = torch.full(size, EMPTY_DEPTH, device=device)
    for i, la in enumerate(layers):
        h, w = la.alpha.shape
        place = (i, slice(la.y - y0, la.y - y0 + h), slice(la.x - x0, la.x - x0 + w))
        rgb[place], uv[place], alpha[place], part[place] = la.rgb, la.uv, la.alpha, la.part
        depth[place] = torch.where(la.alpha > 0, la.depth, torch.full_like(la.depth, EMPTY_DEPTH))
    order = depth.argsort(0, descending=True)
    linear = srgb_to_linear(rgb)

    def pick(stack: Tensor, which: Tensor) -> Tensor:
        index = which[None, ..., None].expand(1, *which.shape, stack.shape[-1]) if stack.ndim == 4 else which[None]
        return stack.gather(0, index)[0]

    # Depth, part and uv are the nearest solid layer's; where only soft ones add up to a solid pixel, the strongest's.
    strongest = alpha.argmax(0)
    out_depth, out_part, out_uv = (pick(x, strongest) for x in (depth, part, uv))
    out_rgb, out_alpha = torch.zeros(*size[1:], 3, device=device), torch.zeros(size[1:], device=device)
    for rank in order:
        a = pick(alpha, rank)
        solid = a >= 0.5
        out_rgb = over(pick(linear, rank), a, out_rgb)
        out_alpha = a + out_alpha * (1 - a)
        out_depth = torch.where(solid, pick(depth, rank), out_depth)
        out_part = torch.where(solid, pick(part, rank), out_part)
        out_uv = torch.where(solid[..., None], pick(uv, rank), out_uv)
    # Layers hold straight display colour: the one conversion to linear stays in write_layers.
    straight = linear_to_srgb(out_rgb / out_alpha.clamp_min(1e-6)[..., None])
    return Layer(x0, y0, straight.clamp(0, 1), out_alpha, out_depth, out_part, out_uv)


def linear_to_srgb(x: Tensor) -> Tensor:
    """The sRGB transfer function (IEC 61966-2-1), element by element."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
