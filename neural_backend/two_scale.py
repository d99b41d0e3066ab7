# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator of method v2v: a coarse one at half the size, and a fine one that adds detail to what it drew.

In the spirit of vid2vid (Wang et al. 2018, section 3.2), which the paper compares itself with. The coarse one is the
:class:`Generator` of all other methods; the fine one reads the same maps at full size and the coarse one's last
features. Both together cost about as much as one :class:`Generator` at full size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .network import Generator, NetworkConfig, ResidualBlock, conv_block, output_layer


class TwoScaleGenerator(nn.Module):
    """Maps (B, inputs, H, W) to one (B, outputs[i], H, W) for each output, as :class:`Generator` does. H and W are
    multiples of 16."""

    def __init__(self, config: NetworkConfig, inputs: int, outputs: Sequence[int]) -> None:
        super().__init__()
        full, half = config.channels[:2]
        self.skips = config.skips
        self.coarse = Generator(config, inputs, outputs)
        self.stem = conv_block(inputs, full, config.kernel)
        self.down = conv_block(full, half, stride=2)
        self.join = conv_block(half + full * len(outputs), half)
        self.blocks = nn.Sequential(ResidualBlock(half), ResidualBlock(half))
        self.up = nn.ModuleList(conv_block(half + (full if config.skips else 0), full) for _ in outputs)
        self.out = nn.ModuleList(output_layer(full, n, config.kernel) for n in outputs)

    def forward(self, x: Tensor) -> list[Tensor]:
        size = x.shape[-2:]
        features = self.coarse.features(F.avg_pool2d(x, 2))
        coarse = self.coarse.outputs(features)
        stem = self.stem(x)
        y = self.blocks(self.join(torch.cat([self.down(stem), *features], 1)))
        y = F.interpolate(y, size=size, mode="nearest")
        if self.skips:
            y = torch.cat([y, stem], 1)
        return [
            F.interpolate(rough, size=size, mode="bilinear") + out(up(y))
            for rough, up, out in zip(coarse, self.up, self.out, strict=True)
        ]
