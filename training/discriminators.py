# SPDX-License-Identifier: GPL-3.0-or-later
"""Patch discriminators at several scales, as in pix2pixHD (Wang et al. 2018, section 3.2), narrow enough for CPUs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

#: Channels of the first layer; they double with each halving.
WIDTH = 24


class PatchDiscriminator(nn.Module):
    """Three halvings and a score for each patch. H and W are at least 16."""

    def __init__(self, inputs: int, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2)),
                _layer(width, width * 2, 4, 2),
                _layer(width * 2, width * 4, 4, 2),
                _layer(width * 4, width * 4, 3, 1),
                nn.Conv2d(width * 4, 1, 3, 1, 1),
            ]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """x: (B, inputs, H, W). Returns what each layer gives; the last is the score, (B, 1, H / 8, W / 8)."""
        out = []
        for layer in self.layers:
            x = layer(x)
            out.append(x)
        return out


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    # Instance norm holds no running state, so that a resumed run needs nothing but the weights.
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, 1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2))


class MultiScaleDiscriminator(nn.Module):
    """A PatchDiscriminator for the picture, and one for it at each further halving: grain and shape are judged
    apart."""

    def __init__(self, inputs: int, scales: int = 2) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(inputs) for _ in range(scales))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """x: (B, inputs, H, W). Returns what each layer of each scale gives."""
        out = []
        for i, discriminator in enumerate(self.scales):
            x = functional.avg_pool2d(x, 2) if i else x
            out.append(discriminator(x))
        return out
