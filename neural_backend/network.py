# SPDX-License-Identifier: GPL-3.0-or-later
"""The generator g of the paper (section 4, Architecture): an encoder, and a decoder of its own for each output.

A strided encoder, residual blocks at a sixteenth of the size, then for each output residual blocks and four upsampling
blocks. ``skips`` joins encoder and decoder levels (U-Net), which the paper's network does not have: it aligns pixels
much faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the generator.

    channels: at full size and after each of the four halvings. blocks: residual blocks in the encoder and in each
    decoder. kernel: of the first and last convolutions. skips: join encoder levels to decoder levels.
    """

    channels: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128)
    blocks: tuple[int, int] = (2, 1)
    kernel: int = 3
    skips: bool = True


#: The paper's network: 32 channels doubling to 256, four residual blocks in each half, 7x7 ends: 17 M parameters.
PAPER = NetworkConfig(channels=(32, 64, 128, 256, 256), blocks=(4, 4), kernel=7, skips=False)
#: A narrow one with skip connections, for CPUs.
NARROW = NetworkConfig()


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation and ReLU; half the size with a stride of 2."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), _norm(outputs), nn.ReLU(inplace=True)
    )


def output_layer(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """An output convolution that starts at zero."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_block(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Decoder(nn.Module):
    """Residual blocks, four x2 upsamplings and an output convolution that starts at zero."""

    def __init__(self, config: NetworkConfig, outputs: int) -> None:
        super().__init__()
        c = config.channels
        self.skips = config.skips
        self.blocks = nn.Sequential(*(ResidualBlock(c[4]) for _ in range(config.blocks[1])))
        self.up = nn.ModuleList(
            conv_block(c[level + 1] + (c[level] if config.skips else 0), c[level]) for level in (3, 2, 1, 0)
        )
        self.out = output_layer(c[0], outputs, config.kernel)

    def forward(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """What the output convolution ``out`` reads, (B, channels[0], H, W)."""
        x = self.blocks(x)
        for block, level in zip(self.up, reversed(levels), strict=True):
            x = F.interpolate(x, size=level.shape[-2:], mode="nearest")
            x = block(torch.cat([x, level], 1) if self.skips else x)
        return x


class Generator(nn.Module):
    """Maps (B, inputs, H, W) to one (B, outputs[i], H, W) for each decoder. H and W are multiples of 16."""

    def __init__(self, config: NetworkConfig, inputs: int, outputs: Sequence[int]) -> None:
        super().__init__()
        c = config.channels
        self.stem = conv_block(inputs, c[0], config.kernel)
        self.down = nn.ModuleList(conv_block(c[i], c[i + 1], stride=2) for i in range(4))
        self.blocks = nn.Sequential(*(ResidualBlock(c[4]) for _ in range(config.blocks[0])))
        self.decoders = nn.ModuleList(Decoder(config, n) for n in outputs)

    def features(self, x: Tensor) -> list[Tensor]:
        """What each decoder's output convolution reads, (B, channels[0], H, W)."""
        x = self.stem(x)
        levels = []
        for down in self.down:
            levels.append(x)
            x = down(x)
        x = self.blocks(x)
        return [decoder(x, levels) for decoder in self.decoders]

    def outputs(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The outputs that belong to ``features``."""
        return [cast(Decoder, decoder).out(y) for decoder, y in zip(self.decoders, features, strict=True)]

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.outputs(self.features(x))
