# SPDX-License-Identifier: GPL-3.0-or-later
"""The render passes: one table, and how they are written into Blender's result.

Blender copies a tile twice, into the tile and from there into the whole result, pass by pass. So the tile is only as
large as what can be seen of the avatars, and passes that fill the whole picture go straight into the whole result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.messages import DEPTHS, EMPTY_DEPTH
from . import matte, working_space
from .camera import Region
from .compositor import EDGE_DEPTH
from .render_settings import settings

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
    Pass(EDGE_DEPTH, "edge_depth", 1, "Z", "VALUE"),
    Pass("IndexOB", "index", 1, "X", "VALUE"),
    *(Pass(f"{matte.LAYER}{i:02d}", f"crypto{i}", 4, "RGBA", "COLOR") for i in range(matte.MOST_PASSES)),
)

#: A tile costs twice what the whole result costs for the same pixels: from this share of the picture on, no tile is
#: used.
WHOLE_FROM = 0.4

#: Up to this alpha the renderer gives no colour.
_SEEN = 1 / 1024


def active_passes(scene: Any, view_layer: bpy.types.ViewLayer) -> tuple[Pass, ...]:
    """The passes of a view layer; depth, object index and mattes are there when the view layer asks for them, the depth
    of soft edges where the scene's avatars join another scene's set."""
    left_out = {f"crypto{i}" for i in range(matte.passes_of(view_layer), matte.MOST_PASSES)}
    if not view_layer.use_pass_z:
        left_out.add("depth")
    if not view_layer.use_pass_object_index:
        left_out.add("index")
    if settings(scene).set_scene is None:
        left_out.add("edge_depth")
    return tuple(p for p in PASSES if p.plane not in left_out)


def register(engine: Any, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
    """Tell Blender, and so the compositor, which passes there are."""
    for p in active_passes(scene, view_layer):
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
    names, rows from the bottom up. backdrop: (height, width, 4) scene-linear, premultiplied, for Composite, which is
    drawn into it; None for transparent.
    """
    width, height = size
    whole = Region(0, 0, width, height)
    planes = dict(planes or {})
    if box is not None:
        box, planes = _visible(box, planes, WHOLE_FROM * width * height if box == whole else np.inf)
    if box is not None:
        # The border at which the renderer's light becomes the file's.
        planes["color"] = working_space.converted(planes["color"], working_space.from_rec709())
        planes["composite"] = planes["color"] if backdrop is None else _over(planes["color"], backdrop, box)
    filled: dict[str, Plane] = {}
    if box != whole:
        # Blender fills a new Depth with 1e11.
        empty = np.full((height, width, 1), EMPTY_DEPTH, np.float32)
        for name in DEPTHS:
            filled[name] = empty
            if box is not None and name in planes:
                filled[name] = empty.copy()
                _cut(filled[name], box)[:] = planes[name]
        if backdrop is not None:
            filled["composite"] = backdrop
    tile = box if box is not None and box != whole else Region(0, 0, 1, 1)
    result = engine.begin_result(tile.x, tile.y, tile.width, tile.height, layer=layer)
    try:
        if tile == box:
            _set(result.layers[0], {name: plane for name, plane in planes.items() if name not in filled})
    finally:
        engine.end_result(result)
    _set(next(one for one in engine.get_result().layers if one.name == layer), planes if box == whole else filled)


def _visible(box: Region, planes: dict[str, Plane], enough: float) -> tuple[Region | None, dict[str, Plane]]:
    """The part of the box in which anything can be seen, and the planes there; the whole box where that part has
    ``enough`` pixels."""
    seen = planes["mask"][..., 0] > _SEEN
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if not len(rows):
        return None, {}
    y, height, x, width = int(rows[0]), int(np.ptp(rows)) + 1, int(columns[0]), int(np.ptp(columns)) + 1
    if width * height >= enough:
        return box, planes
    part = Region(x, y, width, height)
    return Region(box.x + x, box.y + y, width, height), {name: _cut(plane, part) for name, plane in planes.items()}


def _set(layer: Any, planes: Mapping[str, Plane]) -> None:
    table = {p.name: p for p in PASSES}
    for p in layer.passes:
        plane = planes.get(table[p.name].plane) if p.name in table else None
        if plane is not None:
            p.rect.foreach_set(np.ascontiguousarray(plane, np.float32).reshape(-1))


def _cut(picture: Plane, box: Region) -> Plane:
    return picture[box.y : box.y + box.height, box.x : box.x + box.width]


def _over(front: Plane, back: Plane, box: Region) -> Plane:
    """Premultiplied alpha over, in place; returns what is in the box."""
    out = _cut(back, box)
    # To multiply by a repeated alpha is twice as fast as by one that numpy has to spread over four channels itself.
    out *= np.repeat(1 - front[..., 3], 4, axis=1).reshape(out.shape)
    out += front
    return out
