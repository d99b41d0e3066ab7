# SPDX-License-Identifier: GPL-3.0-or-later
"""Bake Pose Clip: what an avatar does in front of the camera, as a file that `neural-avatar render` draws without
Blender. One clip holds one avatar: several that are selected become several clips.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars
from .operators import Outcome

#: Seconds of baking between two looks at the keyboard.
_SLICE = 0.1


def chosen_people(context: Any) -> list[Any]:
    """The selected armatures that carry an avatar; without one the active object, without that the scene's only one."""
    selected = [obj for obj in context.selected_objects if avatars.carries_avatar(obj)]
    if selected:
        return selected
    if context.object is not None and avatars.carries_avatar(context.object):
        return [context.object]
    there = [obj for obj in context.scene.objects if avatars.carries_avatar(obj)]
    return there if len(there) == 1 else []


class NEURAL_AVATAR_OT_bake_clip(bpy.types.Operator):
    """Write what the selected avatars do in front of the camera into files, which render without Blender"""

    bl_idname = "neural_avatar.bake_clip"
    bl_label = "Bake Pose Clip"
    bl_options = {"REGISTER"}  # noqa: RUF012

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Clip", description="Where to write the clip", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    filter_glob: bpy.props.StringProperty(default="*.npz", options={"HIDDEN"})  # type: ignore[valid-type]
    check_existing: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Ask First", description="Do not replace a file that is there", default=True, options={"HIDDEN"}
    )
    frame_start: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Start", description="First frame", options={"SKIP_SAVE"}
    )
    frame_end: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="End", description="Last frame", options={"SKIP_SAVE"}
    )
    step: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Step",
        description="Frames from one picture to the next; 0.5 bakes the frames between too",
        min=0.01,
        soft_min=0.1,
        soft_max=10,
        default=1,
        options={"SKIP_SAVE"},
    )

    _bake: Any
    _timer: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        if not chosen_people(context):
            cls.poll_message_set("Select an armature that carries an avatar")
            return False
        return True

    def invoke(self, context: Any, event: Any) -> Outcome:
        self._fill(context)
        if not self.filepath:
            beside = os.path.splitext(bpy.data.filepath)[0] or "untitled"
            self.filepath = f"{beside}_{bpy.path.clean_name(chosen_people(context)[0].name)}.npz"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> Outcome:
        self._fill(context)
        try:
            self._bake = self._begin(context)
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}
        if bpy.app.background or context.window is None or not self.options.is_invoke:
            return self._finish(context, self._bake_all())
        context.window_manager.progress_begin(0, self._bake.total)
        context.window_manager.modal_handler_add(self)
        self._timer = context.window_manager.event_timer_add(0.01, window=context.window)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> Outcome:
        if event.type == "ESC":
            return self._leave(context, {"CANCELLED"}, "The bake was cancelled; nothing was written.")
        if event.type != "TIMER":
            return {"RUNNING_MODAL"}
        end = time.monotonic() + _SLICE
        try:
            while going_on := self._bake.step():
                if time.monotonic() > end:
                    break
        except BackendError as error:
            return self._leave(context, {"CANCELLED"}, error.message, "ERROR")
        context.window_manager.progress_update(self._bake.done)
        text = f"Baking pose clip: frame {self._bake.done} of {self._bake.total}. Esc cancels"
        context.workspace.status_text_set(text)
        if going_on:
            return {"RUNNING_MODAL"}
        self._clear(context)
        return self._finish(context, "")

    def cancel(self, context: Any) -> None:
        if hasattr(self, "_timer"):
            self._clear(context)
            self._bake.close()

    def _fill(self, context: Any) -> None:
        scene = context.scene
        given = self.properties.is_property_set
        if not given("frame_start"):
            self.frame_start = scene.frame_start
        if not given("frame_end"):
            self.frame_end = scene.frame_end
        if not given("step"):
            self.step = scene.frame_step

    def _begin(self, context: Any) -> Any:
        from .pose_clip import Bake  # Blender's start must not wait for numpy

        if not self.filepath:
            raise BackendError("bake-path", "Choose where the clip is to be written.")
        bake = Bake(context, chosen_people(context), self.frame_start, self.frame_end, self.step, self.filepath)
        # The file browser has asked about the one name that it knows.
        asked = {Path(self.filepath)} if self.options.is_invoke else set()
        there = [str(p) for p in bake.paths.values() if p.exists() and p not in asked]
        if self.check_existing and there:
            raise BackendError(
                "bake-exists", f"{', '.join(there)} is there already: choose another name, or remove it first."
            )
        return bake

    def _bake_all(self) -> str:
        """Bake to the end; returns what went wrong."""
        try:
            while self._bake.step():
                pass
        except BackendError as error:
            return error.message
        return ""

    def _finish(self, context: Any, trouble: str) -> Outcome:
        """Write, and leave the scene as it was."""
        try:
            if not trouble:
                self._bake.write()
        except BackendError as error:
            trouble = error.message
        finally:
            self._bake.close()
        if trouble:
            self.report({"ERROR"}, trouble)
            return {"CANCELLED"}
        names = ", ".join(str(p) for p in self._bake.paths.values())
        self.report({"INFO"}, f"{self._bake.total} frames are in {names}")
        return {"FINISHED"}

    def _leave(self, context: Any, outcome: Outcome, text: str, level: str = "INFO") -> Outcome:
        self._clear(context)
        self._bake.close()
        self.report({level}, text)  # type: ignore[arg-type]
        return outcome

    def _clear(self, context: Any) -> None:
        context.window_manager.event_timer_remove(self._timer)
        context.window_manager.progress_end()
        context.workspace.status_text_set(None)
        del self._timer


def _draw_button(self: Any, context: Any) -> None:
    if context.object is not None and context.object.type == "ARMATURE" and avatars.carries_avatar(context.object):
        self.layout.operator(NEURAL_AVATAR_OT_bake_clip.bl_idname, icon="FILE_TICK")


def _draw_entry(self: Any, context: Any) -> None:
    self.layout.operator(NEURAL_AVATAR_OT_bake_clip.bl_idname)


CLASSES = (NEURAL_AVATAR_OT_bake_clip,)


def register() -> None:
    """Show the operator in the armature's panel and in the Export menu."""
    bpy.types.NEURAL_AVATAR_PT_avatar.append(_draw_button)
    bpy.types.TOPBAR_MT_file_export.append(_draw_entry)


def unregister() -> None:
    """Undo :func:`register`."""
    bpy.types.TOPBAR_MT_file_export.remove(_draw_entry)
    bpy.types.NEURAL_AVATAR_PT_avatar.remove(_draw_button)
