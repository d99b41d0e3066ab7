# SPDX-License-Identifier: GPL-3.0-or-later
"""The light that Blender works with. The renderer's, and that of pictures in sRGB, is scene-linear Rec.709; a file of
Blender 5 may have Rec.2020 or ACEScg, and any Blender a colour configuration with yet another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mathutils import Color

from .later import np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]


def from_rec709() -> Array | None:
    """The matrix (3, 3) from scene-linear Rec.709 to the open file's light, None where they are the same."""
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    matrix = np.array([Color(axis).from_rec709_linear_to_scene_linear() for axis in axes], np.float32).T
    return None if np.allclose(matrix, np.eye(3), atol=1e-4) else matrix


def converted(picture: Array, matrix: Array | None) -> Array:
    """A picture (..., 3 or more channels) whose light has gone through a matrix; itself for None."""
    if matrix is None:
        return picture
    out = picture.copy()
    out[..., :3] = picture[..., :3] @ matrix.T
    return out
