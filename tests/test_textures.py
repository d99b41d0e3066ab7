# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture sampling (equation 1) against a plain loop."""

from __future__ import annotations

import numpy as np
import torch

from neural_avatar.neural_backend.coordinates import Coordinates
from neural_avatar.neural_backend.interface.proxy import RESIDUAL_REACH
from neural_avatar.neural_backend.textures import KEPT_PARTS, sample_dominant, sample_pictures


def _plain(textures: np.ndarray, weights: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    parts, _, size, _ = textures.shape
    out = np.zeros((3, weights.shape[1]))
    for n in range(weights.shape[1]):
        for k in range(parts):
            x, y = np.clip(coordinates[k, n], 0, 1) * (size - 1)
            x0, y0 = min(int(x), size - 2), min(int(y), size - 2)
            fx, fy = x - x0, y - y0
            t = textures[k]
            top = t[:, y0, x0] * (1 - fx) + t[:, y0, x0 + 1] * fx
            bottom = t[:, y0 + 1, x0] * (1 - fx) + t[:, y0 + 1, x0 + 1] * fx
            out[:, n] += weights[k, n] * (top * (1 - fy) + bottom * fy)
    return out


def _inputs(count: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    textures = torch.rand(24, 3, 9, 9, generator=generator)
    weights = torch.softmax(torch.randn(24, count, generator=generator) * 3, 0)
    coordinates = torch.rand(24, count, 2, generator=generator) * 1.2 - 0.1
    return textures, weights, coordinates


def test_sampling_is_equation_1_over_the_dominant_parts() -> None:
    textures, weights, coordinates = _inputs()
    top, which = weights.topk(3, 0)
    only = torch.zeros_like(weights).scatter(0, which, top / top.sum(0))
    places = coordinates.gather(0, which[..., None].expand(-1, -1, 2))
    expected = _plain(textures.numpy(), only.numpy(), coordinates.numpy())
    np.testing.assert_allclose(sample_dominant(textures, top, places, which).numpy(), expected, atol=1e-4)


def test_pictures_are_sampled_where_asked_and_gradients_reach_textures_and_coordinates() -> None:
    torch.manual_seed(2)
    textures = torch.rand(24, 3, 8, 8, requires_grad=True)
    weights = torch.softmax(torch.randn(2, 24, 5, 4), 1)
    coordinates = torch.rand(2, 48, 5, 4, requires_grad=True)
    where = torch.rand(2, 5, 4) > 0.5
    whole, some = (
        sample_pictures(textures, weights, Coordinates(None, coordinates)),
        sample_pictures(textures, weights, Coordinates(None, coordinates), where),
    )
    torch.testing.assert_close(some, whole * where[:, None])
    top, which = weights[1, :, 2, 3].topk(KEPT_PARTS)
    point = sample_dominant(textures, top[:, None], coordinates[1, :, 2, 3].view(24, 1, 2)[which], which[:, None])
    torch.testing.assert_close(whole[1, :, 2, 3], point[:, 0])
    some.sum().backward()
    assert textures.grad is not None and textures.grad.abs().sum() > 0
    assert coordinates.grad is not None and coordinates.grad.abs().sum() > 0
    nobody = sample_pictures(textures, weights, Coordinates(None, coordinates), torch.zeros_like(where))
    assert nobody.shape == whole.shape and not nobody.any()


def test_gradients_are_those_of_the_pictures() -> None:
    torch.manual_seed(3)
    textures, weights = torch.rand(24, 3, 4, 4).double(), torch.softmax(torch.randn(1, 24, 2, 2).double() * 3, 1)
    answer, proxy = torch.randn(1, 48, 2, 2).double(), torch.rand(1, 48, 2, 2).double()
    inputs = [x.requires_grad_(True) for x in (textures, weights, answer)]
    assert torch.autograd.gradcheck(lambda t, w, a: sample_pictures(t, w, Coordinates(a)), inputs)
    assert torch.autograd.gradcheck(lambda t, w, a: sample_pictures(t, w, Coordinates(a, proxy)), inputs)
    fine = weights.detach().repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.autograd.gradcheck(lambda t, a: sample_pictures(t, fine, Coordinates(a, proxy), None, 2),
                                    (textures, answer))  # fmt: skip


def test_coordinates_are_residuals_over_the_proxy_and_lie_between_pixels_as_pictures_do() -> None:
    torch.manual_seed(4)
    answer, proxy = torch.randn(2, 48, 6, 5) / 10, 0.4 + torch.rand(2, 48, 6, 5) / 8  # all on one chart
    reach = torch.from_numpy(np.repeat(RESIDUAL_REACH, 2))[None, :, None, None]
    grid = torch.meshgrid(torch.arange(2), torch.arange(24), torch.arange(6), torch.arange(5), indexing="ij")
    for own, dense in (
        (Coordinates(answer, proxy), proxy + reach * answer.tanh()),
        (Coordinates(answer), answer.sigmoid()),
        (Coordinates(None, proxy), proxy),
    ):
        assert own.size == (6, 5)
        read = own.at(*grid).permute(0, 1, 4, 2, 3).flatten(1, 2)
        torch.testing.assert_close(read, dense)
        fine = torch.nn.functional.interpolate(dense, scale_factor=2, mode="bilinear").view(2, 24, 2, 12, 10)
        row, column = torch.meshgrid(torch.arange(12), torch.arange(10), indexing="ij")
        part = torch.arange(24)[:, None].expand(24, 120)
        places = own.of(slice(1, 2)).between(0, part, (column.flatten() + 0.5) / 2, (row.flatten() + 0.5) / 2)
        torch.testing.assert_close(places.view(24, 12, 10, 2), fine[1].permute(0, 2, 3, 1))


def test_between_two_charts_coordinates_are_those_of_the_nearer_pixel() -> None:
    """A mean of a thumb's and a palm's places on their common texture is on neither."""
    row = torch.tensor([0.10, 0.14, 0.80, 0.84])  # two pixels on one chart, two on another
    maps = row.expand(1, 48, 3, 4).clone().requires_grad_(True)
    x = torch.tensor([1.0, 1.9, 2.1, 3.25])  # 0.5 is the middle of the first pixel
    places = Coordinates(None, maps).between(0, torch.zeros(1, 4, dtype=torch.long), x, torch.full((4,), 1.3))
    expected = torch.tensor([0.12, 0.14, 0.80, 0.83])[:, None].expand(4, 2)
    torch.testing.assert_close(places[0], expected)
    places.sum().backward()
    assert maps.grad is not None and torch.equal(maps.grad.sum((0, 1, 2)) > 0, torch.ones(4, dtype=torch.bool))
