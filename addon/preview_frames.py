# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of a playblast: the viewport as it looks, each with the avatar of that very frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import bpy
import gpu as _gpu
import numpy as np

from ..neural_backend.interface.messages import BackendError
from . import draw, session, viewport
from .camera import picture_size
from .preview import Pending
from .preview_picture import Style, Wish, make_picture
from .preview_view import View, depth_terms, make_wish

#: The type stubs know no constructor of its classes.
gpu: Any = _gpu

_CLIENT = "playblast"
#: Seconds for one frame.
_PATIENCE = 600.0


def matrices(context: Any, size: tuple[int, int]) -> tuple[Any, Any]:
    """View and projection matrix: the camera's in a camera view, else the view's own with the sides' ratio of the
    playblast."""
    data, scene = context.region_data, context.scene
    camera = viewport.camera_of(context)
    if data.view_perspective == "CAMERA" and camera is not None and camera.type == "CAMERA":
        depsgraph = context.evaluated_depsgraph_get()
        seen = camera.evaluated_get(depsgraph)
        projection = seen.calc_matrix_camera(
            depsgraph, x=size[0], y=size[1], scale_x=scene.render.pixel_aspect_x, scale_y=scene.render.pixel_aspect_y
        )
        return seen.matrix_world.normalized().inverted(), projection
    projection = data.window_matrix.copy()
    narrower = (context.region.width / context.region.height) / (size[0] / size[1])
    projection[0][0] *= narrower
    projection[0][2] *= narrower
    projection[0][3] *= narrower
    return data.view_matrix.copy(), projection


class Playblast:
    """One frame after another. context: of a 3D view."""

    def __init__(self, context: Any, frames: range) -> None:
        # The joints are read anew with each frame only where the scene's changes are followed.
        viewport.start()
        self.context, self.frames = context, frames
        self.size = picture_size(context.scene.render)
        self.offscreen = gpu.types.GPUOffScreen(*self.size, format="RGBA16F")
        self.written: list[str] = []

    def steps(self) -> Iterator[Pending | None]:
        """Each step ends where the backend is at work (it gives the request), or a frame is written (None). Raises
        BackendError."""
        for frame in self.frames:
            path = self._path(frame)
            if not self.context.scene.render.use_overwrite and os.path.exists(path):
                continue
            self.context.scene.frame_set(frame)
            depsgraph = self.context.evaluated_depsgraph_get()
            to_view, projection = matrices(self.context, self.size)
            view = View(*self.size, np.array(projection, np.float64), np.array(to_view, np.float64))
            style = Style(self.context.scene.neural_avatar_render.quality)
            wish = make_wish(view, viewport.people_in(self.context, depsgraph), style)
            pending = None
            if wish.box is not None:
                pending = session.session().request(wish.request(1.0), _CLIENT)
                yield pending
            self._write(path, wish, view, (to_view, projection), pending)
            yield None

    @property
    def sentence(self) -> str:
        """What was done."""
        if not self.written:
            return "All pictures are there already, and Overwrite is off in the output properties."
        return f"{len(self.written)} pictures in {os.path.dirname(self.written[-1])}"

    def _write(self, path: str, wish: Wish, view: View, seen: tuple[Any, Any], pending: Any) -> None:
        context = self.context
        self.offscreen.draw_view3d(
            context.scene, context.view_layer, context.space_data, context.region, *seen, do_color_management=True
        )
        with self.offscreen.bind():
            if pending is not None:
                with pending.wait(_PATIENCE) as rendered:
                    picture = make_picture(wish, 1.0, rendered.planes, rendered.seconds)
                at = picture.x, picture.y, picture.width, picture.height
                draw.picture(draw.Upload(picture), at, self.size, depth_terms(view), 1.0, wish.back, power=1.0)
            buffer = gpu.state.active_framebuffer_get().read_color(0, 0, *self.size, 4, 0, "FLOAT")
        buffer.dimensions = self.size[0] * self.size[1] * 4
        self._save(np.array(buffer, np.float32), path)

    def _path(self, frame: int) -> str:
        path = bpy.path.abspath(self.context.scene.render.frame_path(frame=frame))
        stem, end = os.path.splitext(path)
        # Films are left to whoever cuts: a playblast is a row of pictures.
        return path if end.lower() == ".png" else f"{stem if self._is_picture() else stem + f'-{frame:04d}'}.png"

    def _is_picture(self) -> bool:
        return not self.context.scene.render.is_movie_format

    def _save(self, pixels: np.ndarray[Any, Any], path: str) -> None:
        pixels.reshape(-1, 4)[:, 3] = 1
        part = f"{path}.part.png"
        image = bpy.data.images.new(".Neural Avatar playblast", *self.size)
        try:
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            image.pixels.foreach_set(pixels)
            image.filepath_raw, image.file_format = part, "PNG"
            image.save()
            os.replace(part, path)
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                os.remove(part)
            raise BackendError(
                "write-failed",
                f"{path} cannot be written: choose another output path, or free some space on its disk.",
                str(error),
            ) from error
        finally:
            bpy.data.images.remove(image)
        self.written.append(path)

    def close(self) -> None:
        """Give the memory back."""
        self.offscreen.free()
        session.drop_client(_CLIENT)
