# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures by networks: LPIPS and FID where their weights are at hand, and a Fréchet distance that needs none.

Nothing is downloaded. What cannot be measured is left out, and a sentence says why.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..neural_backend.interface.messages import BackendError
from .frechet import Features, RandomFeatures, frechet, square_patch
from .metrics import BACKGROUNDS
from .weights import cached_weights, intact

Pixels = npt.NDArray[np.float32]
Pair = tuple[Features, Features]

#: Side of the square patches that LPIPS and Inception are shown; the latter's is its own.
LPIPS_SIZE, INCEPTION_SIZE = 256, 299
#: What may be raised by importing torchvision (RuntimeError where it was built for another torch).
_UNUSABLE = (ImportError, RuntimeError)


@dataclass(frozen=True)
class Looked:
    """What the networks made of one frame. lpips: NaN where it was not measured. features: of the render and of the
    truth, (N, D) each, by the name of the distance that they are for."""

    lpips: float = math.nan
    features: dict[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """The measures that can be taken here. missing: a sentence for each that cannot, by its name."""

    lpips: Callable[[Tensor, Tensor], Tensor] | None
    features: dict[str, Callable[[Pixels, Pixels], Pair | None]]
    device: torch.device
    missing: dict[str, str]

    @torch.no_grad()
    def look(self, render: Pixels, truth: Pixels) -> Looked:
        """Measure one frame. render, truth: (H, W, 4), straight alpha, display sRGB in 0..1."""
        pairs = {name: extract(render, truth) for name, extract in self.features.items()}
        return Looked(self._lpips(render, truth), {name: pair for name, pair in pairs.items() if pair is not None})

    def _lpips(self, render: Pixels, truth: Pixels) -> float:
        if self.lpips is None:
            return math.nan
        values = []
        for background in BACKGROUNDS:
            patches = [square_patch(x, truth, LPIPS_SIZE, background) for x in (render, truth)]
            if patches[0] is None or patches[1] is None:
                return math.nan
            a, b = (_tensor(p, self.device) * 2 - 1 for p in patches if p is not None)
            values.append(float(self.lpips(a, b)))
        return float(np.mean(values))


def distances(looked: Sequence[Looked]) -> dict[str, float]:
    """The Fréchet distances of the renders from the truths of a set of frames, by name; NaN where it is too small."""
    out = {}
    for name in ("fid", "frechet_random"):
        pairs = [one.features[name] for one in looked if name in one.features]
        sets = [np.concatenate([pair[i] for pair in pairs]) for i in (0, 1)] if pairs else []
        out[name] = frechet(sets[0], sets[1]) if sets and len(sets[0]) > 1 else math.nan
    return out


def find_measures(device: torch.device, inception: Path | None = None) -> Measures:
    """What can be measured here. inception: a file with the weights of torchvision's Inception v3, as a state dict.

    Raises BackendError 'inception-weights' when the file given cannot be used.
    """
    missing: dict[str, str] = {}
    features: dict[str, Callable[[Pixels, Pixels], Pair | None]] = {"frechet_random": RandomFeatures(device)}
    network = _inception(inception, missing)
    if network is not None:
        features["fid"] = _InceptionFeatures(network.to(device), device)
    if importlib.util.find_spec("flip_evaluator") is None:
        missing["FLIP"] = 'FLIP was not measured: pip install "PATH-TO-CHECKOUT[evaluation]" adds it.'
    lpips = _lpips_network(missing)
    return Measures(None if lpips is None else lpips.to(device), features, device, missing)


def _lpips_network(missing: dict[str, str]) -> nn.Module | None:
    """LPIPS with AlexNet by its authors' package (Zhang et al. 2018), which would download weights that are not
    there."""
    try:
        import lpips
        from torchvision.models import AlexNet_Weights
    except _UNUSABLE:
        missing["LPIPS"] = (
            "LPIPS was not measured: it needs the packages lpips and torchvision, the latter for this torch."
        )
        return None
    name = str(AlexNet_Weights.IMAGENET1K_V1.url).rpartition("/")[2]
    path = cached_weights(name)
    if path is None or not intact(path):
        fault = "are not" if path is None else "are damaged"
        missing["LPIPS"] = (
            f"LPIPS was not measured: AlexNet's weights ({name}) {fault} in torch's cache; `neural-avatar weights "
            "alexnet` downloads them."
        )
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in an older way
        network: nn.Module = lpips.LPIPS(net="alex", verbose=False)
    return network.eval()


def _inception(given: Path | None, missing: dict[str, str]) -> nn.Module | None:
    try:
        from torchvision.models import Inception_V3_Weights, inception_v3
    except _UNUSABLE as error:
        if given is not None:
            raise BackendError(
                "inception-weights", "FID needs the package torchvision, in the version for this torch."
            ) from error
        missing["FID"] = (
            "FID was not measured: it needs the package torchvision, for this torch, and its Inception weights."
        )
        return None
    name = str(Inception_V3_Weights.IMAGENET1K_V1.url).rpartition("/")[2]
    path = given or cached_weights(name)
    if path is None or (given is None and not intact(path)):
        fault = "are not" if path is None else "are damaged"
        missing["FID"] = (
            f"FID was not measured: Inception's weights ({name}) {fault} in torch's cache; `neural-avatar weights "
            "inception` downloads them, --inception-weights FILE gives them."
        )
        return None
    network: Any = inception_v3(weights=None, init_weights=False, aux_logits=True, transform_input=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BackendError(
            "inception-weights", f"{path} cannot be read as the weights of torchvision's Inception v3.", str(error)
        ) from error
    network.fc = nn.Identity()  # the features before the classes: 2048 numbers
    return network.eval()  # type: ignore[no-any-return]


class _InceptionFeatures:
    """The pooled features of Inception v3, one vector for each picture, as FID takes them (Heusel et al. 2017).

    The weights are torchvision's, so the figure is not comparable with one by the original TensorFlow weights."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network, self._device = network, device

    @torch.no_grad()
    def __call__(self, render: Pixels, truth: Pixels) -> Pair | None:
        patches = [square_patch(x, truth, INCEPTION_SIZE) for x in (render, truth)]
        if patches[0] is None or patches[1] is None:
            return None
        # These weights expect -1..1, which torchvision's own loader makes of ImageNet's mean and deviation.
        batch = torch.cat([_tensor(p, self._device) * 2 - 1 for p in patches if p is not None])
        vectors = self._network(batch).float().cpu().numpy()
        return vectors[:1], vectors[1:]


def _tensor(patch: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(patch).permute(2, 0, 1)[None].to(device)
