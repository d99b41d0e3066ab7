# SPDX-License-Identifier: GPL-3.0-or-later
"""The image behind a background picture, made to show a frame of the scene: Blender decodes movies and sequences."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import session
from .writing import put, write

#: Textures of ours by which Blender is made to decode a given frame: an image's pixels are those of the frame that was
#: looked at last. Each plate has one, which stays with its image: a frame of a film changes one number. They have no
#: user, so that they are never saved.
_PROBE = ".Neural Avatar "


def image_of(picture: Any, scene: Any, key: str) -> Any:
    """The image behind a background picture, showing the scene's frame; None where there is none.

    key: names the plate among those of its camera.
    """
    frame = scene.frame_current
    if picture.source == "MOVIE_CLIP":
        clip = scene.active_clip if picture.use_camera_clip else picture.clip
        if clip is None:
            return None
        image: Any = bpy.data.images.load(clip.original.filepath, check_existing=True)
        put(image, "source", "MOVIE" if clip.source == "MOVIE" else "SEQUENCE")
        put(image.colorspace_settings, "name", clip.colorspace_settings.name)
        number = frame - clip.frame_start + 1 + clip.frame_offset
    else:
        if picture.image is None:
            return None
        image, number = picture.image.original, _frame_of(picture.image_user, frame)
    if image.source in {"MOVIE", "SEQUENCE"}:
        _look_at(image, number, _PROBE + key)
    return image


def _frame_of(user: Any, frame: int) -> int:
    """The picture's frame at a frame of the scene, by Blender's rule."""
    if not user.use_auto_refresh:
        return int(user.frame_current)
    number, last = frame - user.frame_start + 1, user.frame_duration
    if user.use_cyclic and last > 0:
        number = number % last or last
    return int(min(max(number, 0), last) + user.frame_offset)


def _look_at(image: Any, frame: int, name: str) -> None:
    probe: Any = bpy.data.textures.get(name)
    if probe is None:
        probe = bpy.data.textures.new(name, "IMAGE")
        if _before_save not in bpy.app.handlers.save_pre:
            bpy.app.handlers.save_pre.append(_before_save)
        session.at_stop(_forget)
    put(probe, "image", image)
    user = probe.image_user
    put(user, "use_auto_refresh", False)
    if user.frame_duration < frame:
        put(user, "frame_duration", frame)
    put(user, "frame_current", frame)
    write(lambda: probe.evaluate((0.0, 0.0, 0.0)))


def _probes() -> list[Any]:
    return [t for t in bpy.data.textures if t.name.startswith(_PROBE) and t.type == "IMAGE" and t.library is None]


@persistent  # type: ignore[untyped-decorator]
def _before_save(*_: object) -> None:
    """An image that nobody but a probe uses is not kept by it."""
    for probe in _probes():
        put(probe, "image", None)


def _forget(with_data: bool) -> None:
    """Leave nothing behind, and nothing in the open file."""
    if _before_save in bpy.app.handlers.save_pre:
        bpy.app.handlers.save_pre.remove(_before_save)
    for probe in _probes() if with_data else ():
        bpy.data.textures.remove(probe)
