# SPDX-License-Identifier: GPL-3.0-or-later
"""Known surfaces of the person in the pictures, the proxy's or DensePose's: what textures are averaged through before a
network knows anything, and what a network that predicts outright is taught (paper section 3, Initialization)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..neural_backend.avatar import Avatar, mask_logits
from ..neural_backend.coordinates import Coordinates
from ..neural_backend.interface.camera import Camera
from .batches import Shot, enlarged
from .config import TrainConfig
from .densepose import Results, find_results, seen_by


@dataclass(frozen=True)
class Surface:
    """What is known of B pictures. part: (B, H, W) int64, 1..24, 0 background, -1 where nothing is known; coordinates:
    (B, 2, H, W) in 0..1, of that part."""

    part: Tensor
    coordinates: Tensor


class Surfaces(Protocol):
    """The surface of any shot. fingerprint: a digest of the files that it comes from; about: how it was had, for the
    avatar's provenance."""

    fingerprint: str
    about: dict[str, float]

    def seen(self, which: Sequence[int], cameras: Sequence[Camera], detail: int = 1) -> Surface:
        """The surfaces of shots (places in their list), each as a camera at the shot's own centre sees it, of the
        network's size; in ``detail`` times that size."""
        ...


class ProxySurfaces:
    """The proxy's."""

    def __init__(self, avatar: Avatar, shots: Sequence[Shot]) -> None:
        self.fingerprint, self.about = "", dict[str, float]()
        self._avatar, self._shots = avatar, shots

    def seen(self, which: Sequence[int], cameras: Sequence[Camera], detail: int = 1) -> Surface:
        """See Surfaces. Joints are the dataset's own, without the errors that are made on purpose."""
        maps = self._avatar.proxy_maps(*_poses(self._shots, which), cameras)
        return _drawn(maps.logits, Coordinates(None, maps.coordinates), detail)


class PredictedSurfaces:
    """Those that a network predicts, which knows something already."""

    def __init__(self, avatar: Avatar, shots: Sequence[Shot]) -> None:
        self.fingerprint, self.about = "", dict[str, float]()
        self._avatar, self._shots = avatar, shots

    @torch.no_grad()
    def seen(self, which: Sequence[int], cameras: Sequence[Camera], detail: int = 1) -> Surface:
        """See Surfaces."""
        maps = self._avatar.maps(*_poses(self._shots, which), cameras)
        assert maps.coordinates is not None
        return _drawn(maps.logits, maps.coordinates, detail)


class DensePoseSurfaces:
    """DensePose's results; in pictures without one, nothing is known."""

    def __init__(self, shots: Sequence[Shot], results: Results, device: torch.device) -> None:
        self.fingerprint = results.fingerprint()
        self.about = {"densepose_pictures": results.found, "densepose_overlap": round(results.overlap, 4)}
        self._shots, self._surfaces, self._device = shots, results.surfaces, device

    def seen(self, which: Sequence[int], cameras: Sequence[Camera], detail: int = 1) -> Surface:
        """See Surfaces."""
        cameras = [enlarged(camera, detail) for camera in cameras]
        height, width = cameras[0].height, cameras[0].width
        parts = np.full((len(which), height, width), -1, np.int64)
        coordinates = np.zeros((len(which), 2, height, width), np.float32)
        for i, (k, camera) in enumerate(zip(which, cameras, strict=True)):
            surface, shot = self._surfaces[k], self._shots[k]
            if surface is not None:
                parts[i], coordinates[i] = seen_by(surface, shot.dataset.camera(shot.view), camera)
        return Surface(torch.from_numpy(parts).to(self._device), torch.from_numpy(coordinates).to(self._device))


def _poses(shots: Sequence[Shot], which: Sequence[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Joints (B, 137, 3) and confidence (B, 137) of some shots."""
    return np.stack([shots[i].joints for i in which]), np.stack([shots[i].confidence for i in which])


def _drawn(logits: Tensor, coordinates: Coordinates, detail: int) -> Surface:
    """The surface that is drawn of a prediction: in each pixel of the person its likeliest part."""
    weights, mask = torch.softmax(logits[:, :-1], 1), mask_logits(logits)
    if detail > 1:  # as Avatar.shade enlarges them
        weights, mask = (functional.interpolate(x, scale_factor=detail, mode="bilinear") for x in (weights, mask))
    body, row, column = torch.nonzero(mask[:, 0] > 0, as_tuple=True)
    own = weights[body, :, row, column].argmax(1)
    found = coordinates.between(body, own[None], (column + 0.5) / detail, (row + 0.5) / detail)[0]
    part = torch.zeros_like(mask[:, 0], dtype=torch.long)
    places = found.new_zeros(*part.shape, 2)
    part[body, row, column], places[body, row, column] = own + 1, found
    return Surface(part, places.permute(0, 3, 1, 2))


def make_surfaces(
    config: TrainConfig, avatar: Avatar, shots: Sequence[Shot], say: Callable[[str], None] | None = None
) -> Surfaces:
    """The surfaces that the configuration asks for. Raises what find_results raises."""
    if config.init != "densepose":
        return ProxySurfaces(avatar, shots)
    results = find_results(config.densepose, shots)
    if say:
        say(
            f"DensePose found the person in {results.found} of {len(shots)} pictures; its outlines share "
            f"{results.overlap:.0%} of their area with the masks."
        )
    return DensePoseSurfaces(shots, results, avatar.proxy_params.device)


def undisputed(surface: Surface, alpha: Tensor, valid: Tensor) -> Surface:
    """The surface where it and the mask agree on who is a person, inside what was filmed; elsewhere nothing is known.

    alpha, valid: (B, H, W), see Truth.
    """
    disputed = ((alpha > 0.5) != (surface.part > 0)) | (valid == 0)
    return Surface(surface.part.masked_fill(disputed, -1), surface.coordinates)
