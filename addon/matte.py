# SPDX-License-Identifier: GPL-3.0-or-later
"""A matte for each avatar: Cryptomatte's numbers, names and metadata, as its specification (Psyop, 1.2) has them.

Blender's own Cryptomatte node and other programs read the passes ``CryptoObject00`` and on; the node needs the view
layer's Cryptomatte Object switch, which is also what turns the passes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]

#: The layer's name after the view layer's.
LAYER = "CryptoObject"

#: Passes at most, each with two pairs of number and coverage.
MOST_PASSES = 3


def number(name: str) -> int:
    """An object's 32-bit number, the bits of a float that is neither zero, denormal, infinite nor not a number."""
    value = murmur3(name.encode("utf-8"))
    if (value >> 23) & 255 in (0, 255):
        value ^= 1 << 23
    return value


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 (Appleby)."""

    def turned(x: int, by: int) -> int:
        return ((x << by) | (x >> (32 - by))) & 0xFFFFFFFF

    def mixed(k: int) -> int:
        return (turned((k * 0xCC9E2D51) & 0xFFFFFFFF, 15) * 0x1B873593) & 0xFFFFFFFF

    whole = len(data) & ~3
    value = seed
    for i in range(0, whole, 4):
        value = (turned(value ^ mixed(int.from_bytes(data[i : i + 4], "little")), 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    if whole < len(data):
        value ^= mixed(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = ((value ^ (value >> shift)) * factor) & 0xFFFFFFFF
    return value ^ (value >> 16)


def metadata(view_layer: str, names: Iterable[str]) -> dict[str, str]:
    """Fields of the file by which other programs find names for the numbers."""
    layer = f"{view_layer}.{LAYER}"
    start = f"cryptomatte/{murmur3(layer.encode('utf-8')):08x}"[: len("cryptomatte/") + 7]
    manifest = {name: f"{number(name):08x}" for name in names}
    return {
        f"{start}/name": layer,
        f"{start}/hash": "MurmurHash3_32",
        f"{start}/conversion": "uint32_to_float32",
        f"{start}/manifest": json.dumps(manifest, separators=(",", ":"), ensure_ascii=False),
    }


def passes_of(view_layer: Any) -> int:
    """How many passes a view layer asks for."""
    if not view_layer.use_pass_cryptomatte_object:
        return 0
    return min((int(view_layer.pass_cryptomatte_depth) + 1) // 2, MOST_PASSES)


def write_metadata(engine: Any, view_layer: str, names: Iterable[str]) -> None:
    """Put the metadata into what is being rendered."""
    result = engine.get_result()
    for field, value in metadata(view_layer, names).items():
        result.stamp_data_add_field(field, value)


def add(shares: Plane, ids: npt.NDArray[np.uint32], planes: Mapping[str, Plane]) -> None:
    """Add a frame's coverage to ``shares`` (n, h, w), one for each of ``ids`` (n,)."""
    for name, plane in planes.items():
        if name.startswith("crypto"):
            for pair in (0, 2):
                bits = np.ascontiguousarray(plane[..., pair]).view(np.uint32)
                for share, one in zip(shares, ids, strict=True):
                    share += np.where(bits == one, plane[..., pair + 1], np.float32(0))


def ranked(shares: Plane, ids: npt.NDArray[np.uint32], names: Sequence[str]) -> dict[str, Plane]:
    """Planes of pairs of number and coverage, the largest first."""
    order = np.argsort(-shares, 0, kind="stable")[: 2 * len(names)]
    out = {name: np.zeros((*shares.shape[1:], 4), np.float32) for name in names}
    as_float = ids.view(np.float32)
    for k, which in enumerate(order):
        plane, pair = out[names[k // 2]], 2 * (k % 2)
        share = np.take_along_axis(shares, which[None], 0)[0]
        plane[..., pair + 1] = share
        plane[..., pair] = np.where(share > 0, as_float[which], np.float32(0))
    return out
