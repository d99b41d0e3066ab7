# SPDX-License-Identifier: GPL-3.0-or-later
"""A playblast with avatars.

Blender's own Viewport Render Animation calls no add-on while it draws (neither draw handlers nor a foreign engine's
view), so this one stands beside it in the View menu: same view, same resolution, same output path.
"""

from __future__ import annotations

from typing import Any

import bpy

from ..neural_backend.interface.messages import BackendError


class NEURAL_AVATAR_OT_playblast(bpy.types.Operator):
    """Write this view, avatars included, for each frame to the output path"""

    bl_idname = "neural_avatar.playblast"
    bl_label = "Viewport Render Animation with Avatars"

    _work: Any = None
    _steps: Any = None
    _pending: Any = None
    _timer: Any = None
    _scene: Any = None
    _before: int = 1

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.area is not None and context.area.type == "VIEW_3D" and context.region_data is not None

    def _begin(self, context: Any) -> None:
        # Loaded when it is needed: Blender's start must not wait for numpy.
        from .preview_frames import Playblast

        scene = self._scene = context.scene
        self._before = scene.frame_current
        first, last = (
            (scene.frame_preview_start, scene.frame_preview_end)
            if scene.use_preview_range
            else (scene.frame_start, scene.frame_end)
        )
        self._work = Playblast(context, range(first, last + 1, scene.frame_step))
        self._steps = self._work.steps()

    def _end(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
        self._steps.close()
        self._work.close()
        self._scene.frame_set(self._before)

    def execute(self, context: Any) -> Any:
        self._begin(context)
        try:
            for _ in self._steps:
                pass
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}
        finally:
            self._end()
        return {"FINISHED"}

    def invoke(self, context: Any, event: Any) -> Any:
        self._begin(context)
        manager = context.window_manager
        self._timer = manager.event_timer_add(0.02, window=context.window)
        manager.progress_begin(0, len(self._work.frames))
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> Any:
        if event.type == "ESC":
            return self._leave(context, {"CANCELLED"})
        if event.type != "TIMER" or (self._pending is not None and not self._pending.poll()):
            return {"RUNNING_MODAL"}
        try:
            self._pending = next(self._steps)
        except StopIteration:
            self.report({"INFO"}, self._work.sentence)
            return self._leave(context, {"FINISHED"})
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return self._leave(context, {"CANCELLED"})
        except Exception:
            # Blender ends the operator and tells of the fault; timer and frame would stay.
            self._leave(context, {"CANCELLED"})
            raise
        context.window_manager.progress_update(len(self._work.written))
        return {"RUNNING_MODAL"}

    def cancel(self, context: Any) -> None:
        """Called by Blender where the window closes or another file is loaded."""
        if self._timer is not None:
            self._leave(context, {"CANCELLED"})

    def _leave(self, context: Any, outcome: Any) -> Any:
        context.window_manager.event_timer_remove(self._timer)
        self._timer = None
        context.window_manager.progress_end()
        self._end()
        return outcome


def menu(panel: Any, context: Any) -> None:
    """The entry in the View menu."""
    panel.layout.separator()
    panel.layout.operator(NEURAL_AVATAR_OT_playblast.bl_idname, icon="RENDER_ANIMATION")
