# SPDX-License-Identifier: GPL-3.0-or-later
"""The image behind a background picture, made to show a frame of the scene: Blender decodes movies and sequences."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import session
from .writing import on_first_thread, put, write

#: Textures of ours by which Blender is made to decode a given frame: an image's pixels are those of the frame that was
#: looked at last. Each plate has one, which stays with its image: a frame of a film changes one number. They have no
#: user, so that they are never saved.
_PROBE = ".Neural Avatar "
#: Custom property of an image of ours: the full name of the clip that it shows. It has no user but a probe.
_CLIP = "neural_avatar_clip"


def chosen(picture: Any, scene: Any) -> Any:
    """The image or clip that is chosen for a background picture; None for none."""
    if picture.source != "MOVIE_CLIP":
        return picture.image
    return scene.active_clip if picture.use_camera_clip else picture.clip


def image_of(picture: Any, scene: Any, key: str) -> Any:
    """The image behind a background picture, showing the scene's frame; None where there is none.

    key: names the plate among those of its camera.
    """
    frame, source = scene.frame_current, chosen(picture, scene)
    if source is None:
        return None
    if picture.source == "MOVIE_CLIP":
        image = _image_of_clip(source.original)
        if image is None:
            return None
        number = frame - source.frame_start + 1 + source.frame_offset
    else:
        image, number = source.original, _frame_of(picture.image_user, frame)
    if image.source in {"MOVIE", "SEQUENCE"}:
        _look_at(image, number, _PROBE + key)
    return image


def _image_of_clip(clip: Any) -> Any:
    """An image of our own that shows a clip, None where it cannot be read. What images a user has of the same file, and
    in which colours, is none of our business."""
    path = bpy.path.abspath(clip.filepath, library=clip.library)
    image: Any = next((i for i in _images() if i.get(_CLIP) == clip.name_full), None)
    if image is None or bpy.path.abspath(image.filepath) != path:
        image = on_first_thread(lambda: _loaded(path, clip.name_full))
        if image is None:
            return None
    put(image, "source", "MOVIE" if clip.source == "MOVIE" else "SEQUENCE")
    put(image.colorspace_settings, "name", clip.colorspace_settings.name)
    return image


def _loaded(path: str, clip: str) -> Any:
    for image in _images():
        if image.get(_CLIP) == clip:
            bpy.data.images.remove(image)
    _watch()
    try:
        image = bpy.data.images.load(path, check_existing=False)
    except RuntimeError:
        return None
    write(lambda: image.__setitem__(_CLIP, clip))
    put(image, "name", _PROBE + clip)
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
        probe = on_first_thread(lambda: bpy.data.textures.new(name, "IMAGE"))
        _watch()
    put(probe, "image", image)
    user = probe.image_user
    put(user, "use_auto_refresh", False)
    if user.frame_duration < frame:
        put(user, "frame_duration", frame)
    put(user, "frame_current", frame)
    write(lambda: probe.evaluate((0.0, 0.0, 0.0)))


def _watch() -> None:
    """Listen for what is to find nothing of ours in the file."""
    if _before_save not in bpy.app.handlers.save_pre:
        bpy.app.handlers.save_pre.append(_before_save)
    session.at_stop(_forget)


def _images() -> list[Any]:
    images: list[Any] = list(bpy.data.images)
    return [image for image in images if _CLIP in image and image.library is None]


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
    for image in _images() if with_data else ():
        bpy.data.images.remove(image)
