# SPDX-License-Identifier: GPL-3.0-or-later
"""A small correction of where calibrated cameras stand and look, from the person they filmed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array, Camera
from .triangulate import CONTRADICTION, SOFT

#: How far a calibration is expected to be off: radians and metres, one standard deviation.
ROTATION_SIGMA, TRANSLATION_SIGMA = np.radians(0.7), 0.02
#: The errors of a pose model go on from frame to frame: all its points of a camera count as so many independent ones.
_INDEPENDENT = 50.0
_MOST_POINTS = 4000
_ROUNDS = 25


def refine_cameras(
    position: Array, rays: Array, weight: npt.ArrayLike, cameras: Sequence[Camera]
) -> tuple[tuple[Camera, ...], Array]:
    """Cameras (rotation and translation) and points together, by least squares with the soft-L1 loss.

    position: (N, 3) triangulated points, world metres; rays: (N, C, 2), see optics.to_rays; weight: (N, C), 0 where a
    camera does not see the point. Intrinsics stay. The calibration is a prior of 0.7 degrees and 2 cm; the cameras are
    then moved together so that they fit the calibrated ones best, at the calibrated scale: world frame and scale are
    the calibration's. Returns the cameras and, for each, (C, 2) how far it turned (degrees) and moved (metres).
    """
    w = np.asarray(weight, np.float64)
    usable = np.nonzero((w > 0).sum(1) >= 2)[0]
    if len(usable) < 20 or len(cameras) < 2:
        return tuple(cameras), np.zeros((len(cameras), 2))
    if len(usable) > _MOST_POINTS:
        usable = usable[np.linspace(0, len(usable) - 1, _MOST_POINTS).round().astype(np.int64)]
    x, n, w = position[usable].copy(), rays[usable], w[usable]
    count = np.maximum((w > 0).sum(0), 1)
    w = w * np.minimum(1.0, _INDEPENDENT / count)
    change = np.zeros((len(cameras), 6))
    damping = 1e-3
    cost, blocks = _terms(x, n, w, cameras, change)
    for _ in range(_ROUNDS):
        step_x, step_c = _step(*blocks, damping)
        trial_cost, trial = _terms(x + step_x, n, w, cameras, change + step_c)
        if trial_cost < cost:
            gain = (cost - trial_cost) / cost
            x, change, damping = x + step_x, change + step_c, damping / 5
            cost, blocks = trial_cost, trial
            if gain < 1e-5:
                break
        else:
            damping *= 8
            if damping > 1e6:
                break
    refined = _back_to_frame([_moved(camera, c) for camera, c in zip(cameras, change, strict=True)], cameras)
    return refined, np.array([_difference(a, b) for a, b in zip(refined, cameras, strict=True)])


def _moved(camera: Camera, change: Array) -> Camera:
    turn = np.asarray(cv2.Rodrigues(change[:3])[0], np.float64)
    return replace(camera, R=turn @ camera.R, t=turn @ camera.t + change[3:])


def _difference(a: Camera, b: Camera) -> tuple[float, float]:
    turn = float(np.degrees(np.linalg.norm(cv2.Rodrigues(a.R @ b.R.T)[0])))
    return turn, float(np.linalg.norm(a.R.T @ a.t - b.R.T @ b.t))


def _terms(
    x: Array, rays: Array, weight: Array, cameras: Sequence[Camera], change: Array
) -> tuple[float, tuple[Array, Array, Array, Array, Array]]:
    """Cost, and the Gauss-Newton blocks: points (N, 3, 3), cameras (C, 6, 6), mixed (N, C, 3, 6), gradients (N, 3) and
    (C, 6). Residuals are metres across the ray, over SOFT."""
    moved = [_moved(camera, c) for camera, c in zip(cameras, change, strict=True)]
    r = np.stack([camera.R for camera in moved])
    p = np.einsum("cij,nj->nci", r, x) + np.stack([camera.t for camera in moved])
    depth = np.maximum(p[..., 2], 0.05)
    # The distance across the ray at the point's depth: (x, y) - depth * ray, linear in the point.
    residual = (p[..., :2] - depth[..., None] * rays) / SOFT
    squared = (residual**2).sum(-1)
    robust = weight / np.sqrt(1 + squared)
    robust = np.where(np.sqrt(squared) * SOFT < 3 * CONTRADICTION, robust, 0.1 * robust)
    by_camera = np.zeros((*rays.shape[:2], 2, 3))
    by_camera[..., 0, 0] = by_camera[..., 1, 1] = 1 / SOFT
    by_camera[..., 2] = -rays / SOFT
    by_point = np.einsum("ncij,cjk->ncik", by_camera, r)
    # A left turn by delta moves p - t_change by delta x p.
    lever = p - change[:, 3:]
    cross = np.zeros((*p.shape[:2], 3, 3))
    for i, j, k, sign in ((0, 1, 2, 1), (0, 2, 1, -1), (1, 0, 2, -1), (1, 2, 0, 1), (2, 0, 1, 1), (2, 1, 0, -1)):
        cross[..., i, j] = sign * lever[..., k]
    by_change = np.concatenate([by_camera @ cross, by_camera], -1)
    prior = np.repeat([1 / ROTATION_SIGMA**2, 1 / TRANSLATION_SIGMA**2], 3)
    cost = float((weight * 2 * (np.sqrt(1 + squared) - 1)).sum() + (prior * change**2).sum())
    h_point = np.einsum("nc,ncki,nckj->nij", robust, by_point, by_point, optimize=True)
    h_camera = np.einsum("nc,ncki,nckj->cij", robust, by_change, by_change, optimize=True) + np.diag(prior)
    mixed = robust[..., None, None] * np.einsum("ncki,nckj->ncij", by_point, by_change, optimize=True)
    g_point = np.einsum("nc,ncki,nck->ni", robust, by_point, residual, optimize=True)
    g_camera = np.einsum("nc,ncki,nck->ci", robust, by_change, residual, optimize=True) + prior * change
    return cost, (h_point, h_camera, mixed, g_point, g_camera)


def _step(
    h_point: Array, h_camera: Array, mixed: Array, g_point: Array, g_camera: Array, damping: float
) -> tuple[Array, Array]:
    """One damped step of points (N, 3) and cameras (C, 6), the points eliminated (Schur complement)."""
    count = len(h_camera)
    size = np.einsum("nii->n", h_point)[:, None, None]
    inverse = np.linalg.inv(h_point + (damping * size / 3 + 1e-6) * np.eye(3))
    flat = mixed.transpose(0, 2, 1, 3).reshape(len(mixed), 3, 6 * count)
    schur = np.zeros((6 * count, 6 * count))
    for c in range(count):
        schur[6 * c : 6 * c + 6, 6 * c : 6 * c + 6] = h_camera[c] + damping * np.diag(np.diag(h_camera[c]))
    reach = inverse @ flat
    schur -= np.einsum("nia,nib->ab", flat, reach, optimize=True)
    right = -g_camera.ravel() + np.einsum("nia,ni->a", reach, g_point)
    step_c = np.linalg.solve(schur, right)
    step_x = -np.einsum("nij,nj->ni", inverse, g_point) - np.einsum("nia,a->ni", reach, step_c)
    return step_x, step_c.reshape(count, 6)


def _back_to_frame(refined: Sequence[Camera], calibrated: Sequence[Camera]) -> tuple[Camera, ...]:
    """The refined cameras, moved together onto the calibrated ones: mean rotation, mean place and extent as before."""
    u, _, v = np.linalg.svd(sum(b.R.T @ a.R for a, b in zip(refined, calibrated, strict=True)))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    a = np.stack([-turn @ camera.R.T @ camera.t for camera in refined])
    b = np.stack([-camera.R.T @ camera.t for camera in calibrated])
    extent = np.sqrt(((a - a.mean(0)) ** 2).sum()), np.sqrt(((b - b.mean(0)) ** 2).sum())
    scale = extent[1] / extent[0] if min(extent) > 1e-6 else 1.0
    centre = (a - a.mean(0)) * scale + b.mean(0)
    rotations = [camera.R @ turn.T for camera in refined]
    return tuple(
        replace(camera, R=r, t=-r @ place) for camera, r, place in zip(refined, rotations, centre, strict=True)
    )
