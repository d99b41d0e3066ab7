# SPDX-License-Identifier: GPL-3.0-or-later
"""A pose clip in the making: what avatars do in front of the camera, frame by frame, written as CLIP.npz."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import bpy

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.clip_file import ClipFrame, write_clip
from ..neural_backend.interface.messages import AvatarInstance, BackendError
from . import avatars, camera, visibility
from . import scene as our_scene


class Bake:
    """A bake in progress: :meth:`step` bakes one frame, :meth:`write` the files, :meth:`close` leaves the scene as it
    was.

    people: armatures. step: in frames, fractions bake sub-frames. path: of the clip, '.npz' or not; several people's
    names are appended. Raises BackendError 'bake-nobody', 'bake-exists'.
    """

    def __init__(self, context: Any, people: list[Any], first: int, last: int, step: float, path: str) -> None:
        if last < first:
            raise BackendError("bake-range", f"The range ends (frame {last}) before it begins (frame {first}).")
        self._context, self._scene = context, context.scene
        self._names = [obj.name for obj in people]
        self._people = {obj.name: obj for obj in people}
        self._step = Fraction(step).limit_denominator(1000)
        self._times = [first + i * self._step for i in range(int((last - first) / self._step) + 1)]
        self._first = first
        self._frames: dict[str, list[ClipFrame]] = {name: [] for name in self._names}
        self._before = self._scene.frame_current, self._scene.frame_subframe, self._scene.camera
        self._detail = 1.0
        self.paths = {name: _path(path, name if len(people) > 1 else "") for name in self._names}

    @property
    def done(self) -> int:
        """How many frames are baked."""
        return len(next(iter(self._frames.values())))

    @property
    def total(self) -> int:
        return len(self._times)

    def step(self) -> bool:
        """Bake a frame; False when there is none left. Raises BackendError as a render of this frame would."""
        if self.done == self.total:
            return False
        now = self._times[self.done]
        whole = now.numerator // now.denominator
        # Markers switch the camera here too.
        self._scene.frame_set(whole, subframe=float(now - whole))
        depsgraph = self._context.evaluated_depsgraph_get()
        try:
            view = our_scene.active_camera(depsgraph, None, self._region())
            shown = our_scene.shown_people(depsgraph)
            self._detail = our_scene.request(view, (), (), depsgraph.scene_eval).detail
            people = {name: self._rendered(name, shown, view) for name in self._names}
        except BackendError as error:
            raise BackendError(error.code, f"Frame {float(now):g}: {error.message}", error.details) from error
        # Steps of whole frames keep the scene's numbers, so that pictures are called as Blender calls them.
        number = whole if self._step.denominator == 1 else self._first + self.done
        for name, frames in self._frames.items():
            frames.append(_frame(number, view, people[name]))
        return True

    def write(self) -> None:
        """Write the clips. Raises BackendError 'bake-never-seen', 'write-failed'."""
        render = self._scene.render
        fps = render.fps / render.fps_base / float(self._step)
        for name, frames in self._frames.items():
            if all(frame.joints is None for frame in frames):
                raise BackendError(
                    "bake-never-seen",
                    f"'{name}' is hidden from renders, in no collection that they show, or out of the camera's range, "
                    "in all frames.",
                )
        for name, frames in self._frames.items():
            path, avatar = self.paths[name], avatars.absolute_path(self._people[name])
            try:
                write_clip(path, frames, fps, f"{self._scene.name}: {name}", avatar, self._detail)
            except OSError as error:
                raise BackendError("write-failed", f"{path} cannot be written: {error.strerror or error}.") from error

    def close(self) -> None:
        """Leave the scene at the frame, and with the camera, that it had."""
        frame, subframe, seen_through = self._before
        self._scene.frame_set(frame, subframe=subframe)
        self._scene.camera = seen_through

    def _region(self) -> camera.Region:
        """The picture that is saved: a border that does not crop only saves time."""
        render = self._scene.render
        if render.use_border and render.use_crop_to_border:
            return camera.render_region(render)
        return camera.Region(0, 0, *camera.picture_size(render))

    def _rendered(self, name: str, shown: tuple[our_scene.Shown, ...], view: Camera) -> AvatarInstance | None:
        """The person as a render of this frame would show it, None where it would not. Poses are those of the view's
        evaluated scene, whose own visibility is another matter. Raises BackendError 'bake-hidden'."""
        obj = self._people[name]
        if obj.hide_render:
            return None
        if visibility.renders(self._scene, obj):
            own = next((s.person for s in shown if s.shown_by == obj), None)
            if own is None:
                raise BackendError(
                    "bake-hidden",
                    f"A render shows '{name}', but this view layer does not, so its pose is not known: show it, with "
                    "the eye and the screen in the Outliner, while the clip is baked.",
                )
            return next(iter(our_scene.in_range(view, (own,))), None)
        instances = (s for s in shown if s.armature == obj and s.shown_by != obj)
        people = (s.person for s in instances if visibility.renders(self._scene, s.shown_by))
        return next(iter(our_scene.in_range(view, tuple(people))), None)


def _frame(number: int, view: Any, person: AvatarInstance | None) -> ClipFrame:
    if person is None:
        return ClipFrame(number, view, None, None)
    return ClipFrame(number, view, person.joints, person.confidence, person.gain)


def _path(path: str, name: str) -> Path:
    absolute = Path(os.path.abspath(bpy.path.abspath(path)))
    stem = absolute.stem if absolute.suffix.lower() == ".npz" else absolute.name
    return absolute.with_name(f"{stem}{'_' + bpy.path.clean_name(name) if name else ''}.npz")
