# SPDX-License-Identifier: GPL-3.0-or-later
"""The first layers of VGG19 (Simonyan & Zisserman, 2015) as a fixed feature extractor for the perceptual loss.

Section 3 of the paper: "the maps of activations within pretrained fixed VGG network ... 12 first layers are used". As
in the reference implementations of that loss, convolutions, activations and poolings count as layers, so the twelfth is
relu3_1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from ..neural_backend.interface.messages import BackendError
from .weights import KNOWN, cached_weights, intact

#: Index in VGG19's ``features``, input and output channels of each convolution; activations lie between, a pooling
#: before each index in POOL_BEFORE.
_CONVOLUTIONS = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256))
_POOL_BEFORE = (5, 10)
#: File name of the public ImageNet weights.
WEIGHTS_NAME = KNOWN["vgg19"].file
#: VGG16's last convolution, and VGG19's, which VGG16 has not. The first layers of both are shaped alike.
_LAST_OF_16, _LAST_OF_19 = "features.28.weight", "features.34.weight"


class VggFeatures(nn.Module):
    """Activations after each of the first five convolutions (features[0:12] of VGG19), weights fixed."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for index, inputs, outputs in _CONVOLUTIONS:
            layer = nn.Conv2d(inputs, outputs, 3, padding=1)
            for part, own in (("weight", layer.weight), ("bias", layer.bias)):
                key = f"features.{index}.{part}"
                given = weights.get(key)
                if given is None or own is None or given.shape != own.shape:
                    raise BackendError(
                        "vgg-weights", f"The VGG weights hold no {key} as VGG19 has it; give the file {WEIGHTS_NAME}."
                    )
                own.data.copy_(given)
            self.convolutions.append(layer)
        self.requires_grad_(False)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) display sRGB in 0..1. Returns the five activation maps."""
        x = (image - self.mean) / self.std
        out = []
        for (index, _, _), layer in zip(_CONVOLUTIONS, self.convolutions, strict=True):
            if index in _POOL_BEFORE:
                x = functional.max_pool2d(x, 2)
            x = functional.relu(layer(x))
            out.append(x)
        return out


#: Seed of the random weights: whoever compares figures has drawn the same ones.
RANDOM_SEED = 19


def random_vgg(seed: int = RANDOM_SEED) -> VggFeatures:
    """The same layers with random weights (He et al. 2015: normal, keeping the variance; no bias), equal for equal
    seeds. Random convolutions tell textures apart, blurred from sharp above all, where no trained weights can be had.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for index, inputs, outputs in _CONVOLUTIONS:
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        weights[f"features.{index}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.bias"] = torch.zeros(outputs)
    return VggFeatures(weights)


def find_vgg_weights(given: str) -> Path | None:
    """The weights file: ``given`` where it is set, else the copy in torch's own download cache, else None.

    Raises BackendError 'vgg-weights' when the file given is missing, or the cached one does not have its checksum.
    """
    if given:
        if not Path(given).is_file():
            raise BackendError("vgg-weights", f"There is no file {given} of VGG weights.")
        return Path(given)
    cached = cached_weights(WEIGHTS_NAME)
    if cached is not None and not intact(cached):
        raise BackendError(
            "vgg-weights",
            f"{cached} is damaged (its checksum is wrong); `neural-avatar weights vgg19` downloads it "
            "anew; or give --vgg-weights FILE, or --image-loss fallback to do without.",
        )
    return cached


def load_vgg(path: Path) -> VggFeatures:
    """Read the extractor from a torch state dict (.pth, weights only, nothing is executed) or a safetensors file."""
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise BackendError("vgg-weights", f"{path} cannot be read as VGG weights.", str(error)) from error
    if not isinstance(weights, dict):
        raise BackendError("vgg-weights", f"{path} holds no state dict; give the file {WEIGHTS_NAME}.")
    if _LAST_OF_16 in weights and _LAST_OF_19 not in weights:
        raise BackendError("vgg-weights", f"{path} holds VGG16's weights; give VGG19's, the file {WEIGHTS_NAME}.")
    return VggFeatures(weights)
