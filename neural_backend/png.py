# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing PNG pictures: sRGB, straight alpha, whole or not at all."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .interface.files import whole

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
#: The text under which a picture says what it was drawn from.
STAMP = "neural-avatar"


def encode_png(picture: npt.ArrayLike, stamp: str = "", compression: int = 4) -> bytes:
    """PNG of a picture (H, W, 3 or 4), float in 0..1 or uint8, display-referred sRGB with straight alpha, top row
    first. stamp: what it was drawn from, see :func:`read_stamp`. compression: 0 to 9, as zlib's."""
    from PIL import Image, PngImagePlugin

    facts = PngImagePlugin.PngInfo()
    facts.add(b"sRGB", b"\0")
    if stamp:
        facts.add_text(STAMP, stamp)
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", pnginfo=facts, compress_level=compression)
    return stream.getvalue()


def write_png(path: Path, picture: npt.ArrayLike, stamp: str = "", compression: int = 4) -> None:
    """Write a picture as encode_png does under a temporary name and rename it, so that a name always stands for a
    whole picture. Raises OSError, and leaves nothing of its own behind then."""
    with whole(path) as temporary:
        temporary.write_bytes(encode_png(picture, stamp, compression))


def read_stamp(path: Path) -> str | None:
    """What a picture was drawn from, '' where it does not say; None where it is no whole PNG. Raises OSError."""
    with path.open("rb") as stream:
        if stream.read(len(_SIGNATURE)) != _SIGNATURE:
            return None
        stamp = ""
        while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
            data = stream.read(struct.unpack(">I", head[:4])[0] + 4)[:-4]
            if head[4:] == b"tEXt" and data.startswith(STAMP.encode() + b"\0"):
                stamp = data.partition(b"\0")[2].decode("latin-1")
        stream.seek(-min(len(_END), os.fstat(stream.fileno()).st_size), os.SEEK_END)
        return stamp if stream.read() == _END else None
