# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving and loading avatars: safetensors with a JSON header, never pickle."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from .avatar import Avatar, AvatarConfig
from .interface.avatar_header import AvatarHeader, parse_metadata, read_header
from .interface.files import whole
from .interface.messages import BackendError
from .interface.proxy import ProxyGeometry
from .interface.skeleton import bone_lengths
from .network import NetworkConfig


def make_header(
    avatar: Avatar, name: str = "", license: str = "", credit: str = "", thumbnail: bytes = b"",
    provenance: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None,
) -> AvatarHeader:  # fmt: skip
    """The header of an avatar, with what the caller knows of its making."""
    return AvatarHeader(
        method=avatar.config.method,
        network={**asdict(avatar.config.network), "size": list(avatar.config.size), **_later(avatar)},
        texture_size=avatar.config.texture_size,
        rest_joints=avatar.rest_joints.astype(np.float32),
        rest_confidence=avatar.rest_confidence.astype(np.float32),
        bone_lengths=bone_lengths(avatar.rest_joints).astype(np.float32),
        body_size=avatar.body_size,
        proxy=avatar.proxy.to_dict(),
        name=name,
        license=license,
        credit=credit,
        provenance=provenance or {},
        metrics=metrics or {},
        thumbnail=thumbnail,
        format_version=2 if _later(avatar) or avatar.config.reads_past else 1,
    )


def _later(avatar: Avatar) -> dict[str, int | bool]:
    """What format 1 did not have, where it is used."""
    given = {key: getattr(avatar.config, key) for key in ("view_order", "residual", "confidence_weighted")}
    return {key: value for key, value in given.items() if value != getattr(AvatarConfig, key)}


def save_avatar(path: str | os.PathLike[str], avatar: Avatar, header: AvatarHeader | None = None) -> None:
    """Writes an avatar, weights and textures as float16, to a temporary name that is then renamed.

    Raises BackendError 'avatar-unwritable' when the file cannot be written; an older file of that name then stays as
    it was.
    """
    file = Path(path)
    state = avatar.state_dict()
    state.pop("proxy_params")  # the header holds them
    tensors = {k: v.detach().cpu().to(torch.float16).contiguous() for k, v in state.items()}
    data = to_bytes(tensors, (header or make_header(avatar)).to_metadata())
    try:
        with whole(file) as temporary, temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise BackendError("avatar-unwritable", f"{file} cannot be written: {error.strerror or error}.") from error


def load_avatar(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Avatar:
    """Reads an avatar for rendering or as a start for training, in float32, in evaluation mode.

    Raises BackendError: 'avatar-missing', 'avatar-corrupt', 'avatar-newer', 'avatar-skeleton'.
    """
    header = read_header(path)
    try:
        avatar = _build(header)
        with safe_open(str(path), framework="pt", device="cpu") as file:
            parse_metadata(file.metadata(), str(path))
            tensors = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
        avatar.load_state_dict({**tensors, "proxy_params": avatar.proxy_params})
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise BackendError(
            "avatar-corrupt", f"{path} is damaged; copy or export it again.", f"{type(error).__name__}: {error}"
        ) from error
    broken = [k for k, v in tensors.items() if not torch.isfinite(v).all()]
    if broken:
        raise BackendError("avatar-corrupt", f"{path} holds numbers that are not finite; export it again.", broken[0])
    return avatar.to(device).eval()


def _build(header: AvatarHeader) -> Avatar:
    n = header.network
    network = NetworkConfig(tuple(n["channels"]), tuple(n["blocks"]), int(n["kernel"]), bool(n["skips"]))
    height, width = (int(x) for x in n["size"])
    # A few bytes of header must not be able to ask for all memory.
    plausible = (
        len(network.channels) == 5
        and len(network.blocks) == 2
        and all(0 < n <= 512 for n in network.channels)
        and all(0 <= n <= 16 for n in network.blocks)
        and network.kernel in (1, 3, 5, 7)
        and max(height, width, header.texture_size) <= 2048
        and header.texture_size > 1
    )
    if not plausible:
        raise ValueError(
            f"its network {network} of {height}x{width} with textures of {header.texture_size} is implausible"
        )
    view_order = int(n.get("view_order", 0))
    residual = bool(n.get("residual", True))
    weighted = bool(n.get("confidence_weighted", False))
    config = AvatarConfig(header.method, (height, width), network, header.texture_size, view_order, residual, weighted)
    return Avatar(config, header.rest_joints, header.rest_confidence, ProxyGeometry.from_dict(header.proxy))
