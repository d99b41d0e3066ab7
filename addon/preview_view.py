# SPDX-License-Identifier: GPL-3.0-or-later
"""A 3D view as the preview's wish. Blender's own projection matrix says everything about lens, zoom, offset and
shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.messages import AvatarInstance
from . import scene as scenes
from .preview_picture import Box, Style, Wish, make_key, make_stand

Matrix = npt.NDArray[np.float64]

_TO_OPENCV = np.diag([1.0, -1.0, -1.0])

_PLAIN = Style()

#: The box is rounded outwards to multiples of this many pixels, so that shared memory is used again.
_STEP = 32


@dataclass(frozen=True)
class View:
    """A 3D view at the moment of a drawing. projection, from_world: (4, 4), Blender's window and view matrix. clip: the
    part that is drawn (render border), None for all of it."""

    width: int
    height: int
    projection: Matrix
    from_world: Matrix
    clip: Box | None = None

    @property
    def orthographic(self) -> bool:
        return bool(abs(self.projection[3, 3]) > 0.5)


def camera_of(view: View, people: Sequence[AvatarInstance] = ()) -> tuple[Camera, float]:
    """The view's camera, and how far it was moved back so that the people are before it (orthographic views only)."""
    p, width, height = view.projection, view.width, view.height
    centre_x, centre_y = (p[0, 3], p[1, 3]) if view.orthographic else (-p[0, 2], -p[1, 2])
    intrinsics = np.array(
        [
            [p[0, 0] * width / 2, 0, (1 + centre_x) * width / 2],
            [0, p[1, 1] * height / 2, (1 - centre_y) * height / 2],
            [0, 0, 1],
        ]
    )
    from_world = _TO_OPENCV @ view.from_world[:3]
    rotation, shift = from_world[:, :3], from_world[:, 3]
    if not view.orthographic:
        near = float(p[2, 3] / (p[2, 2] - 1))
        # Of a range that is a million times as long as it begins far off, single precision has lost the end.
        far = float(p[2, 3] / (p[2, 2] + 1)) if p[2, 2] + 1 < -1e-6 else np.inf
        return Camera(intrinsics, rotation, shift, width, height, False, max(near, 0.0), far), 0.0
    camera = Camera(intrinsics, rotation, shift, width, height, True, 0.0, float((p[2, 3] - 1) / p[2, 2]))
    nearest = min((float(camera.to_camera(a.joints[a.confidence > 0])[:, 2].min()) for a in people), default=0.0)
    size = max((float(np.ptp(a.joints[a.confidence > 0], axis=0).max()) for a in people), default=0.0)
    # In whole steps, so that the key stays the same while the body sways a little.
    step = max(size, 1e-6)
    back = float(np.ceil(max(1.5 * size - nearest, 0.0) / step) * step)
    return replace(camera, t=camera.t + (0.0, 0.0, back), far=camera.far + back), back


def make_wish(view: View, people: tuple[AvatarInstance, ...], style: Style = _PLAIN) -> Wish:
    """What a view is to show."""
    camera, back = camera_of(view, people)
    people = scenes.in_picture(camera, people)
    box = None
    if people:
        region = scenes.visible_box(camera, people)
        box = None if region is None else _rounded(region, view)
    return Wish(make_key(camera, people, box, style), camera, people, box, make_stand(camera, people), back, style)


def depth_terms(view: View) -> tuple[float, float, float]:
    """(a, b, c), so that a point at depth d before the view has the window depth (a d + b) / (d if c else 1), -1 to
    1."""
    p = view.projection
    return -float(p[2, 2]), float(p[2, 3]), 0.0 if view.orthographic else 1.0


def _rounded(region: Any, view: View) -> Box | None:
    low = view.clip or Box(0, 0, view.width, view.height)
    x0, y0 = (max(v // _STEP * _STEP, least) for v, least in ((region.x, low.x), (region.y, low.y)))
    x1 = min(-(-(region.x + region.width) // _STEP) * _STEP, low.x + low.width)
    y1 = min(-(-(region.y + region.height) // _STEP) * _STEP, low.y + low.height)
    return Box(x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None
