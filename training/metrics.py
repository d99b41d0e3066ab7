# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture metrics, defined once for the evaluation, the benchmarks and the documents.

All take display-referred sRGB in 0..1. A picture with alpha is composited over white and over 0.5 grey, and the metric
is the mean over the two. The person's box is where the true alpha is over 0.5, padded by 4 pixels and cut at the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]
Box = tuple[slice, slice]

BOX_PADDING = 4
BACKGROUNDS = (1.0, 0.5)
#: PSNR of equal pictures, instead of infinity, so that means stay finite.
MAX_PSNR = 100.0


@dataclass(frozen=True)
class FrameMetrics:
    """Metrics of one frame. PSNR in dB; the metrics in the box and mask_iou are NaN where the true mask is empty.

    sharpness_box: Laplacian energy of the render divided by the truth's, in the box; 1 is as sharp as the truth.
    """

    psnr: float
    psnr_box: float
    ssim: float
    ssim_box: float
    mask_iou: float
    sharpness_box: float


def person_box(alpha: npt.ArrayLike, padding: int = BOX_PADDING) -> Box | None:
    """The person's box (rows, columns) of a true alpha (H, W) in 0..1; None where no pixel is over 0.5."""
    mask = np.asarray(alpha) > 0.5
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return (
        slice(max(int(rows[0]) - padding, 0), int(rows[-1]) + 1 + padding),
        slice(max(int(columns[0]) - padding, 0), int(columns[-1]) + 1 + padding),
    )


def over(rgba: npt.ArrayLike, background: float) -> Array:
    """A straight-alpha picture (H, W, 4) over a grey background, (H, W, 3) float64."""
    image = np.asarray(rgba, np.float64)
    return np.asarray(image[..., :3] * image[..., 3:] + background * (1 - image[..., 3:]))


def psnr(image: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, peak 1, at most MAX_PSNR."""
    error = float(np.mean((np.asarray(image, np.float64) - np.asarray(truth, np.float64)) ** 2))
    return MAX_PSNR if error <= 10 ** (-MAX_PSNR / 10) else float(-10 * np.log10(error))


def ssim_map(image: npt.ArrayLike, truth: npt.ArrayLike) -> Array:
    """Structural similarity of every pixel, the mean over channels, (H, W).

    image, truth: (H, W, C) in 0..1. Gaussian window of sigma 1.5 cut at 11x11 pixels, mirrored at the border, data
    range 1, K1 0.01, K2 0.03 (Wang et al. 2004).
    """
    a, b = np.asarray(image, np.float64), np.asarray(truth, np.float64)

    def blur(x: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(x, (1.5, 1.5, 0), radius=(5, 5, 0), mode="reflect"))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return np.asarray((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean(-1))


def mask_iou(alpha: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Intersection over union of two masks (H, W) at 0.5; NaN where the true mask is empty."""
    a, b = np.asarray(alpha) > 0.5, np.asarray(truth) > 0.5
    return float((a & b).sum() / (a | b).sum()) if b.any() else float("nan")


def laplacian_energy(image: npt.ArrayLike) -> float:
    """The mean square of the Laplacian of the luminance (Rec. 709 weights) of a picture (H, W, 3)."""
    luminance = np.asarray(image, np.float64) @ np.array([0.2126, 0.7152, 0.0722])
    return float(np.mean(ndimage.laplace(luminance, mode="reflect") ** 2))


def frame_metrics(rgba: npt.ArrayLike, truth: npt.ArrayLike) -> FrameMetrics:
    """All metrics of one frame. rgba, truth: (H, W, 4), straight alpha, display sRGB in 0..1."""
    image, target = np.asarray(rgba, np.float64), np.asarray(truth, np.float64)
    if image.shape != target.shape or image.shape[-1] != 4:
        raise ValueError(f"two RGBA pictures of one size are needed, not {image.shape} and {target.shape}")
    box = person_box(target[..., 3])
    rows = []
    for background in BACKGROUNDS:
        a, b = over(image, background), over(target, background)
        similarity = ssim_map(a, b)
        boxed = (np.nan, np.nan, np.nan)
        if box is not None:
            energy = laplacian_energy(b[box])
            sharpness = laplacian_energy(a[box]) / energy if energy > 0 else np.nan
            boxed = (psnr(a[box], b[box]), float(similarity[box].mean()), sharpness)
        rows.append((psnr(a, b), boxed[0], float(similarity.mean()), boxed[1], boxed[2]))
    full, full_box, ssim, ssim_box, sharpness = (float(x) for x in np.mean(rows, 0))
    return FrameMetrics(full, full_box, ssim, ssim_box, mask_iou(image[..., 3], target[..., 3]), sharpness)
