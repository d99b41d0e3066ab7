# SPDX-License-Identifier: GPL-3.0-or-later
"""The 24 textures as one picture, before and after training (the paper's Figure 3)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..neural_backend.interface.proxy import PART_COUNT
from ..neural_backend.png import write_png

COLUMNS = 6
#: Width of the seams between textures, in texels.
SEAM = 4
_SEAM_GREY = 110

#: Files in a run's folder: the textures as training begins and as it ends, and which texels some pixel was assigned to.
START, END, SEEN = "atlas_start.png", "atlas_end.png", "atlas_seen.png"

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def atlas(textures: Tensor, seen: Mask | None = None) -> Image:
    """The textures (24, 3, S, S), display sRGB, as (4 S + seams, 6 S + seams, 3) uint8, part 1 at the top left.

    seen: (24, S, S), False for texels that no pixel was assigned to: they are black, as in the paper.
    """
    tiles = textures.detach().float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    if seen is not None:
        tiles = tiles * seen[..., None]
    return _laid_out(np.rint(tiles * 255).astype(np.uint8))


def _laid_out(tiles: Image) -> Image:
    count, size, channels = PART_COUNT, tiles.shape[1], tiles.shape[3]
    step = size + SEAM
    shape = (count // COLUMNS * step + SEAM, COLUMNS * step + SEAM, channels)
    out = np.full(shape, _SEAM_GREY, np.uint8)
    for k in range(count):
        y, x = SEAM + k // COLUMNS * step, SEAM + k % COLUMNS * step
        out[y : y + size, x : x + size] = tiles[k]
    return out


def write_start(folder: Path, textures: Tensor, seen: Tensor) -> None:
    """Keep how a run's textures begin. textures: (24, 3, S, S); seen: (24, S, S) bool. Raises OSError."""
    known = seen.cpu().numpy()
    write_png(folder / SEEN, _laid_out(np.repeat(known[..., None], 3, 3).astype(np.uint8) * 255))
    write_png(folder / START, atlas(textures, known))


def write_end(folder: Path, textures: Tensor) -> None:
    """Keep how a run's textures end; texels that were never assigned are black here too. Raises OSError."""
    write_png(folder / END, atlas(textures, read_seen(folder, textures.shape[-1])))


def read_seen(folder: Path, size: int) -> Mask | None:
    """Which texels some pixel was assigned to, (24, S, S); None where the run did not keep that for this size."""
    picture = read_picture(folder / SEEN)
    step = size + SEAM
    if picture is None or picture.shape[:2] != (PART_COUNT // COLUMNS * step + SEAM, COLUMNS * step + SEAM):
        return None
    places = [(SEAM + k // COLUMNS * step, SEAM + k % COLUMNS * step) for k in range(PART_COUNT)]
    return np.stack([picture[y : y + size, x : x + size, 0] > 127 for y, x in places])


def read_picture(path: Path) -> Image | None:
    """An 8-bit picture (H, W, 3) RGB; None where there is none that can be read."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    return None if image is None else np.ascontiguousarray(image[..., ::-1], np.uint8)
