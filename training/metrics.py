# SPDX-License-Identifier: GPL-3.0-or-later
"""Picture metrics, defined once for the evaluation, the benchmarks and the documents.

All take display-referred sRGB in 0..1. A picture with alpha is composited over white and over 0.5 grey, and the metric
is the mean over the two. The person's box is where the true alpha is over 0.5, padded by 4 pixels and cut at the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]
Box = tuple[slice, slice]

BOX_PADDING = 4
BACKGROUNDS = (1.0, 0.5)
#: Exponents of multi-scale SSIM's scales, the finest first.
_MS_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: PSNR of equal pictures, instead of infinity, so that means stay finite.
MAX_PSNR = 100.0


@dataclass(frozen=True)
class FrameMetrics:
    """Metrics of one frame. PSNR in dB; the metrics in the box and mask_iou are NaN where the true mask is empty.

    sharpness_box: Laplacian energy of the render divided by the truth's, in the box; 1 is as sharp as the truth.
    flip_box: the mean FLIP error in the box (Andersson et al. 2020, 67 pixels per degree), 0 for equal pictures; NaN
    where the package flip-evaluator is not installed.
    """

    psnr: float
    psnr_box: float
    ssim: float
    ssim_box: float
    mask_iou: float
    sharpness_box: float
    ms_ssim: float = math.nan
    ms_ssim_box: float = math.nan
    flip_box: float = math.nan


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
    luminance, contrast = _ssim_terms(np.asarray(image, np.float64), np.asarray(truth, np.float64))
    return np.asarray((luminance * contrast).mean(-1))


def _ssim_terms(a: Array, b: Array) -> tuple[Array, Array]:
    """SSIM's luminance term, and its contrast and structure term, of every pixel and channel, (H, W, C) each."""

    def blur(x: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(x, (1.5, 1.5, 0), radius=(5, 5, 0), mode="reflect"))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1), (2 * cov + c2) / (var_a + var_b + c2)


def ms_ssim(image: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Multi-scale SSIM of two pictures (H, W, C) in 0..1 (Wang, Simoncelli & Bovik 2003), the mean over channels.

    Five scales, each half the one before (2x2 means), with the paper's exponents; the luminance counts at the last. A
    picture too small for an 11 pixel window at all of them gets as many as fit, the exponents raised to sum to 1.
    """
    a, b = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    scales = int(np.clip(1 + np.floor(np.log2(max(min(a.shape[:2]), 11) / 11)), 1, len(_MS_EXPONENTS)))
    exponents = np.array(_MS_EXPONENTS[:scales]) / sum(_MS_EXPONENTS[:scales])
    result = np.ones(a.shape[2])
    for scale, exponent in enumerate(exponents):
        luminance, contrast = _ssim_terms(a, b)
        last = scale == scales - 1
        term = (luminance * contrast if last else contrast).mean((0, 1))
        result *= np.maximum(term, 0) ** exponent
        if not last:
            a, b = _halved(a), _halved(b)
    return float(result.mean())


def _halved(image: Array) -> Array:
    """Means over 2 x 2 pixels; an odd row or column at the end is left out."""
    h, w = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    return np.asarray(image[:h, :w].reshape(h // 2, 2, w // 2, 2, -1).mean((1, 3)))


def flip(image: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """The mean FLIP error of two pictures (H, W, 3) display sRGB in 0..1, by its authors' package; NaN without it."""
    try:
        from flip_evaluator import evaluate
    except ImportError:
        return math.nan
    pictures = [np.ascontiguousarray(np.clip(x, 0, 1), np.float32) for x in (truth, image)]
    return float(evaluate(*pictures, "LDR", applyMagma=False)[1])


def flicker(image: npt.ArrayLike, before: npt.ArrayLike, truth: npt.ArrayLike, truth_before: npt.ArrayLike) -> float:
    """How far the change from one frame to the next is from the truth's, (H, W, 4) each, straight alpha.

    The mean absolute difference of both changes over 0.5 grey in the box of both frames' persons, in 1/255: 0 for a
    render that changes as the film does, however wrong it is; NaN where there is no person.
    """
    alpha = np.maximum(np.asarray(truth)[..., 3], np.asarray(truth_before)[..., 3])
    box = person_box(alpha)
    if box is None:
        return math.nan
    now, then, true_now, true_then = (over(x, 0.5)[box] for x in (image, before, truth, truth_before))
    return float(np.abs((now - then) - (true_now - true_then)).mean() * 255)


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
        row = {"psnr": psnr(a, b), "ssim": float(similarity.mean()), "ms_ssim": ms_ssim(a, b)}
        for name in ("psnr_box", "ssim_box", "ms_ssim_box", "sharpness_box", "flip_box"):
            row[name] = math.nan
        if box is not None:
            energy = laplacian_energy(b[box])
            row |= {"psnr_box": psnr(a[box], b[box]), "ssim_box": float(similarity[box].mean())}
            row |= {"ms_ssim_box": ms_ssim(a[box], b[box]), "flip_box": flip(a[box], b[box])}
            row["sharpness_box"] = laplacian_energy(a[box]) / energy if energy > 0 else math.nan
        rows.append(row)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return FrameMetrics(mask_iou=mask_iou(image[..., 3], target[..., 3]), **means)
