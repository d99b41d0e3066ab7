# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network that translates film (method v2v) is told of the frames before: their poses and what it drew of them.

A frame of which nothing is known is all zeros in poses and pictures, so that any frame can be drawn by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .bone_maps import CHANNELS as BONE_CHANNELS
from .interface.camera import Camera

#: Frames before the present one that the network is told of, the nearest first.
PAST_FRAMES = 2
#: Channels of all past frames' bone maps and pictures (premultiplied display sRGB, and alpha).
PAST_CHANNELS = PAST_FRAMES * (BONE_CHANNELS + 4)


@dataclass(frozen=True)
class Past:
    """The frames before, of B bodies, the nearest first; N = PAST_FRAMES.

    joints: (B, N, 137, 3) world; confidence: (B, N, 137); pictures: (B, N, 4, H, W) premultiplied display sRGB and
    alpha, as the *present* frame's crop cameras see them, at the network's size; posed, drawn: (B, N) bool, where poses
    and where pictures are known. What is not known must still be finite.
    """

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    pictures: Tensor
    posed: npt.NDArray[np.bool_]
    drawn: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DrawnFrame:
    """A frame as it was drawn. joints: (137, 3) world; confidence: (137,); camera: its crop; picture: (4, H, W)
    premultiplied display sRGB and alpha, at the network's size."""

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    camera: Camera
    picture: Tensor


def past_of(frames: Sequence[DrawnFrame | None], camera: Camera) -> Past:
    """The past of one body that ``camera``, a crop of the same camera as theirs, sees. frames: the nearest first; None
    where one was not drawn, and then nothing is known of it."""
    some = [frame for frame in frames if frame is not None]
    shown = [frames[i] if i < len(frames) else None for i in range(PAST_FRAMES)]
    known = np.array([[frame is not None for frame in shown]])
    blank = some[0]
    pictures = [
        _moved(f.picture, f.camera, camera) if f is not None else torch.zeros_like(blank.picture) for f in shown
    ]
    joints, confidence = (
        np.stack([np.asarray(getattr(f or blank, name), np.float32) for f in shown])[None]
        for name in ("joints", "confidence")
    )
    return Past(joints, confidence, torch.stack(pictures)[None], known, known)


def past_maps(
    past: Past | None,
    bone_maps: Callable[[npt.ArrayLike, npt.ArrayLike, Sequence[Camera]], Tensor],
    cameras: Sequence[Camera],
    device: torch.device,
) -> Tensor:
    """What the network sees of the past, (B, PAST_CHANNELS, H, W). bone_maps: draws poses before cameras; cameras: the
    present frame's crops."""
    batch, height, width = len(cameras), cameras[0].height, cameras[0].width
    if past is None:
        return torch.zeros(batch, PAST_CHANNELS, height, width, device=device)
    repeated = [camera for camera in cameras for _ in range(PAST_FRAMES)]
    joints, confidence = (x.reshape(len(repeated), *x.shape[2:]) for x in (past.joints, past.confidence))
    bones = bone_maps(joints, confidence, repeated).view(batch, PAST_FRAMES, -1, height, width)
    posed, drawn = (torch.from_numpy(x).to(device)[..., None, None, None] for x in (past.posed, past.drawn))
    return torch.cat([bones * posed, past.pictures * drawn], 2).flatten(1, 2)


def _moved(picture: Tensor, old: Camera, new: Camera) -> Tensor:
    """A picture (4, H, W) of one crop of a camera as another crop of it shows the same."""
    if np.array_equal(old.K, new.K):
        return picture
    to_old = old.K @ np.linalg.inv(new.K)
    height, width = picture.shape[-2:]
    to_grid = np.array([[2 / width, 0, -1], [0, 2 / height, -1]])  # pixels to -1..1
    to_pixels = np.array([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]])
    affine = torch.from_numpy((to_grid @ to_old @ to_pixels).astype(np.float32)).to(picture.device)
    grid = F.affine_grid(affine[None], [1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None], grid, align_corners=False)[0]
