# SPDX-License-Identifier: GPL-3.0-or-later
"""From a render request to the planes of a frame: the room in which avatars are loaded, kept, and asked for
pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .avatar import Avatar, BodyMaps
from .avatar_file import load_avatar
from .compose import empty_planes, write_layers
from .interface.body import REQUIRED_JOINTS
from .interface.camera import Camera
from .interface.messages import AvatarInstance, BackendError, RenderedFrame, RenderRequest
from .interface.skeleton import INDEX
from .layer import Layer, body_maps, render_layer
from .virtual_camera import crop_camera

_REQUIRED = [INDEX[name] for name in REQUIRED_JOINTS]


def choose_device(wish: str = "auto") -> torch.device:
    """The device to compute on. wish: 'auto' (CUDA, then MPS, then CPU), 'cpu', 'cuda', 'cuda:N' or 'mps'.

    Raises BackendError 'device-missing' when the wished device is not there.
    """
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise BackendError(
            "device-missing", f"{wish!r} is not a device; use auto, cpu, cuda, cuda:1 or mps.", str(error)
        ) from error
    there = (
        device.type == "cpu"
        or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
        or (device.type == "mps" and torch.backends.mps.is_available())
    )
    if not there:
        raise BackendError(
            "device-missing", f"This machine has no device {wish!r} that torch can use; choose auto or cpu."
        )
    return device


@dataclass(frozen=True)
class _Kept:
    stamp: tuple[int, int]
    avatar: Avatar


class Renderer:
    """Renders requests on one device and keeps the avatars that it has read, until their files change."""

    def __init__(self, device: str = "auto") -> None:
        self.device = choose_device(device)
        self._kept: dict[str, _Kept] = {}

    @property
    def device_name(self) -> str:
        """What the user knows the device by."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()

    def avatar(self, path: str) -> Avatar:
        """The avatar of a file, read again when the file has changed. Raises BackendError as load_avatar does."""
        try:
            status = os.stat(path)
        except OSError as error:
            self._kept.pop(path, None)
            raise BackendError(
                "avatar-missing", f"There is no avatar file {path}; choose it again.", str(error)
            ) from None
        stamp = (status.st_mtime_ns, status.st_size)
        kept = self._kept.get(path)
        if kept is None or kept.stamp != stamp:
            avatar = load_avatar(path, self.device)
            if avatar.generator is not None:
                avatar.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            kept = self._kept[path] = _Kept(stamp, avatar)
        return kept.avatar

    def unload(self) -> None:
        """Forgets all avatars and gives the device's memory back."""
        self._kept.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def render(
        self,
        request: RenderRequest,
        out: Mapping[str, npt.NDArray[np.float32]] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> RenderedFrame:
        """Renders one frame.

        out: arrays (height, width, channels) to write the planes into; fresh ones otherwise. cancelled: looked at
        between stages. Raises BackendError: 'cancelled', 'joints-invalid', 'joints-missing', and those of reading
        avatars.
        """
        started = time.perf_counter()
        seconds = {"avatar": 0.0, "network": 0.0, "textures": 0.0, "compose": 0.0}
        layers: list[Layer] = []
        shown: list[AvatarInstance] = []
        warnings: list[str] = []

        def stage(name: str) -> None:
            nonlocal started
            now = time.perf_counter()
            seconds[name] += now - started
            started = now
            if cancelled is not None and cancelled():
                raise BackendError("cancelled", "The render was cancelled.")

        for instance in request.avatars:
            check_instance(instance)
            avatar = self.avatar(instance.path)
            stage("avatar")
            crop = crop_of(avatar, instance.joints, instance.confidence, request.camera, request.detail)
            if crop is None:
                warnings.append(f"{instance.name} is outside the camera's view.")
                continue
            maps = body_maps(avatar, instance.joints, instance.confidence, crop)
            stage("network")
            layer = render_layer(avatar, maps, crop, request.camera)
            stage("textures")
            if layer is not None:
                layers.append(layer)
                shown.append(instance)
        planes = empty_planes(request.planes, request.camera.height, request.camera.width, out)
        write_layers(layers, planes, shown, request.table)
        stage("compose")
        return RenderedFrame(planes, tuple(warnings), seconds)


def check_instance(instance: AvatarInstance) -> None:
    """Raises BackendError when joints are not finite or the trunk is not known."""
    joints = np.asarray(instance.joints)
    known = np.asarray(instance.confidence) > 0
    if not np.isfinite(joints[known]).all() or not np.isfinite(instance.confidence).all():
        raise BackendError(
            "joints-invalid",
            f"{instance.name} has joints that are not numbers; look for a bone of zero or infinite scale.",
        )
    missing = [name for name, i in zip(REQUIRED_JOINTS, _REQUIRED, strict=True) if not known[i]]
    if missing:
        raise BackendError("joints-missing", f"{instance.name} lacks {', '.join(missing)}; map these joints to bones.")


def crop_of(
    avatar: Avatar, joints: npt.ArrayLike, confidence: npt.ArrayLike, camera: Camera, detail: float = 1.0
) -> Camera | None:
    """The virtual camera of an avatar in a frame; None when it is not in view.

    joints: (137, 3); confidence: (137,). detail: size of its picture, as a factor of the network's own.
    """
    scale = float(avatar.scale_of(np.asarray(joints)[None], np.asarray(confidence)[None])[0])
    # At the network's coarsest level more than one pixel must be left to normalise; v2v's has a level more.
    least = 64 if avatar.config.reads_past else 32
    height, width = (max(least, round(side * detail / 16) * 16) for side in avatar.config.size)
    return crop_camera(camera, joints, confidence, (height, width), avatar.body_size * scale)


def render_rgba(
    avatar: Avatar, joints: npt.ArrayLike, confidence: npt.ArrayLike, camera: Camera
) -> npt.NDArray[np.float32]:
    """One avatar as a picture (height, width, 4) float32: straight alpha, display sRGB, top row first.

    joints: (137, 3) world; confidence: (137,). Everything transparent when the body is not in view.
    """
    crop = crop_of(avatar, joints, confidence, camera)
    if crop is None:
        return np.zeros((camera.height, camera.width, 4), np.float32)
    return paint(avatar, body_maps(avatar, joints, confidence, crop), crop, camera)


def paint(avatar: Avatar, maps: BodyMaps, crop: Camera, camera: Camera) -> npt.NDArray[np.float32]:
    """The picture, as of :func:`render_rgba`, of one body's maps that ``crop`` sees."""
    out = np.zeros((camera.height, camera.width, 4), np.float32)
    layer = render_layer(avatar, maps, crop, camera)
    if layer is not None:
        height, width = layer.alpha.shape
        region = out[layer.y : layer.y + height, layer.x : layer.x + width]
        region[..., :3] = layer.rgb.cpu().numpy()
        region[..., 3] = layer.alpha.cpu().numpy()
    return out
