# SPDX-License-Identifier: GPL-3.0-or-later
"""The Fréchet distance between two sets of feature vectors, and features that can be had anywhere.

Heusel et al. (2017) take the features of an Inception network trained on ImageNet (FID). Where its weights cannot be
had, a VGG19 with random weights from a fixed seed gives a distance that is blind to what things mean and keen on how
they look: grain, edges, blur. It is called ``frechet_random``, never FID, and is comparable with itself alone.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from .metrics import over, person_box
from .vgg import random_vgg

Features = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.float32]

#: Side of the patch that the random network is shown, pixels, and cells along it of which each gives a feature vector.
PATCH, CELLS = 128, 4
#: Cells count in which the person covers at least this share, by the truth's mask.
COVERED = 0.1


def frechet(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The squared Fréchet distance of two sets (N, D) and (M, D), each taken for a Gaussian: |m1 - m2|² + tr(C1 + C2 -
    2 (C1 C2)^½). 0 for equal sets. Raises ValueError for a set of less than two.

    The last trace is the nuclear norm of R1 R2ᵀ, where C = RᵀR: exact where there are fewer vectors than dimensions,
    and without the root of a matrix that is nearly singular.
    """
    sets = [np.asarray(x, np.float64) for x in (a, b)]
    if min(len(x) for x in sets) < 2:
        raise ValueError("a set needs at least two vectors")
    means = [x.mean(0) for x in sets]
    scaled = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip(sets, means, strict=True)]
    roots = [np.asarray(np.linalg.qr(x, mode="r"), np.float64) for x in scaled]
    traces = float((roots[0] ** 2).sum() + (roots[1] ** 2).sum())
    common = float(np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum())
    return max(float(((means[0] - means[1]) ** 2).sum()) + traces - 2 * common, 0.0)


def square_patch(rgba: Pixels, truth: Pixels, size: int, background: float = 0.5) -> Pixels | None:
    """The square around the true person's box of a picture (H, W, 4), over grey, resampled to (size, size, 3); None
    where there is no person. What lies beyond the frame is grey."""
    box = person_box(truth[..., 3])
    if box is None:
        return None
    rows, columns = box
    height, width = truth.shape[:2]
    y0, y1, x0, x1 = rows.start, min(rows.stop, height), columns.start, min(columns.stop, width)
    side = max(y1 - y0, x1 - x0)
    top, left = (side - (y1 - y0)) // 2, (side - (x1 - x0)) // 2
    canvas = np.full((side, side, 3), background, np.float32)
    canvas[top : top + y1 - y0, left : left + x1 - x0] = over(rgba[y0:y1, x0:x1], background)
    filter_ = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(canvas, (size, size), interpolation=filter_), np.float32).clip(0, 1)


class RandomFeatures:
    """Feature vectors of persons' patches by the random VGG19: the means of relu3_1 over cells of 32 pixels."""

    def __init__(self, device: torch.device) -> None:
        self._network: nn.Module = random_vgg().to(device).eval()
        self._device = device

    @torch.no_grad()
    def __call__(self, render: Pixels, truth: Pixels) -> tuple[Features, Features] | None:
        """Features (N, 256) of both pictures (H, W, 4) at the N cells that show the person; None without one."""
        patches = [square_patch(x, truth, PATCH) for x in (render, truth)]
        cover = square_patch(_white(truth), truth, PATCH, 0.0)
        if patches[0] is None or patches[1] is None or cover is None:
            return None
        batch = torch.from_numpy(np.stack([p for p in patches if p is not None])).permute(0, 3, 1, 2)
        maps: Tensor = self._network(batch.to(self._device))[-1]
        cells = functional.adaptive_avg_pool2d(maps, CELLS).flatten(2).permute(0, 2, 1).cpu().numpy()
        share = cover[..., 0].reshape(CELLS, PATCH // CELLS, CELLS, PATCH // CELLS).mean((1, 3)).ravel()
        shown = share >= min(COVERED, float(share.max()))
        return cells[0][shown], cells[1][shown]


def _white(truth: Pixels) -> Pixels:
    """A white figure with the truth's alpha (H, W, 4)."""
    return np.concatenate([np.ones_like(truth[..., :3]), truth[..., 3:]], 2)
