# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera's background picture as the camera view shows it. Blender decodes; only the placing is done here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from . import plate_frames, session, working_space
from .camera import Region

Picture = npt.NDArray[np.float32]

#: Colour spaces of 8-bit pictures whose light is not Rec.709's. Blender's own light is in pictures of floating point.
_NOT_REC709 = ("Non-Color", "Raw", "ACEScg", "Linear Rec.2020")


def background_pictures(camera: bpy.types.Object | None) -> list[bpy.types.CameraBackgroundImage]:
    """The visible pictures behind what a camera sees, the rearmost first."""
    if camera is None or not isinstance(camera.data, bpy.types.Camera) or not camera.data.show_background_images:
        return []
    return [b for b in camera.data.background_images if b.show_background_image and b.display_depth == "BACK"]


@dataclass(frozen=True)
class Drawn:
    """A picture drawn earlier, and all that it was drawn from: while these are the same, so is the picture."""

    pixels: Picture
    facts: tuple[object, ...]
    picture: Picture


def draw(picture: Any, scene: Any, size: tuple[int, int], region: Region, key: str) -> Picture | None:
    """The picture (height, width, 4) in a region of the whole frame of ``size``, scene-linear, premultiplied; None when
    it cannot be read. Read only.

    key: under which it is kept, so that a still is converted and placed once.
    """
    image = plate_frames.image_of(picture, scene, key)
    pixels = _pixels(image, f"{key} pixels") if image is not None else None
    if image is None or pixels is None:
        return None
    render = scene.render
    aspect = pixels.shape[1] * image.display_aspect[0] / (pixels.shape[0] * image.display_aspect[1])
    frame_aspect = size[0] * render.pixel_aspect_x / (size[1] * render.pixel_aspect_y)
    to_frame = placement(picture, aspect, frame_aspect)
    colors = "" if image.is_float else image.colorspace_settings.name
    space = None if image.is_float or colors.startswith(_NOT_REC709) else working_space.from_rec709()
    light = None if space is None else space.tobytes()
    facts = (size, region, frame_aspect, picture.alpha, to_frame.tobytes(), colors, image.alpha_mode, light)
    kept = session.kept()
    before: Drawn | None = kept.get(key)
    # Blender does not say when an image was loaded again or painted on; to compare its pixels takes no time.
    if before is not None and before.facts == facts and np.array_equal(before.pixels, pixels):
        return before.picture
    pixels = pixels.copy()
    source = pixels if image.is_float else to_scene_linear(pixels, colors, image.alpha_mode)
    source = working_space.converted(source, space)
    rows, columns = pixels.shape[:2]
    # Pixels of the frame → -0.5..0.5 of its longer side → -1..1 of the picture → the picture's pixels.
    width, height = _frame(frame_aspect)
    to_side = np.array([[width / size[0], 0, -width / 2], [0, height / size[1], -height / 2], [0, 0, 1]])
    to_pixels = np.array([[columns / 2, 0, columns / 2], [0, rows / 2, rows / 2], [0, 0, 1]])
    drawn = _resample(source, to_pixels @ np.linalg.inv(to_frame) @ to_side, region)
    if picture.alpha != 1:
        drawn = drawn * np.float32(picture.alpha)
    kept[key] = Drawn(pixels, facts, drawn)
    return drawn


def placement(picture: Any, aspect: float, frame_aspect: float) -> npt.NDArray[np.float64]:
    """(3, 3) from the picture (-1..1 each way) into the camera's frame, whose longer side is 1, as Blender's camera
    view has it."""
    width, height = _frame(frame_aspect)
    wider = aspect > frame_aspect
    if picture.frame_method == "CROP":
        scale = (height * aspect, height) if wider else (width, width / aspect)
    elif picture.frame_method == "FIT":
        scale = (width, width / aspect) if wider else (height * aspect, height)
    else:
        scale = (width, height)
    offset_x = picture.offset[0] * min(1.0, frame_aspect)
    offset_y = picture.offset[1] / (max(1.0, frame_aspect) * (aspect / frame_aspect))
    sx, sy = (
        0.5 * picture.scale * s * (-1 if flip else 1)
        for s, flip in zip(scale, (picture.use_flip_x, picture.use_flip_y), strict=True)
    )
    c, s = np.cos(-picture.rotation), np.sin(-picture.rotation)
    return np.array([[c * sx, -s * sy, offset_x], [s * sx, c * sy, offset_y], [0, 0, 1]])


def _frame(aspect: float) -> tuple[float, float]:
    """Width and height of the camera's frame, whose longer side is 1."""
    return (1.0, 1.0 / aspect) if aspect > 1 else (aspect, 1.0)


def _pixels(image: Any, room: str) -> Picture | None:
    """Blender's pixels of an image (height, width, 4), rows from the bottom up; None when it cannot be read. They lie
    in the session's ``room``."""
    width, height = image.size
    if not width or not height or image.channels == 0:
        return None
    pixels = session.room(room, (height, width, image.channels))
    image.pixels.foreach_get(pixels.reshape(-1))
    if image.channels == 4:
        return pixels
    colors = pixels[..., :3] if image.channels == 3 else pixels[..., :1].repeat(3, -1)
    return np.concatenate([colors, np.ones_like(pixels[..., :1])], -1)


def to_scene_linear(pixels: Picture, colorspace: str, alpha_mode: str) -> Picture:
    """Pixels (..., 4) of an 8-bit picture, straight alpha and in the colours of its file, to scene-linear and
    premultiplied.

    Colour spaces that are neither linear nor data are taken for sRGB.
    """
    out = pixels.copy()
    if not colorspace.startswith(("Linear", "Non-Color", "Raw", "ACEScg")):
        code = np.arange(256) / 255
        table = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype(np.float32)
        out[..., :3] = table[(pixels[..., :3] * 255 + 0.5).astype(np.uint8)]
    if alpha_mode == "NONE":
        out[..., 3] = 1
    elif alpha_mode != "CHANNEL_PACKED" and (out[..., 3] < 1).any():
        out[..., :3] *= out[..., 3:]
    return out


def _resample(source: Picture, matrix: npt.NDArray[np.float64], region: Region) -> Picture:
    """Bilinear; transparent outside. matrix: (3, 3) from the frame's pixels (corners at integers) to the source's."""
    rows, columns = source.shape[:2]
    if (
        np.allclose(matrix, np.eye(3), atol=1e-4)
        and region.x + region.width <= columns
        and region.y + region.height <= rows
    ):
        return source[region.y : region.y + region.height, region.x : region.x + region.width]
    x, y = np.arange(region.width) + region.x + 0.5, np.arange(region.height)[:, None] + region.y + 0.5
    if matrix[0, 1] == 0 == matrix[1, 0]:
        # Not turned: one axis after the other, many times as fast.
        across = _between(source, matrix[0, 0] * x + matrix[0, 2], 1)
        return _between(across, matrix[1, 1] * y[:, 0] + matrix[1, 2], 0)
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
    u, v = np.clip(u - 0.5, 0, columns - 1), np.clip(v - 0.5, 0, rows - 1)
    left, low = u.astype(np.int32), v.astype(np.int32)
    right, high = np.minimum(left + 1, columns - 1), np.minimum(low + 1, rows - 1)
    across, up = ((value - whole)[..., None].astype(np.float32) for value, whole in ((u, left), (v, low)))
    bottom = source[low, left] * (1 - across) + source[low, right] * across
    top = source[high, left] * (1 - across) + source[high, right] * across
    return np.asarray((bottom * (1 - up) + top * up) * inside[..., None], np.float32)


def _between(source: Picture, places: npt.NDArray[np.float64], axis: int) -> Picture:
    """Linear between the pixels of one axis, at places with pixel corners at integers; zero outside."""
    count = source.shape[axis]
    inside = (places >= 0) & (places < count)
    at = np.clip(places - 0.5, 0, count - 1)
    first = at.astype(np.int32)
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    share, shown = ((v.astype(np.float32).reshape(shape)) for v in (at - first, inside))
    out: Picture = source.take(first, axis) * ((1 - share) * shown)
    out += source.take(np.minimum(first + 1, count - 1), axis) * (share * shown)
    return out
