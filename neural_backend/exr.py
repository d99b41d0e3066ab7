# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing OpenEXR pictures: scene-linear, premultiplied, layers named as Blender names them, whole or not at all."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .interface.files import whole
from .interface.messages import BackendError

#: Passes by the names of the command line: Blender's name, the renderer's plane, the channels' letters, and whether
#: half precision is enough (a depth of 1e10 does not fit into it, and a texture's coordinates are finer).
PASSES: dict[str, tuple[str, str, str, bool]] = {
    "combined": ("Combined", "color", "RGBA", True),
    "depth": ("Depth", "depth", "Z", False),
    "mask": ("Mask", "mask", "X", True),
    "part": ("Part", "part", "X", True),
    "uv": ("UV", "uv", "UVA", False),
}
#: The name that Blender gives to a scene's first view layer.
LAYER = "ViewLayer"
#: The attribute in which a picture says what it was drawn from.
STAMP = "neuralAvatar"
_MAGIC = b"\x76\x2f\x31\x01"
#: Flags of the version field that say: tiled, deep, or several parts. We write none of these.
_UNLIKE_OURS = 0x200 | 0x800 | 0x1000
_ZIP, _ZIP_ROWS = 3, 16


def require() -> Any:
    """The library. Raises BackendError 'package-missing'."""
    try:
        import OpenEXR
    except ImportError as error:
        raise BackendError(
            "package-missing",
            'EXR pictures need the Python package OpenEXR: pip install "OpenEXR>=3.3", or choose PNG.',
        ) from error
    return OpenEXR


def write_exr(
    path: Path, planes: Mapping[str, npt.NDArray[np.float32]], passes: tuple[str, ...], full: bool, stamp: str
) -> None:
    """Write planes (H, W, C; bottom row first, as the renderer gives them) under a temporary name and rename it.

    passes: keys of PASSES. full: 32 bits for every channel. One pass alone, the combined one, becomes plain R, G, B, A.
    Raises BackendError 'package-missing', and OSError, leaving nothing of its own behind then.
    """
    library = require()
    channels = {}
    for name in passes:
        blender, plane, letters, half = PASSES[name]
        kind = np.float16 if half and not full else np.float32
        prefix = "" if passes == ("combined",) else f"{LAYER}.{blender}."
        for i, letter in enumerate(letters):
            channels[prefix + letter] = np.ascontiguousarray(planes[plane][::-1, :, i].astype(kind))
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage, STAMP: stamp}
    with whole(path) as temporary:
        try:
            library.File(header, channels).write(str(temporary))
        except (RuntimeError, ValueError) as error:  # the library says no more than that it could not
            raise OSError(f"the picture could not be written ({error})") from error
        if read_stamp(temporary) != stamp:  # it does not always notice a full disk
            raise OSError("the picture was not written whole: is the disk full?")


def read_stamp(path: Path) -> str | None:
    """What a picture was drawn from, '' where it does not say; None where it is no whole EXR. Raises OSError."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(8)
        if len(start) < 8 or start[:4] != _MAGIC:
            return None
        attributes: dict[str, bytes] = {}
        while name := _word(stream):
            _word(stream)
            length = stream.read(4)
            if len(length) < 4 or struct.unpack("<i", length)[0] not in range(size):
                return None
            attributes[name] = stream.read(struct.unpack("<i", length)[0])
        stamp = attributes.get(STAMP, b"").decode("latin-1")
        if not {"compression", "dataWindow"} <= attributes.keys():
            return None
        if struct.unpack("<I", start[4:])[0] & _UNLIKE_OURS or attributes["compression"] != bytes([_ZIP]):
            return stamp  # another program's: its inside is not ours to judge
        if len(attributes["dataWindow"]) != 16:
            return None
        _, top, _, bottom = struct.unpack("<4i", attributes["dataWindow"])
        blocks = -(-(bottom - top + 1) // _ZIP_ROWS)
        table = stream.read(8 * blocks) if 0 < blocks < size else b""
        if blocks < 1 or len(table) < 8 * blocks:
            return None
        places = struct.unpack(f"<{blocks}Q", table)
        for place in (min(places), max(places)):
            stream.seek(min(place, size))
            block = stream.read(8)
            if not place or len(block) < 8 or place + 8 + struct.unpack("<2i", block)[1] > size:
                return None
        return stamp


def _word(stream: Any) -> str:
    """The next word that ends with a zero; '' at the end of a list, or of the file."""
    letters = bytearray()
    while (letter := stream.read(1)) not in (b"", b"\0") and len(letters) < 256:
        letters += letter
    return letters.decode("latin-1")
