# SPDX-License-Identifier: GPL-3.0-or-later
"""From layers to the planes that Blender stores: several avatars ordered by depth, colour scene-linear and
premultiplied.

This is the border at which display-referred colour becomes scene-linear, and the only place where it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .interface.messages import DEPTHS, EMPTY_DEPTH, PLANES, TABLE_UNIT, AvatarInstance
from .layer import Layer

Planes = dict[str, npt.NDArray[np.float32]]

#: How many pixels, those of each layer counted, are composited at once: each takes about 100 bytes.
_AT_ONCE = 1 << 20


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
        plane.fill(EMPTY_DEPTH if name in DEPTHS else 0)
        planes[name] = plane
    return planes


def scene_linear(rgb: Tensor, table: npt.NDArray[np.float32] | None = None) -> Tensor:
    """Display sRGB (..., 3) in 0..1 to scene-linear light, by the sRGB curve or by a request's colour table."""
    if table is None:
        return srgb_to_linear(rgb)
    stored = torch.as_tensor(table).to(rgb.device).permute(3, 0, 1, 2)[None]
    # grid_sample's x runs along the last axis, which is blue's.
    places = rgb.flip(-1).reshape(1, 1, 1, -1, 3) * 2 - 1
    found = F.grid_sample(stored, places, mode="bilinear", padding_mode="border", align_corners=True)
    value = found[0, :, 0, 0].T.reshape(rgb.shape)
    return value.sign() * TABLE_UNIT * (torch.exp2(value.abs()) - 1)


def write_layers(
    layers: Sequence[Layer],
    planes: Planes,
    instances: Sequence[AvatarInstance] = (),
    table: npt.NDArray[np.float32] | None = None,
) -> None:
    """Composites the layers into planes made by :func:`empty_planes` (rows from the bottom up).

    instances: of each layer, for its gain and its mattes; without them all are as they are by default. table: the
    request's.
    """
    if not layers:
        return
    x0, x1 = min(la.x for la in layers), max(la.x + la.alpha.shape[1] for la in layers)
    y0, y1 = min(la.y for la in layers), max(la.y + la.alpha.shape[0] for la in layers)
    if len(layers) * (x1 - x0) * (y1 - y0) <= _AT_ONCE:
        _write_region(layers, planes, instances, table)
        return
    # In two halves, each with those layers alone that reach into it: figures seldom lie all over one another.
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    wide = x1 - x0 > y1 - y0
    for half in ((x0, y0, x, y1), (x, y0, x1, y1)) if wide else ((x0, y0, x1, y), (x0, y, x1, y1)):
        parts = [_inside(la, *half) for la in layers]
        people = [instance for instance, part in zip(instances, parts, strict=False) if part is not None]
        write_layers([part for part in parts if part is not None], planes, people, table)


def _inside(layer: Layer, x0: int, y0: int, x1: int, y1: int) -> Layer | None:
    """The part of a layer that lies in a region of the frame; None for nothing."""
    height, width = layer.alpha.shape
    left, right = max(x0 - layer.x, 0), min(x1 - layer.x, width)
    top, bottom = max(y0 - layer.y, 0), min(y1 - layer.y, height)
    if left >= right or top >= bottom:
        return None
    maps = (m[top:bottom, left:right] for m in (layer.rgb, layer.alpha, layer.depth, layer.part, layer.uv))
    return Layer(layer.x + left, layer.y + top, *maps)


def _write_region(
    layers: Sequence[Layer],
    planes: Planes,
    instances: Sequence[AvatarInstance],
    table: npt.NDArray[np.float32] | None,
) -> None:
    wanted = [name for name in planes if name.startswith("crypto")]
    mattes = np.array([i.matte for i in instances] or [0] * len(layers), np.uint32)
    stack = _Stack.of(layers, instances, table)
    merged = stack.merge(bool(wanted))
    height, width = merged.alpha.shape
    rows = next(iter(planes.values())).shape[0]
    place = (slice(rows - merged.y - height, rows - merged.y), slice(merged.x, merged.x + width))

    def put(name: str, value: Tensor) -> None:
        if name in planes:
            flipped = value.flip(0).cpu().numpy()
            planes[name][place] = flipped if flipped.ndim == 3 else flipped[..., None]

    alpha = merged.alpha
    solid = alpha >= 0.5
    put("color", torch.cat([merged.light, alpha[..., None]], -1))
    put("mask", alpha)
    put("depth", torch.where(solid, merged.depth, torch.full_like(merged.depth, EMPTY_DEPTH)))
    put("edge_depth", merged.depth)
    put("part", merged.part * solid)
    put("uv", torch.cat([merged.uv, torch.zeros_like(merged.uv[..., :1])], -1) * solid[..., None])
    put("index", merged.index * solid)
    for name, pairs in zip(wanted, _ranked(merged.coverage, mattes, len(wanted)), strict=True):
        put(name, pairs)


@dataclass(frozen=True)
class _Merged:
    """What is seen of all layers in their common region. light: (h, w, 3) scene-linear, premultiplied; coverage:
    (n, h, w) share of each pixel that each layer covers; the others are (h, w) or (h, w, 2)."""

    x: int
    y: int
    light: Tensor
    alpha: Tensor
    depth: Tensor
    part: Tensor
    uv: Tensor
    index: Tensor
    coverage: Tensor


@dataclass(frozen=True)
class _Stack:
    """Layers one behind the other in a common region: light straight scene-linear (n, h, w, 3), the others (n, h, w) or
    (n, h, w, 2)."""

    x: int
    y: int
    light: Tensor
    alpha: Tensor
    depth: Tensor
    part: Tensor
    uv: Tensor
    index: Tensor

    @staticmethod
    def of(
        layers: Sequence[Layer], instances: Sequence[AvatarInstance], table: npt.NDArray[np.float32] | None
    ) -> _Stack:
        x0, y0 = min(la.x for la in layers), min(la.y for la in layers)
        x1 = max(la.x + la.alpha.shape[1] for la in layers)
        y1 = max(la.y + la.alpha.shape[0] for la in layers)
        size = (len(layers), y1 - y0, x1 - x0)
        device = layers[0].alpha.device
        light, uv = torch.zeros(*size, 3, device=device), torch.zeros(*size, 2, device=device)
        alpha, part, index = (torch.zeros(size, device=device) for _ in range(3))
        depth = torch.full(size, EMPTY_DEPTH, device=device)
        for i, la in enumerate(layers):
            h, w = la.alpha.shape
            place = (i, slice(la.y - y0, la.y - y0 + h), slice(la.x - x0, la.x - x0 + w))
            light[place], uv[place], alpha[place], part[place] = scene_linear(la.rgb, table), la.uv, la.alpha, la.part
            if instances:
                index[place] = float(instances[i].index)
                if instances[i].gain != (1.0, 1.0, 1.0):
                    light[place] *= torch.tensor(instances[i].gain, device=device)
            depth[place] = torch.where(la.alpha > 0, la.depth, torch.full_like(la.depth, EMPTY_DEPTH))
        return _Stack(x0, y0, light, alpha, depth, part, uv, index)

    def merge(self, with_coverage: bool) -> _Merged:
        """The nearer over the farther in every pixel."""
        if len(self.alpha) == 1:
            light, alpha, depth, part, uv, index = (
                t[0] for t in (self.light, self.alpha, self.depth, self.part, self.uv, self.index)
            )
            return _Merged(self.x, self.y, light * alpha[..., None], alpha, depth, part, uv, index, self.alpha)
        # Depth, part, uv and index are the nearest solid layer's; where only soft ones add up to a solid pixel, the
        # strongest's.
        strongest = self.alpha.argmax(0)
        depth, part, uv, index = (_pick(t, strongest) for t in (self.depth, self.part, self.uv, self.index))
        light, alpha = torch.zeros_like(self.light[0]), torch.zeros_like(self.alpha[0])
        coverage = torch.zeros_like(self.alpha if with_coverage else self.alpha[:1])
        for rank in self.depth.argsort(0, descending=True):
            a = _pick(self.alpha, rank)
            solid = a >= 0.5
            light = over(_pick(self.light, rank), a, light)
            alpha = a + alpha * (1 - a)
            depth = torch.where(solid, _pick(self.depth, rank), depth)
            part = torch.where(solid, _pick(self.part, rank), part)
            uv = torch.where(solid[..., None], _pick(self.uv, rank), uv)
            index = torch.where(solid, _pick(self.index, rank), index)
            if with_coverage:
                coverage = (coverage * (1 - a)).scatter_add_(0, rank[None], a[None])
        return _Merged(self.x, self.y, light, alpha, depth, part, uv, index, coverage)


def _pick(stack: Tensor, which: Tensor) -> Tensor:
    """Of a stack (n, h, w[, C]) the layer ``which`` (h, w) of each pixel."""
    index = which[None, ..., None].expand(1, *which.shape, stack.shape[-1]) if stack.ndim == 4 else which[None]
    return stack.gather(0, index)[0]


def _ranked(coverage: Tensor, mattes: npt.NDArray[np.uint32], planes: int) -> list[Tensor]:
    """Pairs of number and coverage, the largest first, two pairs to each of the planes (h, w, 4).

    coverage: (n, h, w); mattes: (n,) numbers, 0 for none; layers of the same number count as one.
    """
    if not planes:
        return []
    numbers = np.unique(mattes[mattes > 0])
    shape = coverage.shape[1:]
    device = coverage.device
    shares = [coverage[torch.as_tensor(mattes == n, device=device)].sum(0) for n in numbers]
    blank = torch.zeros(shape, device=device)
    together = torch.stack([*shares, *[blank] * (2 * planes)])
    values, which = together.topk(2 * planes, 0)
    bits = np.concatenate([numbers, np.zeros(2 * planes, np.uint32)]).view(np.float32)
    ids = torch.where(values > 0, torch.as_tensor(bits, device=device)[which], torch.zeros_like(values))
    return [torch.stack([ids[2 * k], values[2 * k], ids[2 * k + 1], values[2 * k + 1]], -1) for k in range(planes)]


def linear_to_srgb(x: Tensor) -> Tensor:
    """The sRGB transfer function (IEC 61966-2-1), element by element."""
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)
