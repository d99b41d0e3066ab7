# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics against plain loops, and losses against the metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import BodyMaps
from neural_avatar.training import losses, metrics


def random_pair(height: int = 24, width: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A person-like rectangle with noise, and the same shifted by a pixel; straight RGBA."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 1, (height, width, 4))
    truth[..., 3] = 0
    truth[6:17, 7:13, 3] = 1
    truth[6:17, 7, 3] = 0.4
    return np.clip(np.roll(truth, 1, 1) + rng.normal(0, 0.02, truth.shape), 0, 1), truth


def plain_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM with loops: 11x11 Gaussian window of sigma 1.5, mirrored at the border."""
    kernel = np.array([math.exp(-0.5 * (i / 1.5) ** 2) for i in range(-5, 6)])
    window = np.outer(kernel, kernel) / kernel.sum() ** 2
    height, width, channels = a.shape
    out = np.zeros((height, width))
    pad = [(5, 5), (5, 5), (0, 0)]
    pa, pb = np.pad(a, pad, mode="symmetric"), np.pad(b, pad, mode="symmetric")
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                wa, wb = pa[y : y + 11, x : x + 11, c], pb[y : y + 11, x : x + 11, c]
                ma, mb = (window * wa).sum(), (window * wb).sum()
                va, vb = (window * (wa - ma) ** 2).sum(), (window * (wb - mb) ** 2).sum()
                cov = (window * (wa - ma) * (wb - mb)).sum()
                c1, c2 = 0.01**2, 0.03**2
                out[y, x] += (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)) / channels
    return out


def test_frame_metrics_agree_with_plain_loops() -> None:
    image, truth = random_pair()
    found = metrics.frame_metrics(image, truth)
    # The box by hand: alpha over 0.5 spans rows 6..16 and columns 8..12, padded by 4.
    rows, columns = range(2, 21), range(4, 17)
    psnr, psnr_box, ssim, ssim_box = [], [], [], []
    for background in (1.0, 0.5):
        a = image[..., :3] * image[..., 3:] + background * (1 - image[..., 3:])
        b = truth[..., :3] * truth[..., 3:] + background * (1 - truth[..., 3:])
        errors = [(a[y, x, c] - b[y, x, c]) ** 2 for y in range(24) for x in range(20) for c in range(3)]
        boxed = [(a[y, x, c] - b[y, x, c]) ** 2 for y in rows for x in columns for c in range(3)]
        psnr.append(-10 * math.log10(sum(errors) / len(errors)))
        psnr_box.append(-10 * math.log10(sum(boxed) / len(boxed)))
        similarity = plain_ssim(a, b)
        ssim.append(similarity.mean())
        ssim_box.append(np.mean([similarity[y, x] for y in rows for x in columns]))
    assert found.psnr == pytest.approx(np.mean(psnr), abs=1e-9)
    assert found.psnr_box == pytest.approx(np.mean(psnr_box), abs=1e-9)
    assert found.ssim == pytest.approx(np.mean(ssim), abs=1e-9)
    assert found.ssim_box == pytest.approx(np.mean(ssim_box), abs=1e-9)
    both = sum(image[y, x, 3] > 0.5 and truth[y, x, 3] > 0.5 for y in range(24) for x in range(20))
    either = sum(image[y, x, 3] > 0.5 or truth[y, x, 3] > 0.5 for y in range(24) for x in range(20))
    assert found.mask_iou == pytest.approx(both / either)


def test_equal_pictures_are_perfect_and_blur_is_less_sharp() -> None:
    image, truth = random_pair()
    same = metrics.frame_metrics(truth, truth)
    assert (same.psnr, same.ssim_box, same.mask_iou) == (metrics.MAX_PSNR, pytest.approx(1), 1)
    assert same.sharpness_box == pytest.approx(1)
    blurred = truth.copy()
    blurred[..., :3] = (truth[..., :3] + np.roll(truth[..., :3], 1, 0) + np.roll(truth[..., :3], 1, 1)) / 3
    assert metrics.frame_metrics(blurred, truth).sharpness_box < 0.8
    assert metrics.frame_metrics(image, truth).psnr < 40


def test_frames_without_a_person_have_no_box() -> None:
    image, truth = random_pair()
    truth[..., 3] = 0
    found = metrics.frame_metrics(image, truth)
    assert math.isnan(found.psnr_box) and math.isnan(found.ssim_box) and math.isnan(found.mask_iou)
    assert math.isfinite(found.psnr)


def test_colour_under_an_empty_mask_does_not_count() -> None:
    _, truth = random_pair()
    other = truth.copy()
    other[truth[..., 3] == 0, :3] = 0.7
    assert metrics.frame_metrics(other, truth).psnr == metrics.MAX_PSNR


def test_ssim_loss_agrees_with_the_metric_inside() -> None:
    image, truth = (x[..., :3] for x in random_pair(40, 36))
    a, b = (torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None] for x in (image, truth))
    inside = metrics.ssim_map(image, truth)[5:-5, 5:-5].mean()
    assert float(losses.structural_similarity(a, b)) == pytest.approx(inside, abs=1e-9)


def test_image_loss_ignores_what_the_picture_does_not_reach() -> None:
    torch.manual_seed(0)
    rgba = torch.rand(1, 4, 32, 16)
    rgba[:, :3] *= rgba[:, 3:]
    valid = torch.ones(1, 1, 32, 16)
    valid[..., 8:] = 0
    truth = losses.Truth(rgba, valid, torch.stack([torch.ones(1, 3), torch.rand(1, 3)]))
    rgb, alpha = rgba[:, :3] / rgba[:, 3:], rgba[:, 3:].clone()
    assert float(losses.image_loss(losses.FallbackImageLoss(), rgb, alpha, truth)) == pytest.approx(0, abs=1e-5)
    wrong_outside = alpha.clone()
    wrong_outside[..., 8:] = 0
    assert float(losses.image_loss(losses.FallbackImageLoss(), rgb, wrong_outside, truth)) == pytest.approx(0, abs=1e-5)
    wrong_inside = alpha.clone()
    wrong_inside[..., :8] = 0
    assert float(losses.image_loss(losses.FallbackImageLoss(), rgb, wrong_inside, truth)) > 0.1


def test_mask_loss_is_the_cross_entropy_of_the_background() -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(2, 25, 4, 4), (torch.rand(2, 1, 4, 4) > 0.5).float()
    background = torch.softmax(logits, 1)[:, -1:]
    wanted = -(truth * torch.log(1 - background) + (1 - truth) * torch.log(background)).mean()
    mask = BodyMaps(logits, None, None, None, np.ones(2)).mask_logits
    assert float(losses.mask_loss(mask, truth, torch.ones(2, 1, 4, 4))) == pytest.approx(float(wanted), abs=1e-5)
