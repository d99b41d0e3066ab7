# SPDX-License-Identifier: GPL-3.0-or-later
"""The avatar file's header: all that Blender and `neural-avatar info` need to know of an avatar, read without torch.

An .avatar file is a safetensors file: eight bytes with the length of a JSON object, the object, then the tensors'
bytes. Our facts are one JSON text under ``__metadata__`` / ``neural_avatar``. See docs/file-format.md.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .messages import BackendError
from .skeleton import BODY_BONES, JOINT_COUNT, JOINTS

#: 2 for avatars with view-dependent colour, without residuals, with bones weighted by confidence or of method v2v; 1
#: for all others, which older programs read as well.
FORMAT_VERSION = 2
METADATA_KEY = "neural_avatar"


@dataclass(frozen=True)
class Method:
    """What an avatar's picture comes from.

    textures: colour is read from textures; without, the network gives colour and mask. network: there is one.
    reads_proxy: the network sees the proxy. reads_past: the network sees the frames before.
    """

    textures: bool
    network: bool = True
    reads_proxy: bool = False
    reads_past: bool = False


METHODS: Mapping[str, Method] = {
    "textured-proxy": Method(textures=True, reads_proxy=True),  # residuals over the proxy
    "textured": Method(textures=True),  # the paper's
    "direct": Method(textures=False),  # the paper's ablation
    "direct-proxy": Method(textures=False, reads_proxy=True),
    "v2v": Method(textures=False, reads_past=True),  # video translation
    "static": Method(textures=True, network=False),  # the proxy and its textures
}

#: A JSON header larger than this is not one of ours (the thumbnail is the largest thing in it).
_MAX_HEADER = 16 * 2**20

#: What parsing plain data of the wrong shape may raise.
_DAMAGE = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError)


@dataclass(frozen=True)
class AvatarHeader:
    """Facts about an avatar.

    method, network, texture_size: what is inside, see AvatarConfig. rest_joints: (137, 3) float32 metres, Z up,
    facing -Y; rest_confidence: (137,) float32, 0 where the footage never showed the joint; bone_lengths: (24,)
    metres, order of BODY_BONES; body_size: metres, summed length of trunk and limbs. proxy: ProxyGeometry as plain
    data. license, credit: texts. provenance: how it was made. metrics: figures at export. thumbnail: PNG bytes, may
    be empty.
    """

    method: str
    network: dict[str, Any]
    texture_size: int
    rest_joints: npt.NDArray[np.float32]
    rest_confidence: npt.NDArray[np.float32]
    bone_lengths: npt.NDArray[np.float32]
    body_size: float
    proxy: dict[str, Any]
    name: str = ""
    license: str = ""
    credit: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    thumbnail: bytes = b""
    format_version: int = FORMAT_VERSION
    joint_names: tuple[str, ...] = JOINTS

    def to_metadata(self) -> dict[str, str]:
        """The string-to-string metadata that safetensors stores."""
        plain = {
            "format_version": self.format_version,
            "method": self.method,
            "network": self.network,
            "texture_size": self.texture_size,
            "joint_names": list(self.joint_names),
            "rest_joints": np.round(self.rest_joints.astype(float), 6).tolist(),
            "rest_confidence": np.round(self.rest_confidence.astype(float), 4).tolist(),
            "bone_lengths": np.round(self.bone_lengths.astype(float), 6).tolist(),
            "body_size": self.body_size,
            "proxy": self.proxy,
            "name": self.name,
            "license": self.license,
            "credit": self.credit,
            "provenance": self.provenance,
            "metrics": self.metrics,
            "thumbnail": base64.b64encode(self.thumbnail).decode("ascii"),
        }
        return {METADATA_KEY: json.dumps(plain)}


def parse_metadata(metadata: Any, path: str) -> AvatarHeader:
    """Reads what to_metadata wrote. Raises BackendError 'avatar-corrupt', 'avatar-newer' or
    'avatar-skeleton' that name ``path``."""
    try:
        plain = json.loads(metadata[METADATA_KEY])
        version = int(plain["format_version"])
    except _DAMAGE as error:
        raise BackendError(
            "avatar-corrupt", f"{path} is not an avatar file.", f"{type(error).__name__}: {error}"
        ) from error
    if version > FORMAT_VERSION:
        raise BackendError(
            "avatar-newer",
            f"{path} was made by a newer Neural Avatar (its format is {version}, this one reads {FORMAT_VERSION}); "
            "update the add-on.",
        )
    try:
        if tuple(plain["joint_names"]) != JOINTS:
            raise BackendError(
                "avatar-skeleton",
                f"{path} was made for another skeleton: its joints are not OpenPose's {JOINT_COUNT}; choose another "
                "avatar, or train it anew.",
            )
        if plain["method"] not in METHODS:
            raise ValueError(f"unknown method {plain['method']!r}")
        header = AvatarHeader(
            method=plain["method"],
            network=dict(plain["network"]),
            texture_size=int(plain["texture_size"]),
            rest_joints=_array(plain["rest_joints"], (JOINT_COUNT, 3)),
            rest_confidence=_array(plain["rest_confidence"], (JOINT_COUNT,)),
            bone_lengths=_array(plain["bone_lengths"], (len(BODY_BONES),)),
            body_size=float(plain["body_size"]),
            proxy=dict(plain["proxy"]),
            name=str(plain.get("name", "")),
            license=str(plain.get("license", "")),
            credit=str(plain.get("credit", "")),
            provenance=dict(plain.get("provenance", {})),
            metrics=dict(plain.get("metrics", {})),
            thumbnail=base64.b64decode(plain.get("thumbnail", ""), validate=True),
            format_version=version,
            joint_names=tuple(plain["joint_names"]),
        )
        return header
    except _DAMAGE as error:
        raise BackendError(
            "avatar-corrupt",
            f"The header of {path} is damaged; export the avatar again.",
            f"{type(error).__name__}: {error}",
        ) from error


def _array(value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    array = np.asarray(value, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"an array is {array.shape}, not {shape}, or not finite")
    return array


def read_header(path: str | os.PathLike[str]) -> AvatarHeader:
    """Reads an avatar's header alone: a few milliseconds, whatever the file's size.

    Raises BackendError: 'avatar-missing', 'avatar-corrupt', 'avatar-newer', 'avatar-skeleton'.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise BackendError("avatar-corrupt", f"{file} is not an avatar file, or is cut off.")
            outer = json.loads(stream.read(length).decode("utf-8"))
        ends = [int(e["data_offsets"][1]) for key, e in outer.items() if key != "__metadata__"]
    except FileNotFoundError:
        raise BackendError("avatar-missing", f"There is no avatar file {file}; choose it again.") from None
    except OSError as error:
        raise BackendError("avatar-missing", f"{file} cannot be read: {error.strerror or error}.") from error
    except _DAMAGE as error:
        raise BackendError("avatar-corrupt", f"{file} is not an avatar file.", str(error)) from error
    if max(ends, default=0) + 8 + length > size:
        raise BackendError("avatar-corrupt", f"{file} is cut off; copy it again.")
    return parse_metadata(outer.get("__metadata__"), str(file))
