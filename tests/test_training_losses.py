# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.coordinates import Coordinates
from neural_avatar.neural_backend.interface.proxy import PART_COUNT, RESIDUAL_REACH
from neural_avatar.neural_backend.proxy_maps import ProxyMaps
from neural_avatar.training import losses
from neural_avatar.training.vgg import VggFeatures


def plain_differences(x: np.ndarray) -> tuple[float, float]:
    """The mean absolute difference of neighbours down the columns and along the rows. x: (B, C, H, W)."""
    bodies, channels, height, width = x.shape
    down, along = [], []
    for b in range(bodies):
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    if i:
                        down.append(abs(x[b, c, i, j] - x[b, c, i - 1, j]))
                    if j:
                        along.append(abs(x[b, c, i, j] - x[b, c, i, j - 1]))
    return sum(down) / len(down), sum(along) / len(along)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures in 0..1 that differ more from one row to the next than within one."""
    torch.manual_seed(0)
    a, b = torch.rand(2, *shape, dtype=torch.float64)
    return (a * torch.linspace(0.2, 1, shape[-1]) + torch.rand(shape[-2], 1).double()) / 2, b


def test_total_variation() -> None:
    textures, _ = pair(24, 3, 4, 6)
    down, along = plain_differences(textures.numpy())
    assert float(losses.total_variation(textures)) == pytest.approx(down + along, rel=1e-9)
    assert min(down, along) > 0.05 and abs(down - along) > 0.01


def test_gradient_difference() -> None:
    a, b = pair(2, 3, 5, 7)
    down, along = plain_differences((a - b).numpy())
    assert float(losses.gradient_difference(a, b)) == pytest.approx(down + along, rel=1e-9)
    assert float(losses.gradient_difference(a, a + 0.3)) == pytest.approx(0, abs=1e-9)


def plain_scales(difference: np.ndarray) -> list[float]:
    """The mean absolute difference in three sizes, each half the one before. difference: (B, C, H, W)."""
    found = []
    for scale in range(3):
        if scale:
            bodies, channels, height, width = difference.shape
            half = np.zeros((bodies, channels, height // 2, width // 2))
            for i in range(height // 2):
                for j in range(width // 2):
                    half[..., i, j] = difference[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
            difference = half
        found.append(float(np.abs(difference).mean()))
    return found


def test_the_loss_without_vgg_weights_is_its_three_terms() -> None:
    a, b = pair(2, 3, 18, 14)
    scales = plain_scales((a - b).numpy())
    assert min(scales) > 0.02
    plain = losses.FallbackImageLoss(gradient=0, similarity=0)
    assert float(plain(a, b)) == pytest.approx(sum(scales), rel=1e-9)
    gradients, similarity = sum(plain_differences((a - b).numpy())), float(losses.structural_similarity(a, b))
    whole = sum(scales) + gradients + 0.5 * (1 - similarity)
    assert float(losses.FallbackImageLoss()(a, b)) == pytest.approx(whole, rel=1e-9)


#: Index in VGG19's features, channels that go in and out, and whether the picture is halved before.
LAYERS = ((0, 3, 64, False), (2, 64, 64, False), (5, 64, 128, True), (7, 128, 128, False), (10, 128, 256, True))


def plain_activations(picture: np.ndarray, weights: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Activations after each convolution of one picture (3, H, W)."""
    x = (picture - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]
    found = []
    for index, _, outputs, halved in LAYERS:
        if halved:
            x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
        weight, bias = (weights[f"features.{index}.{part}"].double().numpy() for part in ("weight", "bias"))
        height, width = x.shape[1:]
        padded, out = np.pad(x, [(0, 0), (1, 1), (1, 1)]), np.zeros((outputs, height, width))
        for i in range(height):
            for j in range(width):
                for k in range(outputs):
                    out[k, i, j] = (padded[:, i : i + 3, j : j + 3] * weight[k]).sum() + bias[k]
        x = np.maximum(out, 0)
        found.append(x)
    return found


def test_the_perceptual_loss_is_the_sum_over_five_layers_and_the_colours() -> None:
    torch.manual_seed(1)
    weights = {}
    for index, inputs, outputs, _ in LAYERS:
        weights[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.bias"] = torch.randn(outputs) * 0.1
    a, b = (x.float() for x in pair(1, 3, 4, 8))
    terms = [float((a - b).abs().mean())]
    for own, target in zip(*(plain_activations(x[0].double().numpy(), weights) for x in (a, b)), strict=True):
        terms.append(0.2 * float(np.abs(own - target).mean()))
    assert len(terms) == 6 and min(terms) > 0.02 * sum(terms)
    loss = losses.PerceptualImageLoss(VggFeatures(weights))
    assert float(loss(a, b)) == pytest.approx(sum(terms), rel=1e-5)


@pytest.mark.parametrize("residual", [True, False])
def test_coordinates_are_held_to_those_of_the_part_that_is_seen(residual: bool) -> None:
    torch.manual_seed(2)
    height, width = 3, 5
    answer, own = torch.randn(2, 2 * PART_COUNT, height, width), torch.rand(2, 2 * PART_COUNT, height, width)
    part, visible = torch.randint(0, PART_COUNT + 1, (2, height, width)), torch.rand(2, 2, height, width)
    part[:, 0, :2] = 0
    nothing = torch.zeros(2, 1, height, width)
    proxy = ProxyMaps(torch.zeros(2, PART_COUNT + 1, height, width), own, visible, part, nothing, nothing)
    squares = []
    for body in range(2):
        for row in range(height):
            for column in range(width):
                number = int(part[body, row, column]) - 1
                for axis in range(2) if number >= 0 else ():
                    said = float(answer[body, 2 * number + axis, row, column])
                    place = 1 / (1 + np.exp(-said))
                    if residual:
                        reach = float(RESIDUAL_REACH[number])
                        place = float(own[body, 2 * number + axis, row, column]) + reach * np.tanh(said)
                    squares.append((place - float(visible[body, axis, row, column])) ** 2)
    assert 0 < len(squares) < 2 * part.numel()
    found = losses.coordinates_loss(Coordinates(answer, own if residual else None), proxy)
    assert float(found) == pytest.approx(sum(squares) / len(squares), rel=1e-5)
    assert float(losses.coordinates_loss(Coordinates(answer), proxy_of_nobody(proxy))) == 0


def proxy_of_nobody(proxy: ProxyMaps) -> ProxyMaps:
    return ProxyMaps(proxy.logits, proxy.coordinates, proxy.visible, proxy.part * 0, proxy.depth, proxy.gap)
