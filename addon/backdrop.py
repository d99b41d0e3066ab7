# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Composite pass shows behind the avatars: the camera's background pictures over the film's colour."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from . import plate, plate_frames, session
from .camera import Region, picture_size

Picture = npt.NDArray[np.float32]


def render(
    depsgraph: bpy.types.Depsgraph, override: bpy.types.Object | None, region: Region
) -> tuple[Picture | None, list[Any]]:
    """The backdrop (height, width, 4) of a region, scene-linear, premultiplied, rows from the bottom up; None for a
    transparent one. It may be drawn into, and is the next frame's too. Beside it the images and clips that should be in
    it and cannot be read."""
    scene: Any = depsgraph.scene_eval
    color = film_color(scene)
    fronts, unread = [], []
    for place, picture in enumerate(plate.background_pictures(override or scene.camera)):
        front = plate.draw(picture, scene, picture_size(scene.render), region, f"plate {place}")
        if front is not None:
            fronts.append(front)
        elif (source := plate_frames.chosen(picture, scene)) is not None:
            unread.append(source)
    if color is None and not fronts:
        return None, unread
    out = session.room("backdrop", (region.height, region.width, 4))
    # A row, and then that row many times, is many times as fast as pixel by pixel.
    out[0] = (0.0, 0.0, 0.0, 0.0) if color is None else (*color, 1.0)
    out[1:] = out[0]
    for front in fronts:
        if (front[..., 3] == 1).all():
            np.copyto(out, front)
        else:
            out *= np.repeat(1 - front[..., 3], 4, axis=1).reshape(out.shape)
            out += front
    return out, unread


def film_color(scene: Any) -> tuple[float, float, float] | None:
    """Scene-linear colour of the world as the camera sees it, None for a transparent film.

    A world that is more than one colour (a sky texture, an HDRI) is represented by its viewport colour.
    """
    world = scene.world
    if scene.render.film_transparent or world is None:
        return None
    r, g, b = world.color
    if world.use_nodes and world.node_tree is not None:
        output = world.node_tree.get_output_node("ALL")
        links = output.inputs["Surface"].links if output is not None else ()
        node = links[0].from_node if links else None
        if node is None:
            return 0.0, 0.0, 0.0
        if node.bl_idname == "ShaderNodeBackground" and not any(
            node.inputs[n].is_linked for n in ("Color", "Strength")
        ):
            strength = node.inputs["Strength"].default_value
            r, g, b = (c * strength for c in node.inputs["Color"].default_value[:3])
    return float(r), float(g), float(b)
