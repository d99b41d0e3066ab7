# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in space from the rays of several cameras, each point for itself.

A ray is wrong by metres, not by pixels: a pose model looks at the person's box, whatever its size in pixels. So all
residuals are the distance in metres between the point and the ray, at the point's depth; cameras near and far, of many
pixels or few, then count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array, Camera

#: Metres of ray distance at which the robust loss turns from squared to linear.
SOFT = 0.015
#: Metres of ray distance from which on a camera contradicts a point.
CONTRADICTION = 0.12
#: 1 - cos of the angle between two rays under which they do not tell the depth of their crossing (4 degrees).
NARROW = 1 - np.cos(np.radians(4.0))

_MOST_PAIRS = 28
_CHUNK = 4000


@dataclass(frozen=True)
class Points:
    """Triangulated points. position: (N, 3) world metres, 0 where absent; confidence: (N,) in 0..1, 0 where absent;
    views: (N,) number of cameras that agree."""

    position: Array
    confidence: Array
    views: npt.NDArray[np.int64]


def directions(rays: Array, cameras: Sequence[Camera]) -> Array:
    """Unit directions (..., C, 3) in the world of rays (..., C, 2), see optics.to_rays."""
    d = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], -1)
    d = np.einsum("...cj,cjk->...ck", d, np.stack([camera.R for camera in cameras]))
    return np.asarray(d / np.linalg.norm(d, axis=-1, keepdims=True))


def centres(cameras: Sequence[Camera]) -> Array:
    """Where the cameras stand, (C, 3) world metres."""
    return np.stack([-camera.R.T @ camera.t for camera in cameras])


def triangulate(rays: Array, weight: npt.ArrayLike, cameras: Sequence[Camera]) -> Points:
    """Robust least-squares points.

    rays: (N, C, 2), see optics.to_rays; weight: (N, C) confidence in 0..1, 0 where a camera does not see the point.
    Every pair of cameras proposes a point (linear, weighted by confidence); the proposal with the smallest soft-L1 cost
    over all cameras starts a least squares with the soft-L1 loss. A point needs two cameras that agree within
    CONTRADICTION and see it under an angle of 4 degrees or more; all others have confidence 0, nothing is guessed.
    The confidence is that of the agreeing detections, lowered where only two or three cameras agree, where they leave
    a residual, and where their rays are nearly parallel.
    """
    w = np.asarray(weight, np.float64)
    out = Points(np.zeros((len(w), 3)), np.zeros(len(w)), np.zeros(len(w), np.int64))
    seen = np.nonzero((w > 0).sum(1) >= 2)[0]
    for i in range(0, len(seen), _CHUNK):
        rows = seen[i : i + _CHUNK]
        part = _triangulate(rays[rows], w[rows], cameras)
        out.position[rows], out.confidence[rows], out.views[rows] = part.position, part.confidence, part.views
    return out


def _triangulate(rays: Array, weight: Array, cameras: Sequence[Camera]) -> Points:
    n, c = weight.shape
    origin = centres(cameras)
    d = directions(rays, cameras)
    # The distance of X to a ray is |P (X - o)|, with P the projection across the ray: linear in X.
    across = np.eye(3) - d[..., :, None] * d[..., None, :]
    best, cost = np.zeros((n, 3)), np.full(n, np.inf)
    for pair in _pairs(c):
        chosen = np.zeros(c)
        chosen[list(pair)] = 1
        proposal, depth_known = _crossing(across, origin, weight * chosen)
        proposal_cost = _cost(proposal, across, origin, weight, d)
        proposal_cost[~depth_known | ~(weight[:, pair] > 0).all(1)] = np.inf
        better = proposal_cost < cost
        best[better], cost[better] = proposal[better], proposal_cost[better]
    for _ in range(15):
        squared = _squared(best, across, origin, d)
        best = _nearest(across, origin, weight / np.sqrt(1 + squared / SOFT**2))
    distance = np.sqrt(_squared(best, across, origin, d))
    agree = (weight > 0) & (distance < CONTRADICTION)
    _, angle_known = _crossing(across, origin, weight * agree)
    views = agree.sum(1)
    usable = np.isfinite(cost) & (views >= 2) & angle_known
    confidence = _confidence(weight, agree, distance, across)
    return Points(
        np.where(usable[:, None], best, 0), np.where(usable, confidence, 0), np.where(usable, views, 0).astype(np.int64)
    )


def _pairs(count: int) -> list[tuple[int, int]]:
    """Pairs of cameras that propose points; of a large rig, some that lie far and near apart in its order."""
    pairs = list(combinations(range(count), 2))
    if len(pairs) <= _MOST_PAIRS:
        return pairs
    return [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[: 4 * _MOST_PAIRS]]


def _crossing(across: Array, origin: Array, weight: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The points (N, 3) nearest to their weighted rays, and whether the rays tell their depth (N,)."""
    normal = np.einsum("nc,ncij->nij", weight, across)
    right = np.einsum("nc,ncij,cj->ni", weight, across, origin)
    values = np.linalg.eigvalsh(normal)
    largest = np.maximum(weight.max(1), 1e-12)
    known = values[:, 0] > NARROW * 0.5 * largest
    return _solve(normal, right), np.asarray(known)


def _nearest(across: Array, origin: Array, weight: Array) -> Array:
    """The points (N, 3) nearest to their weighted rays."""
    flat = across.reshape(len(across), -1, 9)
    normal = (weight[:, None] @ flat).reshape(-1, 3, 3)
    right = (weight[:, None] @ np.einsum("ncij,cj->nci", across, origin))[:, 0]
    return _solve(normal, right)


def _solve(normal: Array, right: Array) -> Array:
    size = np.trace(normal, axis1=1, axis2=2)[:, None, None]
    return np.asarray(np.linalg.solve(normal + (1e-9 * size + 1e-12) * np.eye(3), right[..., None])[..., 0])


def _squared(point: Array, across: Array, origin: Array, d: Array) -> Array:
    """Squared distance (N, C) of points to rays; of a point behind a camera, to the camera itself."""
    offset = point[:, None] - origin
    residual = np.einsum("ncij,ncj->nci", across, offset)
    behind = (offset * d).sum(-1) <= 0
    return np.asarray(np.where(behind, (offset**2).sum(-1), (residual**2).sum(-1)))


def _cost(point: Array, across: Array, origin: Array, weight: Array, d: Array) -> Array:
    return np.asarray((weight * (np.sqrt(1 + _squared(point, across, origin, d) / SOFT**2) - 1)).sum(1))


def _confidence(weight: Array, agree: npt.NDArray[np.bool_], distance: Array, across: Array) -> Array:
    used = np.where(agree, weight, 0)
    total = np.maximum(used.sum(1), 1e-12)
    detected = (used * weight).sum(1) / total
    residual = (used * distance).sum(1) / total
    count = agree.sum(1)
    spread = np.linalg.eigvalsh(np.einsum("nc,ncij->nij", agree.astype(np.float64), across))[:, 0]
    views = np.select([count >= 4, count == 3, count == 2], [1.0, 0.95, 0.8], 0.0)
    angle = np.clip(spread / (1 - np.cos(np.radians(20.0))), 0, 1) ** 0.5
    return np.asarray(detected * views * angle / (1 + (residual / 0.05) ** 2))
