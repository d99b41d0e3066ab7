# SPDX-License-Identifier: GPL-3.0-or-later
"""Ray casting of the proxy surface: part, texture coordinates and depth of every pixel, from joints alone.

All capsules of all bodies in a batch are cast together: each contributes the pixels of its own bounding box, as one
flat list of (capsule, pixel) pairs, and the nearest surface wins by a scatter-min. No per-pixel and no per-capsule
Python. Lengths are in *body units*: camera coordinates divided by the body's scale, so that they do not depend on the
scene's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .interface.body import BodyFrames
from .interface.camera import Camera
from .interface.proxy import CAPSULES, CHART_HALF_ANGLE, PART_COUNT

_FAR = 1e6


@dataclass(frozen=True)
class ProxyMaps:
    """What the proxy says of each pixel of a batch of pictures.

    logits: (B, 25, H, W), a prior over 24 parts and the background (last). coordinates: (B, 48, H, W) in 0..1, x and
    y on each part's texture, given wherever that part's surface lies within the margin, else 0.5. visible: (B, 2, H,
    W), coordinates of the part in front, else 0. part: (B, H, W) int64, 0 background. depth: (B, 1, H, W) in body
    units along the camera's axis, also in the margin outside the silhouette; 1e6 where there is none. gap: (B, 1, H,
    W), pixels to the silhouette, negative inside.
    """

    logits: Tensor
    coordinates: Tensor
    visible: Tensor
    part: Tensor
    depth: Tensor
    gap: Tensor


@dataclass(frozen=True)
class PosedCapsules:
    """Capsules of B bodies in camera axes, body units. start: (B, N, 3); axes: (B, N, 3, 3) rows left, front, along
    (length one); length, r0, r1, ratio: (B, N). chart_origin (B, N, 3), chart_axes (B, N, 3, 3), chart_length (B, N),
    twist (B, N, 2)."""

    start: Tensor
    axes: Tensor
    length: Tensor
    r0: Tensor
    r1: Tensor
    ratio: Tensor
    chart_origin: Tensor
    chart_axes: Tensor
    chart_length: Tensor
    twist: Tensor


def pose_capsules(frames: BodyFrames, params: Tensor) -> PosedCapsules:
    """Places the capsules on frames that are in camera axes and body units. params: (P, 9), see interface.proxy.PARAMS.

    Differentiable with respect to params.
    """
    device = params.device

    def put(x: object) -> Tensor:
        return torch.as_tensor(np.asarray(x, np.float32)).to(device)

    frame = [c.frame for c in CAPSULES]
    chart = [c.chart_frame for c in CAPSULES]
    origin, end = put(frames.origin[:, frame]), put(frames.end[:, frame])
    axes = put(frames.axes[:, frame])
    numbers = params[[c.params for c in CAPSULES]]
    mirror = torch.tensor([[-1.0, 1, 1] if c.mirrored else [1.0, 1, 1] for c in CAPSULES], device=device)
    span = torch.tensor([c.span for c in CAPSULES], device=device)
    offset0, offset1 = numbers[:, 0:3] * mirror, numbers[:, 3:6] * mirror
    along = end - origin
    start = origin + along * span[:, :1] + torch.einsum("ni,bnij->bnj", offset0, axes)
    stop = origin + along * span[:, 1:] + torch.einsum("ni,bnij->bnj", offset1, axes)
    bone = stop - start
    length = bone.norm(dim=-1).clamp_min(1e-4)
    unit = bone / length[..., None]
    # The capsule's own axes: along the moved bone, left as near the frame's left as can be.
    left = torch.nn.functional.normalize(axes[:, :, 0] - (axes[:, :, 0] * unit).sum(-1, keepdim=True) * unit, dim=-1)
    front = torch.linalg.cross(unit, left)
    count = start.shape[:2]
    return PosedCapsules(
        start, torch.stack([left, front, unit], 2), length,
        numbers[:, 6].expand(count), numbers[:, 7].expand(count), numbers[:, 8].expand(count),
        put(frames.origin[:, chart]), put(frames.axes[:, chart]),
        put(np.linalg.norm(frames.end[:, chart] - frames.origin[:, chart], axis=-1)), put(frames.twist[:, chart]),
    )  # fmt: skip


@dataclass(frozen=True)
class Rays:
    """Rays of B crop cameras in body units: point at pixel (u, v) = base + u du + v dv; the rest is the direction
    likewise.

    origin, direction: (B, 3, 3), rows base, du, dv. focal: (B,), pixels per body unit at depth 1 (perspective) or
    everywhere.
    """

    origin: Tensor
    direction: Tensor
    focal: Tensor
    orthographic: Tensor


def camera_rays(cameras: Sequence[Camera], scale: np.ndarray, device: torch.device) -> Rays:
    """Rays through pixels, such that the ray's parameter is the depth along the camera's axis in body units."""
    origin, direction = np.zeros((2, len(cameras), 3, 3), np.float64)
    focal = np.zeros(len(cameras))
    for b, camera in enumerate(cameras):
        inverse = np.linalg.inv(camera.K)
        plane = np.stack([inverse[:, 2], inverse[:, 0], inverse[:, 1]])
        focal[b] = np.sqrt(abs(camera.K[0, 0] * camera.K[1, 1])) * (scale[b] if camera.orthographic else 1.0)
        if camera.orthographic:
            origin[b, :, :2] = plane[:, :2] / scale[b]
            direction[b, 0, 2] = 1.0
        else:
            direction[b] = plane
    flags = torch.tensor([c.orthographic for c in cameras], device=device)
    put = [torch.as_tensor(x.astype(np.float32)).to(device) for x in (origin, direction, focal)]
    return Rays(put[0], put[1], put[2], flags)


def _pairs(
    posed: PosedCapsules, rays: Rays, height: int, width: int, margin: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The flat list of (body, capsule, row, column): all pixels in each capsule's bounding box."""
    with torch.no_grad():
        ends = torch.stack([posed.start, posed.start + posed.axes[:, :, 2] * posed.length[..., None]], 2)
        wide = posed.ratio.clamp_min(1.0)
        radius = torch.stack([posed.r0 * wide, posed.r1 * wide], 2)
        # Depth is affine in camera axes; the crop's principal point comes back from the rays' inverse.
        basis = torch.where(rays.orthographic[:, None, None], rays.origin, rays.direction)
        per_pixel = torch.stack([basis[:, 1, 0], basis[:, 2, 1]], -1)[:, None, None]
        corner = basis[:, 0, :2][:, None, None]
        depth = ends[..., 2]
        near = depth - radius
        plain = rays.orthographic[:, None, None]
        divisor = torch.where(plain, torch.ones_like(depth), depth.clamp_min(1e-3))
        skew = (basis[:, 2, 0] / basis[:, 2, 1])[:, None, None]
        y = (ends[..., 1] / divisor - corner[..., 1]) / per_pixel[..., 1]
        x = (ends[..., 0] / divisor - corner[..., 0] - (ends[..., 1] / divisor - corner[..., 1]) * skew) / per_pixel[
            ..., 0
        ]
        # A ball's outline is wider off the axis.
        slant = (1 + (ends[..., 0] / divisor) ** 2 + (ends[..., 1] / divisor) ** 2).sqrt()
        reach = (
            radius
            * torch.where(plain, torch.ones_like(slant), slant)
            / torch.where(plain, torch.ones_like(depth), near.clamp_min(1e-3))
            / per_pixel.abs().amin(-1)
            + margin
        )
        close = (near < 1e-2) & ~plain
        size = torch.tensor([width, height], device=x.device)
        low = torch.stack([(x - reach).amin(2), (y - reach).amin(2)], -1)
        high = torch.stack([(x + reach).amax(2), (y + reach).amax(2)], -1)
        straddles = close.any(2, keepdim=True)
        low = torch.where(straddles, torch.zeros_like(low), low).nan_to_num(0).clamp_min(0).floor()
        high = torch.where(straddles, size.to(high.dtype), high).nan_to_num(0).ceil()
        behind = (depth + radius < 1e-3).all(2) & ~rays.orthographic[:, None]
        low, high = torch.minimum(low, size).long(), torch.minimum(high, size).long()
        extent = (high - low).clamp_min(0)
        extent[behind | (radius <= 0).all(2)] = 0  # what has no radius is absent
        counts = (extent[..., 0] * extent[..., 1]).flatten()
        owner = torch.repeat_interleave(torch.arange(len(counts), device=x.device), counts)
        first = torch.cumsum(counts, 0) - counts
        local = torch.arange(len(owner), device=x.device) - first[owner]
        box_width = extent[..., 0].flatten()[owner]
        row = torch.div(local, box_width.clamp_min(1), rounding_mode="floor")
        column = local - row * box_width
        low = low.flatten(0, 1)[owner]
        return owner, owner // posed.start.shape[1], row + low[:, 1], column + low[:, 0]


def _local(m: Tensor, shift: Tensor, rays: Rays, start: Tensor) -> tuple[Tensor, Tensor]:
    """Ray points and directions seen from frames m (B, N, 3, 3) at shift (B, N, 3): affine coefficients (B, N, 3, 3),
    rows base, du, dv. The points are those at depth ``start`` (B, N), near the body: squared distances from a camera
    far away would lose the body in float32."""
    points = rays.origin[:, None] + rays.direction[:, None] * start[..., None, None]
    points = torch.cat([points[:, :, :1] - shift[:, :, None], points[:, :, 1:]], 2)
    return torch.einsum("bnij,bnkj->bnki", m, points), torch.einsum("bnij,bkj->bnki", m, rays.direction)


def _along(coefficients: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value = coefficients[:, 0] + u[:, None] * coefficients[:, 1] + v[:, None] * coefficients[:, 2]
    x, y, z = value.unbind(1)
    return x, y, z


@dataclass(frozen=True)
class _Hits:
    """Per pair: owner capsule, body, pixel index in the body's picture, hit depth (or _FAR), gap in pixels, closest
    depth."""

    owner: Tensor
    body: Tensor
    pixel: Tensor
    u: Tensor
    v: Tensor
    hit: Tensor
    gap: Tensor
    closest: Tensor


def cast(
    posed: PosedCapsules, rays: Rays, height: int, width: int, margin: float, near: float = 1e-3, outline: bool = False
) -> _Hits:
    """Intersects each ray with the capsules near it. The gap is differentiable with respect to the capsules' numbers.
    outline: find the gaps alone, as a fit to masks needs them; no ray then hits anything."""
    owner, body, row, column = _pairs(posed, rays, height, width, margin)
    u, v = column.to(torch.float32) + 0.5, row.to(torch.float32) + 0.5
    squash = torch.stack([1 / posed.ratio, torch.ones_like(posed.ratio), torch.ones_like(posed.ratio)], -1)
    m = posed.axes * squash[..., None]
    begin = posed.start[..., 2].detach()
    origin, direction = _local(m, posed.start, rays, begin)
    ox, oy, oz = _along(origin.flatten(0, 1)[owner], u, v)
    dx, dy, dz = _along(direction.flatten(0, 1)[owner], u, v)
    numbers = torch.stack([posed.length, posed.r0, posed.r1, begin], -1).flatten(0, 1)[owner]
    length, r0, r1, begin = numbers.unbind(1)
    # Closest approach of the ray to the axis segment: gives the silhouette's signed distance and the margin's surface.
    flat = dx * dx + dy * dy
    full = flat + dz * dz
    t = -(ox * dx + oy * dy) / flat.clamp_min(1e-9)
    z = torch.minimum((oz + t * dz).clamp_min(0), length)
    t = -(ox * dx + oy * dy + (oz - z) * dz) / full.clamp_min(1e-12)
    z = torch.minimum((oz + t * dz).clamp_min(0), length)
    px, py, pz = ox + t * dx, oy + t * dy, oz + t * dz - z
    distance = (px * px + py * py + pz * pz).clamp_min(1e-14).sqrt()
    radius = r0 + (r1 - r0) * z / length
    flat_view = rays.orthographic[body]
    depth = t + begin
    focal = rays.focal[body] / torch.where(flat_view, torch.ones_like(t), depth.clamp_min(near))
    gap = torch.where((depth > near) | flat_view, (distance - radius) * focal, torch.full_like(t, margin * 4))
    if outline:
        return _Hits(owner, body, row * width + column, u, v, torch.full_like(gap, _FAR), gap, depth)
    with torch.no_grad():
        nearest = torch.where(flat_view, torch.full_like(t, -_FAR), near - begin)
        hit = begin + _intersect(ox, oy, oz, dx, dy, dz, length, r0, r1, nearest)
        hit = torch.where(hit < _FAR / 2, hit, torch.full_like(hit, _FAR))
    return _Hits(owner, body, row * width + column, u, v, hit, gap, depth)


def _intersect(
    ox: Tensor, oy: Tensor, oz: Tensor, dx: Tensor, dy: Tensor, dz: Tensor,
    length: Tensor, r0: Tensor, r1: Tensor, nearest: Tensor,
) -> Tensor:  # fmt: skip
    """Ray parameter beyond ``nearest`` of the first hit of a round cone with spherical ends, or _FAR."""
    far = torch.full_like(ox, _FAR)
    k = (r1 - r0) / length
    slope, base = k * dz, r0 + k * oz
    a = dx * dx + dy * dy - slope * slope
    b = ox * dx + oy * dy - slope * base
    c = ox * ox + oy * oy - base * base
    disc = b * b - a * c
    t = (-b - disc.clamp_min(0).sqrt()) / torch.where(a > 1e-9, a, torch.ones_like(a))
    z = oz + t * dz
    best = torch.where((disc >= 0) & (a > 1e-9) & (z >= 0) & (z <= length) & (t > nearest), t, far)
    full = dx * dx + dy * dy + dz * dz
    for centre, radius in ((0.0, r0), (length, r1)):
        height = oz - centre
        b = ox * dx + oy * dy + height * dz
        disc = b * b - full * (ox * ox + oy * oy + height * height - radius * radius)
        t = (-b - disc.clamp_min(0).sqrt()) / full
        best = torch.where((disc >= 0) & (t > nearest) & (t < best), t, best)
    return best


def _chart_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    parts = torch.tensor([c.parts for c in CAPSULES], device=device) - 1
    rects = torch.tensor([c.rects for c in CAPSULES], device=device)
    axial = torch.tensor([c.axial for c in CAPSULES], device=device)
    return parts, rects, axial


@torch.no_grad()
def proxy_maps(
    frames: BodyFrames,
    params: Tensor,
    cameras: Sequence[Camera],
    scale: np.ndarray,
    height: int,
    width: int,
    margin: float = 5.0,
) -> ProxyMaps:
    """Casts the proxy of B bodies.

    frames: in camera axes and body units (see :func:`frames_in_camera`); params: (P, 9); cameras: B crop cameras of
    height x width pixels; scale: (B,) scene units per body unit; margin: how far outside the silhouette, in pixels,
    parts, coordinates and depth are still given.
    """
    device, count = params.device, len(cameras)
    posed = pose_capsules(frames, params)
    rays = camera_rays(cameras, scale, device)
    h = cast(posed, rays, height, width, margin)
    size = height * width
    keep = torch.nonzero((h.gap < margin) | (h.hit < _FAR)).squeeze(1)  # places: a mask would be searched each time
    owner, body, pixel = h.owner[keep], h.body[keep], h.pixel[keep]
    hit, gap, u, v = h.hit[keep], h.gap[keep], h.u[keep], h.v[keep]
    solid = hit < _FAR
    depth = torch.where(solid, hit, h.closest[keep])
    # Surfaces that are hit come before near misses, near misses by their distance to the silhouette.
    rank = torch.where(solid, hit, _FAR + gap.clamp(0, 1e3))

    begin = posed.chart_origin[..., 2]
    chart, turned = (c.flatten(0, 1)[owner] for c in _local(posed.chart_axes, posed.chart_origin, rays, begin))
    (x, y, z), (dx, dy, dz) = _along(chart, u, v), _along(turned, u, v)
    beyond = depth - begin.flatten()[owner]
    x, y, z = x + beyond * dx, y + beyond * dy, z + beyond * dz
    parts, rects, axial = _chart_tables(device)
    which = owner % len(CAPSULES)
    bone = torch.cat([posed.chart_length[..., None], posed.twist], -1).flatten(0, 1)[owner]
    length, twist0, twist1 = bone.unbind(1)
    extent = axial[which]
    vertical = ((z + extent[:, 0]) / (length + extent.sum(1))).clamp(0, 1)
    angle = torch.atan2(x, y) - (twist0 + (twist1 - twist0) * (z / length).clamp(0, 1))
    angle = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi

    pixel = pixel + body * size
    owners, ranks, coordinates, facing = [], [], [], []
    for side in (0, 1):
        phi = angle if side else torch.remainder(angle, 2 * torch.pi) - torch.pi
        inside = torch.nonzero(phi.abs() < CHART_HALF_ANGLE).squeeze(1)
        capsule, phi = which[inside], phi[inside]
        rect = rects[capsule, side]
        horizontal = 0.5 + phi / (2 * CHART_HALF_ANGLE)
        tu = rect[:, 0] + (rect[:, 1] - rect[:, 0]) * horizontal
        tv = rect[:, 2] + (rect[:, 3] - rect[:, 2]) * vertical[inside]
        owners.append(pixel[inside] * PART_COUNT + parts[capsule, side])
        ranks.append(rank[inside])
        coordinates.append(torch.stack([tu, tv], 1))
        facing.append(phi.abs() <= torch.pi / 2)
    return _resolve(
        torch.cat(owners), torch.cat(ranks), torch.cat(coordinates), torch.cat(facing),
        pixel, depth, gap, rank, count, height, width,
    )  # fmt: skip


def _resolve(
    slot: Tensor, rank: Tensor, coordinate: Tensor, facing: Tensor,
    pixel: Tensor, depth: Tensor, gap: Tensor, pixel_rank: Tensor, count: int, height: int, width: int,
) -> ProxyMaps:  # fmt: skip
    """Lets the nearest surface win in every pixel, and in every part of every pixel."""
    device, total = rank.device, count * height * width

    def smallest(index: Tensor, value: Tensor, length: int) -> Tensor:
        return torch.full((length,), _FAR * 4, device=device).scatter_reduce_(0, index, value, "amin")

    front = smallest(pixel, pixel_rank, total)
    nearest = torch.full((total,), _FAR, device=device)
    winner = _last_of_each(pixel, pixel_rank == front[pixel], total)
    nearest[pixel[winner]] = depth[winner]
    silhouette = smallest(pixel, gap, total).clamp_max(1e3)
    per_part = smallest(slot, rank, total * PART_COUNT)
    chosen = _last_of_each(slot, rank == per_part[slot], total * PART_COUNT)
    flat = torch.full((total * PART_COUNT, 2), 0.5, device=device)
    flat[slot[chosen]] = coordinate[chosen]
    visible_slot = slot[_last_of_each(slot // PART_COUNT, facing & (rank == front[slot // PART_COUNT]), total)]
    part = torch.zeros(total, dtype=torch.int64, device=device)
    part[visible_slot // PART_COUNT] = visible_slot % PART_COUNT + 1
    has = part > 0
    visible = torch.zeros(total, 2, device=device)
    index = torch.nonzero(has).squeeze(1)
    visible[index] = flat[index * PART_COUNT + part[index] - 1]
    inside = (-silhouette * 4).clamp(-5, 5)
    logits = torch.full((total, PART_COUNT + 1), -8.0, device=device)
    logits[:, :PART_COUNT] += 3.0 * (per_part.view(total, PART_COUNT) < _FAR * 2)
    logits[index, part[index] - 1] = inside[index]
    logits[:, PART_COUNT] = torch.where(has, -inside, torch.full_like(inside, 5.0))

    def picture(flat_map: Tensor) -> Tensor:
        return flat_map.view(count, height, width, -1).permute(0, 3, 1, 2).contiguous()

    return ProxyMaps(
        picture(logits), picture(flat.view(total, PART_COUNT * 2)), picture(visible),
        (part * (silhouette < 0)).view(count, height, width), picture(nearest), picture(silhouette),
    )  # fmt: skip


def _last_of_each(index: Tensor, wanted: Tensor, length: int) -> Tensor:
    """Places of the wanted entries, the last one of each index (below ``length``): capsules share their round ends, so
    surfaces are often level, and which of several writes to one place stays would be up to the threads."""
    places = torch.nonzero(wanted).squeeze(1)
    last = torch.full((length,), -1, dtype=torch.int64, device=index.device)
    return (found := last.scatter_reduce_(0, index[places], places, "amax"))[found >= 0]
