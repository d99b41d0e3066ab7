# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene's view transform shows, asked of Blender itself.

Blender tells only by pictures that it saves, in the way that a scene says. The scene that says so here is one of our
own, made like the user's and gone again: to change a user's output for a while would lose what depends on it, such as
an overridden view or a movie's codec, and would write the frame that is being rendered in another way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import bpy

from .later import np
from .working_space import converted, from_rec709
from .writing import put

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_NAME = ".Neural Avatar colours"

#: How light is shown, in an order in which each may be set: what can be chosen depends on what was chosen before.
#: Blender 4.2 knows no white balance.
_VIEW = (
    "view_transform", "look", "exposure", "gamma", "use_curve_mapping", "use_white_balance",
    "white_balance_temperature", "white_balance_tint",
)  # fmt: skip
_CURVES = ("black_level", "white_level", "tone", "extend", "use_clip", "clip_min_x", "clip_min_y", "clip_max_x",
           "clip_max_y")  # fmt: skip
#: 16-bit PNG without loss, by the scene's own view transform. Blender 4 knows no media types.
_FILE = (
    ("media_type", "IMAGE"), ("color_management", "FOLLOW_SCENE"), ("file_format", "PNG"), ("color_mode", "RGB"),
    ("color_depth", "16"), ("compression", 0),
)  # fmt: skip


def key(scene: Any) -> tuple[Any, ...] | None:
    """All that decides how a scene's colours are shown; None where they are shown as they are."""
    view = scene.view_settings
    white = (view.white_balance_temperature, view.white_balance_tint) if getattr(view, "use_white_balance", 0) else ()
    curves: tuple[Any, ...] = ()
    if view.use_curve_mapping:
        mapping = view.curve_mapping
        curves = tuple(tuple((*p.location, p.handle_type) for p in c.points) for c in mapping.curves)
        curves += tuple(_plain(getattr(mapping, name)) for name in _CURVES)
    display = scene.display_settings.display_device
    plain = view.view_transform == "Standard" and display == "sRGB" and view.look in ("None", "")
    if plain and view.exposure == 0 and view.gamma == 1 and not white and not curves:
        return None
    space = from_rec709()
    light = None if space is None else space.tobytes()
    return display, view.view_transform, view.look, view.exposure, view.gamma, white, curves, light


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, float, bool)) else tuple(value)


def shown(scene: Any, light: Array) -> Array:
    """What a scene's view transform makes of scene-linear Rec.709 light (N, 3): display colours (N, 3) in 0..1."""
    with showing(scene) as ask:
        return ask(light)


@contextmanager
def showing(scene: Any) -> Iterator[Callable[[Array], Array]]:
    """:func:`shown` of a scene, for asking many times. The scene itself stays as it is."""
    ours = bpy.data.scenes.new(_NAME)
    try:
        _show_alike(ours, scene)
        yield lambda light: _saved(ours, light)
    finally:
        bpy.data.scenes.remove(ours)


def _show_alike(ours: Any, scene: Any) -> None:
    """Let our scene save pictures that look as in another one."""
    put(ours.display_settings, "display_device", scene.display_settings.display_device)
    view, like = ours.view_settings, scene.view_settings
    for name in _VIEW:
        if hasattr(like, name):
            put(view, name, getattr(like, name))
    if like.use_curve_mapping:
        _bend_alike(view.curve_mapping, like.curve_mapping)
    file = ours.render.image_settings
    for name, value in _FILE:
        if hasattr(file, name):
            put(file, name, value)
    put(ours.render, "dither_intensity", 0.0)


def _bend_alike(mapping: Any, like: Any) -> None:
    for name in _CURVES:
        put(mapping, name, getattr(like, name))
    for curve, other in zip(mapping.curves, like.curves, strict=True):
        while len(curve.points) < len(other.points):
            curve.points.new(0.0, 0.0)
        while len(curve.points) > len(other.points):
            curve.points.remove(curve.points[len(curve.points) - 2])
        for point, wanted in zip(curve.points, other.points, strict=True):
            put(point, "location", wanted.location)
            put(point, "handle_type", wanted.handle_type)
    mapping.update()


def _saved(scene: Any, light: Array) -> Array:
    """What a scene saves light (N, 3) as: colours (N, 3) in 0..1."""
    import tempfile

    count = len(light)
    width = int(np.ceil(np.sqrt(count)))
    height = -(-count // width)
    pixels = np.ones((height * width, 4), np.float32)
    pixels[:count, :3] = converted(light.astype(np.float32), from_rec709())
    handle, path = tempfile.mkstemp(".png", "neural_avatar_")
    os.close(handle)
    image: Any = bpy.data.images.new(_NAME, width, height, float_buffer=True)
    back: Any = None
    try:
        image.pixels.foreach_set(pixels.reshape(-1))
        image.save_render(path, scene=scene)
        back = bpy.data.images.load(path)
        put(back.colorspace_settings, "name", "Non-Color")
        out = np.empty(height * width * back.channels, np.float32)
        back.pixels.foreach_get(out)
        return out.reshape(-1, back.channels)[:count, :3].astype(np.float64)
    finally:
        for one in filter(None, (image, back)):
            bpy.data.images.remove(one)
        os.unlink(path)
