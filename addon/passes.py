# SPDX-License-Identifier: GPL-3.0-or-later
"""The render passes: one table, and how they are written into Blender's result.

Blender copies a tile twice, into the tile and from there into the whole result, pass by pass. So the tile is only as
large as the avatar, and passes that fill the whole picture go straight into the whole result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.messages import EMPTY_DEPTH
from .camera import Region

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """name: as Blender shows it. plane: the backend's name for it. channels, letters, kind: as Blender wants to be
    told."""

    name: str
    plane: str
    channels: int
    letters: str
    kind: str


COMPOSITE = "Composite"

PASSES: tuple[Pass, ...] = (
    Pass("Combined", "color", 4, "RGBA", "COLOR"),
    Pass("Depth", "depth", 1, "Z", "VALUE"),
    Pass("Mask", "mask", 1, "X", "VALUE"),
    Pass("Part", "part", 1, "X", "VALUE"),
    Pass("UV", "uv", 3, "UVA", "VECTOR"),
    Pass(COMPOSITE, "composite", 4, "RGBA", "COLOR"),
)

#: A tile costs twice what the whole result costs for the same pixels: from this share of the picture on, no tile is
#: used.
WHOLE_FROM = 0.4


def active_passes(view_layer: bpy.types.ViewLayer) -> tuple[Pass, ...]:
    """The passes of a view layer; depth is there when the view layer asks for it."""
    return tuple(p for p in PASSES if p.name != "Depth" or view_layer.use_pass_z)


def register(engine: Any, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
    """Tell Blender, and so the compositor, which passes there are."""
    for p in active_passes(view_layer):
        engine.register_pass(scene, view_layer, p.name, p.channels, p.letters, p.kind)


def write(
    engine: Any,
    layer: str,
    size: tuple[int, int],
    box: Region | None = None,
    planes: Mapping[str, Plane] | None = None,
    backdrop: Plane | None = None,
) -> None:
    """Write a frame of ``size`` (width, height).

    box: where the avatars are, None for nowhere. planes: (box.height, box.width, channels) float32 by the backend's
    names, rows from the bottom up. backdrop: (height, width, 4) scene-linear, premultiplied, for Composite; None for
    transparent.
    """
    width, height = size
    planes = dict(planes or {})
    if box is not None:
        planes["composite"] = planes["color"] if backdrop is None else _over(planes["color"], _cut(backdrop, box))
    whole = Region(0, 0, width, height)
    tile = box if box is not None and box != whole else Region(0, 0, 1, 1)
    result = engine.begin_result(tile.x, tile.y, tile.width, tile.height, layer=layer)
    try:
        if tile == box:
            _set(result.layers[0], planes)
    finally:
        engine.end_result(result)
    if box == whole:
        filled = planes
    else:
        # Blender fills a new Depth with 1e11.
        filled = {"depth": _surround(planes.get("depth"), box, np.full((height, width, 1), EMPTY_DEPTH, np.float32))}
        if backdrop is not None:
            filled["composite"] = _surround(planes.get("composite"), box, backdrop)
    _set(next(one for one in engine.get_result().layers if one.name == layer), filled)


def _set(layer: Any, planes: Mapping[str, Plane]) -> None:
    table = {p.name: p for p in PASSES}
    for p in layer.passes:
        plane = planes.get(table[p.name].plane) if p.name in table else None
        if plane is not None:
            p.rect.foreach_set(np.ascontiguousarray(plane, np.float32).reshape(-1))


def _cut(picture: Plane, box: Region) -> Plane:
    return picture[box.y : box.y + box.height, box.x : box.x + box.width]


def _surround(plane: Plane | None, box: Region | None, around: Plane) -> Plane:
    if plane is None or box is None:
        return around
    out = around.copy()
    out[box.y : box.y + box.height, box.x : box.x + box.width] = plane
    return out


def _over(front: Plane, back: Plane) -> Plane:
    """Premultiplied alpha over."""
    return np.asarray(front + back * (1 - front[..., 3:]), np.float32)
