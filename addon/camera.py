# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's camera as the interface's. Blender computes its own projection matrix; only the axes are changed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.messages import BackendError

#: Blender's camera looks along -Z with Y up, OpenCV's along Z with Y down.
_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Region:
    """The part of the whole picture that is rendered, in pixels, from the bottom left corner as Blender counts."""

    x: int
    y: int
    width: int
    height: int


def picture_size(render: bpy.types.RenderSettings) -> tuple[int, int]:
    """Width and height of the whole picture in pixels."""
    percentage = render.resolution_percentage
    return max(1, render.resolution_x * percentage // 100), max(1, render.resolution_y * percentage // 100)


def render_region(render: bpy.types.RenderSettings) -> Region:
    """The region that a render fills: the border, or the whole picture. Raises BackendError 'border-empty'."""
    width, height = picture_size(render)
    if not render.use_border:
        return Region(0, 0, width, height)
    # Blender truncates in single precision.
    x0, x1 = (int(np.float32(v) * np.float32(width)) for v in (render.border_min_x, render.border_max_x))
    y0, y1 = (int(np.float32(v) * np.float32(height)) for v in (render.border_min_y, render.border_max_y))
    if x1 <= x0 or y1 <= y0:
        raise BackendError(
            "border-empty",
            "The render border encloses no pixel: draw it again with Ctrl+B in the camera view, or clear it with "
            "Ctrl+Alt+B.",
        )
    return Region(x0, y0, x1 - x0, y1 - y0)


def convert(camera: bpy.types.Object, depsgraph: bpy.types.Depsgraph, region: Region | None = None) -> Camera:
    """A camera object as it looks in this depsgraph's scene, restricted to a region of the picture (None: all of it).

    World axes and unit are the scene's. Raises BackendError 'camera-type' for a camera that is no lens with a flat
    picture, 'camera-broken' when its matrix is not finite or flat.
    """
    data = camera.data
    if not isinstance(data, bpy.types.Camera) or data.type not in {"PERSP", "ORTHO"}:
        raise BackendError(
            "camera-type",
            f"Camera '{camera.name}' is panoramic or no camera: choose Perspective or Orthographic in its lens "
            "settings.",
        )
    scene: Any = depsgraph.scene_eval
    render = scene.render
    width, height = picture_size(render)
    p = np.array(
        camera.calc_matrix_camera(
            depsgraph, x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
        )
    )
    orthographic = data.type == "ORTHO"
    # The rows of the projection give clip coordinates in -1..1; their constant part hangs on depth (perspective) or on
    # nothing.
    centre_x, centre_y = (p[0, 3], p[1, 3]) if orthographic else (-p[0, 2], -p[1, 2])
    intrinsics = np.array(
        [
            [p[0, 0] * width / 2, 0, (1 + centre_x) * width / 2],
            [0, p[1, 1] * height / 2, (1 - centre_y) * height / 2],
            [0, 0, 1],
        ]
    )
    to_world = np.array(camera.matrix_world.normalized())
    if not (np.isfinite(to_world).all() and np.isfinite(intrinsics).all() and abs(np.linalg.det(to_world)) > 1e-9):
        raise BackendError(
            "camera-broken", f"Camera '{camera.name}' has a position, rotation or lens that is not a finite number."
        )
    from_world = _TO_OPENCV @ np.linalg.inv(to_world)[:3]
    whole = Camera(
        intrinsics,
        from_world[:, :3],
        from_world[:, 3],
        width,
        height,
        orthographic,
        near=float(max(data.clip_start, 0.0)),
        far=float(data.clip_end),
    )
    if region is None or (region.width, region.height) == (width, height):
        return whole
    return whole.crop(
        region.x, height - region.y - region.height, region.width, region.height, region.width, region.height
    )
