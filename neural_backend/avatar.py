# SPDX-License-Identifier: GPL-3.0-or-later
"""The avatar: generator, textures and proxy, from joints and cameras to assignments, coordinates and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from .bone_maps import CHANNELS as BONE_CHANNELS
from .bone_maps import draw_bones
from .coordinates import Coordinates
from .interface.avatar_header import METHODS
from .interface.body import BodyFrames, body_frames, body_scale, frames_in_camera
from .interface.camera import Camera
from .interface.proxy import PART_COUNT, ProxyGeometry, default_proxy
from .interface.skeleton import INDEX, SIZE_BONES
from .network import NARROW, Generator, NetworkConfig
from .past import PAST_CHANNELS, Past, past_maps
from .proxy_maps import ProxyMaps, proxy_maps
from .textures import sample_pictures
from .two_scale import TwoScaleGenerator
from .view_colour import MAX_ORDER, SHRINK, basis, part_directions, term_count, textures_seen

_PROXY_CHANNELS = PART_COUNT + 1 + 2 + 1 + 1


@dataclass(frozen=True)
class AvatarConfig:
    """What an avatar is made of.

    method: see METHODS. size: (height, width) of the network's pictures, multiples of 16. network: the generator's
    sizes. texture_size: side of each part's texture in texels. view_order: order of the spherical harmonics by which
    colour changes with the direction of view, 0 for none (see view_colour). residual: whether textured-proxy answers
    with residuals over the proxy that it reads, or (an ablation) outright, as textured does. confidence_weighted:
    whether bones are drawn weaker where their joints are less sure (see bone_maps).
    """

    method: str = "textured-proxy"
    size: tuple[int, int] = (256, 128)
    network: NetworkConfig = field(default_factory=lambda: NARROW)
    texture_size: int = 256
    view_order: int = 0
    residual: bool = True
    confidence_weighted: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}; it must be one of {', '.join(METHODS)}")
        if any(n % 16 or n < 32 for n in self.size):
            raise ValueError(f"the network's size {self.size} must be multiples of 16, at least 32")
        if not 0 <= self.view_order <= (MAX_ORDER if self.textured else 0):
            raise ValueError(f"{self.method} cannot have view-dependent colour of order {self.view_order}")

    @property
    def textured(self) -> bool:
        """Whether colour comes from textures."""
        return METHODS[self.method].textures

    @property
    def reads_past(self) -> bool:
        """Whether the network can be told of the frames before (see neural_backend.past)."""
        return METHODS[self.method].reads_past

    @property
    def reads_proxy(self) -> bool:
        """Whether the network sees the proxy (and, if textured and ``residual``, answers with residuals over it)."""
        return METHODS[self.method].reads_proxy

    @property
    def shown_channels(self) -> int:
        """Channels of what the network is shown of the present pose."""
        return BONE_CHANNELS + (_PROXY_CHANNELS if self.reads_proxy else 0)


@dataclass(frozen=True)
class BodyMaps:
    """What the network says of each pixel, before textures are sampled; (B, ..., H, W) at the network's size.

    logits: (B, 25, H, W), background last (direct methods: (B, 1, H, W), the mask's). coordinates: of all parts, or
    None. rgb: (B, 3, H, W) of direct methods, else None. proxy: the proxy's maps. scale: (B,) scene units
    per body unit. view: (B, 24, n) weights of each part's view harmonics, None for an avatar without. shown: (B, C, H,
    W) what the network was shown of the present pose; None where it is not training.
    """

    logits: Tensor
    coordinates: Coordinates | None
    rgb: Tensor | None
    proxy: ProxyMaps | None
    scale: npt.NDArray[np.float64]
    view: Tensor | None = None
    shown: Tensor | None = None

    @property
    def mask_logits(self) -> Tensor:
        """The mask's logits, see mask_logits."""
        return mask_logits(self.logits)


def mask_logits(logits: Tensor) -> Tensor:
    """The mask's logits (B, 1, H, W): any part against the background. logits: see BodyMaps.

    Enlarge these to find the mask, and the parts' probabilities to find the colour, never the parts' logits: between
    two pixels of different parts both parts' logits are low, and the background or a third part would show through.
    """
    if logits.shape[1] == 1:
        return logits
    return torch.logsumexp(logits[:, :-1], 1, keepdim=True) - logits[:, -1:]


@dataclass(frozen=True)
class Prediction:
    """A rendered crop. rgb: (B, 3, H, W) display sRGB, straight (undefined where alpha is 0); alpha: (B, 1, H, W);
    mask_logits: the logits of alpha."""

    rgb: Tensor
    alpha: Tensor
    mask_logits: Tensor
    maps: BodyMaps


class Avatar(nn.Module):
    """A person: ``forward`` renders joints seen by (crop) cameras of the network's size.

    rest_joints: (137, 3) metres, Z up, facing -Y; rest_confidence: (137,). All lengths inside are in body units:
    metres of this rest skeleton, so that scenes in other units and rigs of other size look the same to the network.
    """

    def __init__(
        self,
        config: AvatarConfig,
        rest_joints: npt.ArrayLike,
        rest_confidence: npt.ArrayLike,
        proxy: ProxyGeometry | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.rest_joints = np.asarray(rest_joints, np.float64)
        self.rest_confidence = np.asarray(rest_confidence, np.float64)
        self.rest_frames: BodyFrames = body_frames(self.rest_joints[None], self.rest_confidence[None])
        a, b = np.asarray(SIZE_BONES).T
        self.body_size = float(np.linalg.norm(self.rest_joints[a] - self.rest_joints[b], axis=-1).sum())
        self.register_buffer("proxy_params", torch.zeros(0))
        self.set_proxy(proxy or default_proxy())
        self.textures = (
            nn.Parameter(torch.full((PART_COUNT, 3, config.texture_size, config.texture_size), 0.5))
            if config.textured
            else None
        )
        terms, small = term_count(config.view_order), max(config.texture_size // SHRINK, 2)
        self.view_textures = nn.Parameter(torch.zeros(terms, PART_COUNT, 3, small, small)) if terms else None
        #: Whether the generator computes in bfloat16 (set by training; the weights stay float32).
        self.mixed_precision = False
        self.generator: Generator | TwoScaleGenerator | None = None
        if METHODS[config.method].network:
            inputs = config.shown_channels
            inputs += PAST_CHANNELS if config.reads_past else 0
            outputs = (PART_COUNT + 1, PART_COUNT * 2) if config.textured else (1, 3)
            self.generator = (TwoScaleGenerator if config.reads_past else Generator)(config.network, inputs, outputs)

    proxy_params: Tensor

    def set_proxy(self, proxy: ProxyGeometry) -> None:
        """Takes new proxy numbers (fitted ones)."""
        self.proxy_params = torch.as_tensor(proxy.params, dtype=torch.float32, device=self.proxy_params.device)

    @property
    def proxy(self) -> ProxyGeometry:
        """The proxy's numbers as plain data."""
        return ProxyGeometry(self.proxy_params.detach().cpu().numpy().astype(np.float64))

    def scale_of(self, joints: npt.ArrayLike, confidence: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scene units per body unit of each body. joints: (B, 137, 3); confidence: (B, 137); returns (B,)."""
        return body_scale(joints, confidence, self.rest_joints)

    def proxy_maps(self, joints: npt.ArrayLike, confidence: npt.ArrayLike, cameras: Sequence[Camera]) -> ProxyMaps:
        """The proxy's maps at the cameras' size. joints: (B, 137, 3) world; confidence: (B, 137); B cameras of one
        size."""
        j, c = np.asarray(joints, np.float64), np.asarray(confidence, np.float64)
        scale = self.scale_of(j, c)
        frames = body_frames(j / scale[:, None, None], c, self.rest_frames)
        local = frames_in_camera(frames, cameras, scale)
        return proxy_maps(local, self.proxy_params, cameras, scale, cameras[0].height, cameras[0].width)

    def bone_maps(self, joints: npt.ArrayLike, confidence: npt.ArrayLike, cameras: Sequence[Camera]) -> Tensor:
        """The bone maps (B, 27, H, W), body-relative depth with the hips' at 1. Arguments as :meth:`proxy_maps`."""
        j, c = np.asarray(joints, np.float64), np.asarray(confidence, np.float64)
        scale = self.scale_of(j, c)
        seen = [camera.project(x) for camera, x in zip(cameras, j, strict=True)]
        pixels = np.stack([p for p, _ in seen])
        depth = np.stack([d for _, d in seen]) / scale[:, None]
        hips = depth[:, INDEX["MidHip"]]
        device = self.proxy_params.device
        place, z, weight, origin = (torch.as_tensor(x.astype(np.float32)).to(device) for x in (pixels, depth, c, hips))
        flags = torch.tensor([camera.orthographic for camera in cameras], device=device)
        weighted, height, width = self.config.confidence_weighted, cameras[0].height, cameras[0].width
        return draw_bones(place, z, weight, origin, flags, height, width, weighted=weighted)

    def maps(
        self, joints: npt.ArrayLike, confidence: npt.ArrayLike, cameras: Sequence[Camera], past: Past | None = None
    ) -> BodyMaps:
        """Assignments and coordinates of B bodies, each seen by its own crop camera of the network's size. past: the
        frames before, for a network that reads them."""
        maps = self._maps(joints, confidence, cameras, past)
        if self.view_textures is None:
            return maps
        j, c = np.asarray(joints, np.float64), np.asarray(confidence, np.float64)
        frames = body_frames(j / maps.scale[:, None, None], c, self.rest_frames)
        directions = part_directions(frames_in_camera(frames, cameras, maps.scale), cameras)
        weights = basis(directions, self.config.view_order).astype(np.float32)
        return replace(maps, view=torch.from_numpy(weights).to(self.proxy_params.device))

    def _maps(
        self, joints: npt.ArrayLike, confidence: npt.ArrayLike, cameras: Sequence[Camera], past: Past | None
    ) -> BodyMaps:
        scale = self.scale_of(joints, confidence)
        proxy = None
        if self.config.reads_proxy or self.generator is None:
            proxy = self.proxy_maps(joints, confidence, cameras)
        if self.generator is None:
            assert proxy is not None
            return BodyMaps(proxy.logits, Coordinates(None, proxy.coordinates), None, proxy, scale)
        inputs = self.bone_maps(joints, confidence, cameras)
        if proxy is not None:
            inputs = torch.cat([inputs, self._proxy_input(proxy, joints, cameras, scale)], 1)
        shown = inputs if self.training else None
        if self.config.reads_past:
            inputs = torch.cat([inputs, past_maps(past, self.bone_maps, cameras, inputs.device)], 1)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.mixed_precision):
            first, second = self.generator(inputs)
        first = first.float()
        if not self.config.textured:
            mask = first if proxy is None else first - proxy.logits[:, -1:] * 2
            return BodyMaps(mask, None, torch.sigmoid(second.float()), proxy, scale, shown=shown)
        if proxy is None or not self.config.residual:
            return BodyMaps(first, Coordinates(second), None, proxy, scale, shown=shown)
        coordinates = Coordinates(second, proxy.coordinates)
        return BodyMaps(proxy.logits + first, coordinates, None, proxy, scale, shown=shown)

    def _proxy_input(
        self,
        proxy: ProxyMaps,
        joints: npt.ArrayLike,
        cameras: Sequence[Camera],
        scale: npt.NDArray[np.float64],
    ) -> Tensor:
        j = np.asarray(joints, np.float64)[:, INDEX["MidHip"]]
        hips = np.array([camera.to_camera(x)[2] for camera, x in zip(cameras, j, strict=True)]) / scale
        origin = torch.as_tensor(hips.astype(np.float32)).to(proxy.depth.device)[:, None, None, None]
        present = proxy.depth < 1e5
        depth = torch.where(present, 1 + proxy.depth - origin, torch.zeros_like(proxy.depth))
        return torch.cat([proxy.logits / 5, proxy.visible, depth, proxy.gap.clamp(-8, 8) / 4], 1)

    def shade(self, maps: BodyMaps, detail: int = 1) -> Prediction:
        """Samples the textures (equation 1) at ``detail`` times the maps' size; direct methods already have colour."""

        def enlarged(x: Tensor) -> Tensor:
            return functional.interpolate(x, scale_factor=detail, mode="bilinear") if detail > 1 else x

        mask = enlarged(maps.mask_logits)
        if maps.rgb is not None or maps.coordinates is None or self.textures is None:
            assert maps.rgb is not None
            return Prediction(enlarged(maps.rgb), torch.sigmoid(mask), mask, maps)
        alpha = torch.sigmoid(mask)
        weights = enlarged(torch.softmax(maps.logits[:, :-1], 1))
        coordinates, where = maps.coordinates, alpha.detach()[:, 0] > 0.01
        if maps.view is None:
            rgb = sample_pictures(self.textures, weights, coordinates, where, detail)
            return Prediction(rgb, alpha, mask, maps)
        one = [slice(i, i + 1) for i in range(len(where))]  # each body has textures of its own
        bodies = zip(self.textures_of(maps), one, strict=True)
        rgb = torch.cat([sample_pictures(t, weights[i], coordinates.of(i), where[i], detail) for t, i in bodies])
        return Prediction(rgb, alpha, mask, maps)

    def textures_of(self, maps: BodyMaps) -> list[Tensor]:
        """The textures (24, 3, S, S) of each of the B bodies as it is seen; the method must have textures."""
        assert self.textures is not None
        if maps.view is None or self.view_textures is None:
            return [self.textures] * len(maps.logits)
        return [textures_seen(self.textures, self.view_textures, weights) for weights in maps.view]

    def forward(
        self,
        joints: npt.ArrayLike,
        confidence: npt.ArrayLike,
        cameras: Sequence[Camera],
        detail: int = 1,
        past: Past | None = None,
    ) -> Prediction:
        """Renders B bodies, each by its own crop camera of the network's size.

        joints: (B, 137, 3) world; confidence: (B, 137). detail: the pictures are this many times larger than the
        network's, as in rendering. past: as in :meth:`maps`. Differentiable with respect to network and textures.
        """
        return self.shade(self.maps(joints, confidence, cameras, past), detail)
