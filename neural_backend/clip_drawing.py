# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing a clip's frames on one device, several bodies at a time where that is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from . import faults
from .avatar import Avatar, BodyMaps
from .clip import Clip
from .compose import empty_planes, linear_to_srgb, scene_linear, write_layers
from .frame_files import Drawn
from .interface.camera import Camera
from .interface.messages import AvatarInstance, BackendError
from .layer import Layer, render_layer
from .renderer import Renderer, crop_of

#: Bodies at a time on a GPU, whose kernels one small picture cannot fill. A CPU's cores are busy with one, and its
#: caches would only be fought over.
_GPU_BATCH = 8


class ClipDrawer:
    """Draws frames of a clip.

    device: as choose_device. planes: what to give for each frame (interface.messages.PLANES); none for a picture in
    display colours. batch: bodies at a time, None for what suits the device.
    Raises BackendError: 'device-missing', and those of reading an avatar.
    """

    def __init__(
        self, avatar: str, clip: Clip, device: str = "auto", planes: Sequence[str] = (), batch: int | None = None
    ) -> None:
        self._renderer = Renderer(device)
        self._avatar = self._renderer.avatar(avatar)
        self._clip, self._planes = clip, tuple(planes)
        self.batch = batch or (_GPU_BATCH if self._renderer.device.type == "cuda" else 1)

    @property
    def device_name(self) -> str:
        """What the user knows the device by."""
        return self._renderer.device_name

    def draw(self, indices: Sequence[int]) -> Iterator[tuple[int, Drawn]]:
        """The frames of ``indices``, each with its index. Raises BackendError 'out-of-memory', 'device-failed'."""
        place = 0
        while place < len(indices):
            group = indices[place : place + self.batch]
            try:
                layers = draw_layers(self._avatar, self._clip, group)
            except (RuntimeError, MemoryError) as error:
                if faults.device_failed(error):
                    raise BackendError(
                        "device-failed",
                        f"{self.device_name} has failed ({str(error).splitlines()[0]}): give the same command again, "
                        "which goes on from the frames that are there.",
                        str(error),
                    ) from error
                if not faults.out_of_memory(error):
                    raise
                self._renderer.unload()
                if self.batch == 1:
                    other = "" if self._renderer.device.type == "cpu" else ", or choose the CPU with --device cpu"
                    raise BackendError(
                        "out-of-memory",
                        f"{self.device_name} has too little memory for one frame: close other programs that use it"
                        f"{other}.",
                        str(error),
                    ) from error
                self.batch = max(1, self.batch // 2)
                continue
            for i, layer in zip(group, layers, strict=True):
                yield i, self._finish(i, layer)
            place += len(group)

    def _finish(self, index: int, layer: Layer | None) -> Drawn:
        camera, gain = self._clip.cameras[index], tuple(float(g) for g in self._clip.gain[index])
        if not self._planes:
            return _picture(layer, camera, gain)
        planes = empty_planes(self._planes, camera.height, camera.width)
        person = AvatarInstance(
            "", "", self._clip.joints[index], self._clip.confidence[index], (gain[0], gain[1], gain[2])
        )
        write_layers([layer] if layer is not None else [], planes, [person])
        return planes


@torch.inference_mode()
def draw_layers(avatar: Avatar, clip: Clip, indices: Sequence[int]) -> list[Layer | None]:
    """The avatar in each of the frames ``indices``, None where it is not in view; the network sees all at once."""
    crops = {i: crop for i in indices if (crop := _crop(avatar, clip, i)) is not None}
    if not crops:
        return [None] * len(indices)
    seen = list(crops)
    joints, confidence, cameras = clip.joints[seen], clip.confidence[seen], list(crops.values())
    maps = avatar.maps(joints, confidence, cameras)
    if maps.proxy is None:  # the depth comes from the proxy, whatever the method
        maps = replace(maps, proxy=avatar.proxy_maps(joints, confidence, cameras))
    drawn = {i: render_layer(avatar, _one(maps, place), crops[i], clip.cameras[i]) for place, i in enumerate(seen)}
    return [drawn.get(i) for i in indices]


def _crop(avatar: Avatar, clip: Clip, index: int) -> Camera | None:
    if not clip.visible[index]:
        return None
    return crop_of(avatar, clip.joints[index], clip.confidence[index], clip.cameras[index], clip.detail)


def _one(maps: BodyMaps, place: int) -> BodyMaps:
    """The maps of one body of several."""
    one = slice(place, place + 1)
    assert maps.proxy is not None
    proxy = replace(maps.proxy, **{name: value[one] for name, value in vars(maps.proxy).items()})
    coordinates = None if maps.coordinates is None else maps.coordinates.of(one)
    batched: dict[str, Any] = {n: v for n, v in vars(maps).items() if isinstance(v, (torch.Tensor, np.ndarray))}
    return replace(maps, proxy=proxy, coordinates=coordinates, **{name: value[one] for name, value in batched.items()})


def _picture(layer: Layer | None, camera: Camera, gain: Sequence[float]) -> np.ndarray:
    """(height, width, 4) uint8: straight alpha, display sRGB, top row first."""
    out = np.zeros((camera.height, camera.width, 4), np.uint8)
    if layer is None:
        return out
    rgb = layer.rgb
    if any(g != 1 for g in gain):
        rgb = linear_to_srgb(scene_linear(rgb) * torch.tensor(gain, device=rgb.device)).clamp(0, 1)
    height, width = layer.alpha.shape
    pixels = (torch.cat([rgb, layer.alpha[..., None]], -1) * 255).round().to(torch.uint8)
    out[layer.y : layer.y + height, layer.x : layer.x + width] = pixels.cpu().numpy()
    return out
