# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing PNG pictures: sRGB, straight alpha, whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt


def encode_png(picture: npt.ArrayLike) -> bytes:
    """PNG of a picture (H, W, 3 or 4) float in 0..1, display-referred sRGB with straight alpha, top row first."""
    from PIL import Image, PngImagePlugin

    facts = PngImagePlugin.PngInfo()
    facts.add(b"sRGB", b"\0")
    eight_bit = np.rint(np.clip(np.asarray(picture), 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(eight_bit).save(stream, format="PNG", pnginfo=facts, compress_level=4)
    return stream.getvalue()


def write_png(path: Path, picture: npt.ArrayLike) -> None:
    """Write a picture as encode_png does under a temporary name and rename it, so that a name always stands for a
    whole picture. Raises OSError, and leaves nothing of its own behind then."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(encode_png(picture))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
