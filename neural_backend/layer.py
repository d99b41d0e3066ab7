# SPDX-License-Identifier: GPL-3.0-or-later
"""One avatar at the frame's size: assignments and coordinates are upsampled, then the textures are sampled.

Both are smooth, so the network's cost does not grow with the frame, and the textures keep their sharpness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .avatar import Avatar, BodyMaps
from .interface.camera import Camera
from .interface.messages import EMPTY_DEPTH
from .past import Past
from .textures import KEPT_PARTS, sample_dominant

#: Of a layer: colour, alpha, depth, part, uv.
_Maps = tuple[Tensor, ...]

_NO_DEPTH = 1e5
#: Neighbours whose depths differ by more than this (body units) belong to different surfaces: depth is not blended
#: across.
_SAME_SURFACE = 0.03
#: How many samples are taken at once: where they are of the body, each takes about 600 bytes for its colour.
_AT_ONCE = 1 << 19
#: How many samples across one output pixel are averaged at most, where the frame is coarser than the network's picture.
_MAX_SUPERSAMPLING = 4


@dataclass(frozen=True)
class Layer:
    """One avatar inside a frame. x, y: the corner of its region. All maps are (h, w[, C]) float32, top row first.

    rgb: straight display sRGB; alpha: 0..1; depth: scene units along the camera's axis; part: 1..24 and uv: 0..1, those
    of the pixel's middle. Depth, part and uv mean something wherever alpha is above 0; where nothing of the proxy is
    near, depth is 1e10.
    """

    x: int
    y: int
    rgb: Tensor
    alpha: Tensor
    depth: Tensor
    part: Tensor
    uv: Tensor


@torch.inference_mode()
def body_maps(
    avatar: Avatar, joints: npt.ArrayLike, confidence: npt.ArrayLike, crop: Camera, past: Past | None = None
) -> BodyMaps:
    """The maps of one body. joints: (137, 3) world; confidence: (137,); crop: a camera of the network's size; past: the
    frames before, for a network that reads them."""
    j, c = np.asarray(joints)[None], np.asarray(confidence)[None]
    maps = avatar.maps(j, c, [crop], past)
    if maps.proxy is None:  # the depth comes from the proxy, whatever the method
        maps = replace(maps, proxy=avatar.proxy_maps(j, c, [crop]))
    return maps


@torch.inference_mode()
def render_layer(avatar: Avatar, maps: BodyMaps, crop: Camera, camera: Camera) -> Layer | None:
    """Renders maps (of one body, seen by ``crop``) into the frame of ``camera``; None where the crop is outside it."""
    # crop.K = scale * shift * camera.K: the crop's pixel of a frame pixel is affine along each axis.
    scale_x = crop.K[0, 0] / camera.K[0, 0]
    scale_y = crop.K[1, 1] / camera.K[1, 1]
    shift_x = crop.K[0, 2] - scale_x * camera.K[0, 2]
    shift_y = crop.K[1, 2] - scale_y * camera.K[1, 2]
    x0, x1 = _span(-shift_x / scale_x, (crop.width - shift_x) / scale_x, camera.width)
    y0, y1 = _span(-shift_y / scale_y, (crop.height - shift_y) / scale_y, camera.height)
    if x1 <= x0 or y1 <= y0:
        return None
    samples = int(np.clip(np.ceil(max(scale_x, scale_y) - 0.25), 1, _MAX_SUPERSAMPLING))
    device = maps.logits.device
    body = _Body.of(avatar, maps)
    u, fine_u = (_places(x0, x1, n, scale_x, shift_x, device) for n in (1, samples))
    v, fine_v = (_places(y0, y1, n, scale_y, shift_y, device) for n in (1, samples))
    height, step = y1 - y0, max(1, _AT_ONCE // (len(fine_u) * samples))
    whole: _Maps = ()
    for top in range(0, height, step):
        fine = slice(top * samples, (top + step) * samples)
        strip = _strip(body, u, v[top : top + step], fine_u, fine_v[fine], samples)
        if step >= height:
            whole = strip
            break
        whole = whole or tuple(m.new_empty(height, *m.shape[1:]) for m in strip)
        for maps_of_all, part_of_it in zip(whole, strip, strict=True):
            maps_of_all[top : top + step] = part_of_it
    rgb, alpha, depth, part, uv = whole
    return Layer(x0, y0, rgb, alpha * (depth >= camera.near), depth, part, uv)


def _strip(body: _Body, u: Tensor, v: Tensor, fine_u: Tensor, fine_v: Tensor, samples: int) -> _Maps:
    """Colour, alpha, depth, part and uv, as a layer holds them, of the rows at v; fine: of the samples of its
    pixels."""
    alpha, rgb = _colour(body, fine_u, fine_v)
    if samples > 1:
        coarse = F.avg_pool2d(torch.cat([rgb * alpha, alpha], 0)[None], samples)[0]
        alpha = coarse[3:]
        rgb = coarse[:3] / alpha.clamp_min(1e-6)
    depth = _depth(body, u, v)
    known = depth < _NO_DEPTH
    depth = torch.where(known, depth * float(body.maps.scale[0]), torch.full_like(depth, EMPTY_DEPTH))
    return rgb.clamp(0, 1).permute(1, 2, 0), alpha[0].clamp(0, 1), depth, *_dominant(body, u, v)


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    return int(np.clip(np.floor(low), 0, size)), int(np.clip(np.ceil(high), 0, size))


def _places(first: int, last: int, samples: int, scale: float, shift: float, device: torch.device) -> Tensor:
    """Coordinates in the crop of the frame's pixels first..last, ``samples`` to a pixel."""
    frame = first + (torch.arange((last - first) * samples, device=device, dtype=torch.float32) + 0.5) / samples
    return frame * scale + shift


def _interpolated(maps: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(C, H, W) at the product of crop coordinates u (w,) and v (h,): (C, h, w), bilinear."""
    height, width = maps.shape[-2:]
    grid = torch.stack(torch.meshgrid(v / height * 2 - 1, u / width * 2 - 1, indexing="ij")[::-1], -1)
    return F.grid_sample(maps[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def _between(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(C, H, W) at N places in the crop: (C, N), bilinear."""
    height, width = maps.shape[-2:]
    grid = torch.stack([x / width * 2 - 1, y / height * 2 - 1], -1)[None, None]
    return F.grid_sample(maps[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]


def _inside(u: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    return ((v > 0) & (v < height))[:, None] & ((u > 0) & (u < width))[None]


@dataclass(frozen=True)
class _Body:
    """What the strips of a layer are sampled from, (C, H, W) or (H, W).

    textures, probabilities: of the parts; None where a network answers with colours. part: the likeliest. uv: its
    coordinates; None where the maps have coordinates, which are worked out where they are read. depth, spread: nearest
    depth, and how much it differs around a pixel.
    """

    maps: BodyMaps
    mask: Tensor
    textures: Tensor | None
    probabilities: Tensor | None
    part: Tensor
    uv: Tensor | None
    depth: Tensor
    spread: Tensor

    @staticmethod
    def of(avatar: Avatar, maps: BodyMaps) -> _Body:
        assert maps.proxy is not None
        source = _sources(maps)
        depth = _from(source, maps.proxy.depth[0])
        spread = (F.max_pool2d(depth[None], 3, 1, 1) + F.max_pool2d(-depth[None], 3, 1, 1))[0, 0]
        textures = probabilities = uv = None
        if maps.rgb is None:
            textures, probabilities = avatar.textures_of(maps)[0], torch.softmax(maps.logits[0, :-1], 0)
        if maps.coordinates is None:
            part = _from(source, maps.proxy.logits[0, :-1].argmax(0)[None])[0]
            uv = _from(source, maps.proxy.visible[0])
        else:
            part = maps.logits[0, :-1].argmax(0)
        return _Body(maps, maps.mask_logits[0], textures, probabilities, part, uv, depth, spread)


def _colour(body: _Body, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha (1, h, w) and straight colour (3, h, w) at crop coordinates."""
    alpha = torch.sigmoid(_interpolated(body.mask, u, v)) * _inside(u, v, *body.mask.shape[-2:])
    if body.maps.rgb is not None:
        return alpha, _interpolated(body.maps.rgb[0], u, v)
    assert body.textures is not None and body.probabilities is not None and body.maps.coordinates is not None
    index = torch.nonzero(alpha.flatten() > 1 / 1024).squeeze(1)
    row = torch.div(index, len(u), rounding_mode="floor")
    x, y = u[index - row * len(u)], v[row]
    weights, which = _between(body.probabilities, x, y).topk(KEPT_PARTS, 0)
    places = body.maps.coordinates.between(0, which, x, y)
    rgb = torch.zeros(3, alpha.numel(), device=alpha.device)
    rgb[:, index] = sample_dominant(body.textures, weights, places, which)
    return alpha, rgb.view(3, *alpha.shape[1:])


def _pixels(u: Tensor, v: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows (h, 1) and columns (1, w) of the pixels that crop coordinates lie in."""
    return v.long().clamp(0, height - 1)[:, None], u.long().clamp(0, width - 1)[None]


def _dominant(body: _Body, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Part (h, w) 1..24 as float and its coordinates (h, w, 2), of the nearest pixel of the maps."""
    rows, columns = _pixels(u, v, *body.part.shape)
    part = body.part[rows, columns]
    if body.uv is not None:
        return (part + 1).float(), body.uv[:, rows, columns].permute(1, 2, 0)
    assert body.maps.coordinates is not None
    return (part + 1).float(), body.maps.coordinates.at(0, part, rows, columns)


def _sources(maps: BodyMaps) -> Tensor:
    """For each pixel of the maps the index (H, W) of the nearest one that the proxy covers, wherever the mask needs
    it."""
    assert maps.proxy is not None
    depth = maps.proxy.depth
    index = torch.arange(depth.numel(), device=depth.device, dtype=torch.float32).view_as(depth)
    needed = F.max_pool2d((maps.mask_logits > -5).float(), 5, 1, 2) > 0
    known = depth < _NO_DEPTH
    # One ring of pixels after another, each from its nearest known neighbour; the index rides along as what is pooled.
    while bool((needed & ~known).any()) and bool(known.any()):
        grown = F.max_pool2d(torch.where(known, index, torch.full_like(index, -1)), 3, 1, 1)
        index = torch.where(known, index, grown)
        known = grown >= 0
        if bool(known.all()):
            break
    return index[0, 0].long()


def _from(source: Tensor, maps: Tensor) -> Tensor:
    """Maps (C, H, W) with each pixel taken from its source; returns (C, H, W)."""
    return maps.flatten(1)[:, source.flatten().clamp_min(0)].view(maps.shape)


def _depth(body: _Body, u: Tensor, v: Tensor) -> Tensor:
    """Depth (h, w): interpolated on one surface, that of the nearest pixel where surfaces meet."""
    rows, columns = _pixels(u, v, *body.spread.shape)
    blended = _interpolated(body.depth, u, v)[0]
    return torch.where(body.spread[rows, columns] < _SAME_SURFACE, blended, body.depth[0, rows, columns])
