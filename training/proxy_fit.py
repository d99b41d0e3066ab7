# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting the proxy's radii and offsets to the masks: gradient descent on the soft silhouette."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..neural_backend.interface.body import BodyFrames, body_frames, body_scale, frames_in_camera
from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.proxy import PARAM_NAMES, RADII, ProxyGeometry
from ..neural_backend.proxy_maps import camera_rays, cast, pose_capsules
from .batches import Shot
from .spread import spread

#: Pictures that the fit looks at, and the height at which it does.
PICTURES, HEIGHT = 48, 160
_MARGIN = 10.0


@dataclass(frozen=True)
class ProxyFit:
    """The fitted geometry, and the overlap of its silhouette with the masks before and after."""

    geometry: ProxyGeometry
    iou_before: float
    iou_after: float


@dataclass(frozen=True)
class _Views:
    frames: BodyFrames
    cameras: tuple[Camera, ...]
    scale: npt.NDArray[np.float64]
    masks: Tensor
    valid: Tensor


def fit_proxy(
    shots: Sequence[Shot], rest_joints: npt.ArrayLike, rest_confidence: npt.ArrayLike, average: ProxyGeometry,
    steps: int = 200, progress: Callable[[int, int], None] | None = None,
) -> ProxyFit:  # fmt: skip
    """Fits the proxy to the masks of some of the shots.

    rest_joints: (137, 3) metres; rest_confidence: (137,). average: the build to begin with; what is absent from it
    stays so. Deterministic. The loss is the cross-entropy between the mask and a sigmoid of the distance to the
    silhouette, plus a pull towards the average build where the masks say nothing.
    """
    views = _views(
        spread(shots, PICTURES, lambda shot: shot.film), np.asarray(rest_joints), np.asarray(rest_confidence)
    )
    start = torch.tensor(average.params, dtype=torch.float32)
    # Numbers differ in size: the descent sees each in units of what it may plausibly vary by.
    unit = torch.tensor([[0.02] * 6 + [0.015] * 2 + [0.15]]).repeat(len(start), 1)
    fingers = torch.tensor([name.startswith("finger") for name in PARAM_NAMES])
    unit[fingers] *= 0.15
    unit[PARAM_NAMES.index("palm")] *= 0.4
    unit[[PARAM_NAMES.index(n) for n in ("hair", "locks", "skull", "face")]] *= 1.5
    middle = [PARAM_NAMES.index(n) for n in ("belly", "chest", "neck", "skull", "face", "hair", "locks")]
    unit[middle, 0] = unit[middle, 3] = 0.003  # what lies on the body's plane of symmetry stays there
    moved = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([moved], lr=0.08)
    before = _iou(views, start)
    group = 12
    for step in range(steps):
        for g in optimiser.param_groups:
            g["lr"] = 0.08 * (1 - step / steps) + 0.004
        first = step * group % len(views.cameras)
        index = [(first + i) % len(views.cameras) for i in range(min(group, len(views.cameras)))]
        params = _bounded(start + moved * unit, start)
        gap = _gaps(views, index, params)
        loss = F.binary_cross_entropy_with_logits(-gap, views.masks[index], weight=views.valid[index])
        loss = loss + 2e-4 * (moved**2).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress:
            progress(step + 1, steps)
    final = _bounded(start + moved.detach() * unit, start)
    return ProxyFit(ProxyGeometry(final.double().numpy()), before, _iou(views, final))


def _bounded(params: Tensor, average: Tensor) -> Tensor:
    """Radii stay between 0.3 and 2.5 times the average build's, ratios between a half and two."""
    usual = average[:, RADII]
    radii = torch.minimum(torch.maximum(params[:, RADII], usual * 0.3), usual * 2.5)
    return torch.cat([params[:, :6], radii, params[:, 8:].clamp(0.5, 2.2)], 1)


def _views(shots: Sequence[Shot], rest: npt.NDArray[np.float64], rest_confidence: npt.NDArray[np.float64]) -> _Views:
    joints = np.stack([s.joints for s in shots]).astype(np.float64)
    confidence = np.stack([s.confidence for s in shots])
    scale = body_scale(joints, confidence, rest)
    rest_frames = body_frames(rest[None], rest_confidence[None])
    cameras = tuple(_resized(s.camera, HEIGHT) for s in shots)
    frames = body_frames(joints / scale[:, None, None], confidence, rest_frames)
    crops = [shot.crop(camera) for shot, camera in zip(shots, cameras, strict=True)]
    masks = torch.from_numpy(np.stack([c.rgba[3:] for c in crops]))
    valid = torch.from_numpy(np.stack([c.valid for c in crops]))
    return _Views(frames_in_camera(frames, cameras, scale), cameras, scale, masks, valid)


def _resized(camera: Camera, height: int) -> Camera:
    ratio = height / camera.height
    k = np.diag([ratio, ratio, 1.0]) @ camera.K
    return replace(camera, K=k, width=round(camera.width * ratio), height=height)


def _gaps(views: _Views, index: list[int], params: Tensor) -> Tensor:
    """Signed distance (pixels) to the union's silhouette, (B, 1, H, W), differentiable."""
    f = views.frames
    some = BodyFrames(f.origin[index], f.end[index], f.axes[index], f.twist[index], f.joints[index])
    cameras = [views.cameras[i] for i in index]
    height, width = cameras[0].height, cameras[0].width
    rays = camera_rays(cameras, views.scale[index], params.device)
    hits = cast(pose_capsules(some, params), rays, height, width, _MARGIN, outline=True)
    flat = torch.full((len(index) * height * width,), _MARGIN)
    flat = flat.scatter_reduce(0, hits.body * height * width + hits.pixel, hits.gap.clamp(-_MARGIN, _MARGIN), "amin")
    return flat.view(len(index), 1, height, width)


def _iou(views: _Views, params: Tensor) -> float:
    with torch.no_grad():
        inside = (_gaps(views, list(range(len(views.cameras))), params) < 0) & (views.valid > 0)
        mask = (views.masks > 0.5) & (views.valid > 0)
    return float((inside & mask).sum() / (inside | mask).sum().clamp_min(1))
