# SPDX-License-Identifier: GPL-3.0-or-later
"""Image, mask and regularising losses (paper section 3, equations 2 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..neural_backend.coordinates import Coordinates
from ..neural_backend.proxy_maps import ProxyMaps
from .parallel import mean_over_processes
from .vgg import VggFeatures

_C1, _C2 = 0.01**2, 0.03**2


def composite(rgb: Tensor, alpha: Tensor, background: Tensor) -> Tensor:
    """Lay a straight-alpha picture over a plain colour. rgb: (B, 3, H, W); alpha: (B, 1, H, W); background: (B, 3)."""
    return rgb * alpha + background[:, :, None, None] * (1 - alpha)


def _gaussian(sigma: float, channels: int, like: Tensor) -> Tensor:
    x = torch.arange(-5, 6, dtype=like.dtype, device=like.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    return (kernel / kernel.sum()).expand(channels, 1, -1)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The mean SSIM of two batches (B, C, H, W) in 0..1, Gaussian window of sigma 1.5 (Wang et al. 2004)."""
    maps = torch.cat([a, b, a * a + b * b, a * b], 1)
    channels = maps.shape[1]
    kernel = _gaussian(1.5, channels, maps)
    maps = functional.conv2d(maps, kernel[:, :, :, None], groups=channels)
    maps = functional.conv2d(maps, kernel[:, :, None, :], groups=channels)
    mean_a, mean_b, squares, product = maps.chunk(4, 1)
    both = mean_a * mean_b
    sum_means = mean_a * mean_a + mean_b * mean_b
    similarity = (2 * both + _C1) * (2 * (product - both) + _C2) / ((sum_means + _C1) * (squares - sum_means + _C2))
    return similarity.mean()


def gradient_difference(a: Tensor, b: Tensor) -> Tensor:
    """The mean absolute difference of horizontal and vertical differences of two batches (B, C, H, W)."""
    d = a - b
    return (d[..., 1:, :] - d[..., :-1, :]).abs().mean() + (d[..., 1:] - d[..., :-1]).abs().mean()


class FallbackImageLoss(nn.Module):
    """The image loss where no VGG weights can be had: multi-scale L1, gradients and structural similarity."""

    name = "multi-scale L1 + gradients + structural similarity"

    def __init__(self, scales: int = 3, gradient: float = 1.0, similarity: float = 0.5) -> None:
        super().__init__()
        self.scales, self.gradient, self.similarity = scales, gradient, similarity

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """image, truth: (B, 3, H, W) in 0..1. Returns a scalar."""
        loss = self.similarity * (1 - structural_similarity(image, truth)) + self.gradient * gradient_difference(
            image, truth
        )
        difference = image - truth
        for scale in range(self.scales):
            if scale:
                difference = functional.avg_pool2d(difference, 2)
            loss = loss + difference.abs().mean()
        return loss


class PerceptualImageLoss(nn.Module):
    """Equation 2: L1 between the activations of a fixed VGG19 (its first 12 layers), and between the colours
    themselves."""

    name = "VGG19 features, first 12 layers"

    def __init__(self, features: VggFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, image: Tensor, truth: Tensor) -> Tensor:
        """image, truth: (B, 3, H, W) in 0..1. Returns a scalar."""
        with torch.no_grad():
            wanted = self.features(truth)
        loss = (image - truth).abs().mean()
        for own, target in zip(self.features(image), wanted, strict=True):
            loss = loss + 0.2 * (own - target).abs().mean()
        return loss


def mask_loss(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Equation 3: binary cross-entropy of the mask where the training picture reaches.

    logits: the mask's, (B, 1, H, W); truth, valid: (B, 1, H, W). Each valid pixel of the batch counts alike, also
    where processes share the batch out: the mean of their losses is the loss of the whole.
    """
    per_pixel = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (per_pixel * valid).sum() / mean_over_processes(valid.sum()).clamp_min(1)


def surface_loss(logits: Tensor, coordinates: Coordinates, part: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How far a prediction is from known surfaces: cross-entropy of the parts, L1 of the coordinates.

    logits: (B, 25, H, W), background last; coordinates: of the same bodies; part: (B, H, W) int64, 0 background, -1
    where nothing is known; target: (B, 2, H, W), coordinates of that part. Returns both losses: means over the person's
    pixels, to the first of which the mean over the background's is added, of which there are many more.
    """
    labels = torch.where(part >= 0, (part - 1) % logits.shape[1], -100)  # the number that cross_entropy leaves out
    per_pixel = functional.cross_entropy(logits, labels, reduction="none")
    person, background = (mean_over_processes(x.sum().float()).clamp_min(1) for x in (part > 0, part == 0))
    parts = (per_pixel * (part > 0)).sum() / person + (per_pixel * (part == 0)).sum() / background
    return parts, coordinates_off(coordinates, part, target).abs().sum() / (2 * person)


def coordinates_off(coordinates: Coordinates, part: Tensor, target: Tensor) -> Tensor:
    """How far coordinates lie from known ones: (N, 2) over the N pixels that belong to a part.

    part: (B, H, W) int64, 1..24 where a part is known; target: (B, 2, H, W), coordinates of that part.
    """
    body, row, column = torch.nonzero(part > 0, as_tuple=True)
    own = coordinates.at(body, part[body, row, column] - 1, row, column)
    return own - target[body, :, row, column]


def coordinates_loss(coordinates: Coordinates, proxy: ProxyMaps) -> Tensor:
    """The mean square by which coordinates leave the proxy's, where it is seen and on the part that is seen there."""
    off = coordinates_off(coordinates, proxy.part, proxy.visible)
    return off.square().sum() / (2 * mean_over_processes((proxy.part > 0).sum().float())).clamp_min(1)


def proxy_loss(logits: Tensor, coordinates: Coordinates, proxy: ProxyMaps) -> Tensor:
    """How far a prediction leaves the proxy: the divergence of its parts, (B, 25, H, W) logits, and the distance of its
    coordinates on the part that is seen; both means over the pixels that the proxy covers."""
    person = mean_over_processes((proxy.part > 0).sum().float()).clamp_min(1)
    own, known = (functional.log_softmax(x, 1) for x in (logits, proxy.logits))
    parts = functional.kl_div(own, known, reduction="sum", log_target=True)
    off = coordinates_off(coordinates, proxy.part, proxy.visible).abs().sum() / 2
    return (parts + off) / person


def total_variation(textures: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring texels. textures: (24, 3, S, S)."""
    return (textures[..., 1:, :] - textures[..., :-1, :]).abs().mean() + (
        textures[..., 1:] - textures[..., :-1]
    ).abs().mean()


@dataclass(frozen=True)
class Truth:
    """The target of one batch. rgba: (B, 4, H, W) premultiplied display sRGB; valid: (B, 1, H, W); backgrounds: (2, B,
    3)."""

    rgba: Tensor
    valid: Tensor
    backgrounds: Tensor


def image_loss(loss: nn.Module, rgb: Tensor, alpha: Tensor, truth: Truth) -> Tensor:
    """The image loss over every background of the batch; pixels outside the training picture count as right.

    Two backgrounds (white and a random one) make the colour right under half-transparent edges, not its composite
    alone.
    """
    total = rgb.new_zeros(())
    true_alpha = truth.rgba[:, 3:]
    for background in truth.backgrounds:
        target = truth.rgba[:, :3] + background[:, :, None, None] * (1 - true_alpha)
        image = torch.lerp(target, composite(rgb, alpha, background), truth.valid)
        total = total + loss(image, target)
    return total / len(truth.backgrounds)


def temporal_loss(image: Tensor, before: Tensor, truth: Tensor, truth_before: Tensor, valid: Tensor) -> Tensor:
    """The mean absolute change from one frame to the next that the film does not show; an error that stays costs
    nothing here.

    image, truth: (B, 4, H, W) premultiplied display sRGB and alpha; before, truth_before: those of the frame before,
    seen by the same camera; valid: (B, 1, H, W), 1 where both training pictures reach.
    """
    change = (image - before) - (truth - truth_before)
    return (change.abs() * valid).sum() / (image.shape[1] * mean_over_processes(valid.sum())).clamp_min(1)
