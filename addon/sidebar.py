# SPDX-License-Identifier: GPL-3.0-or-later
"""The 3D view's sidebar tab: the active armature's avatar in short, and the tools."""

from __future__ import annotations

import contextlib
from typing import Any

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars, session, troubles
from .ui import draw_choice, draw_header, draw_troubles
from .widgets import lines, offer, warn


class _Sidebar:
    bl_space_type: Any = "VIEW_3D"
    bl_region_type: Any = "UI"
    bl_category = "Neural Avatar"

    layout: Any


class NEURAL_AVATAR_PT_sidebar(_Sidebar, bpy.types.Panel):
    bl_label = "Avatar"
    bl_order = 0

    def draw(self, context: Any) -> None:
        layout, obj = self.layout, context.object
        try:
            session.python()
        except BackendError as error:
            warn(layout, error.message).operator("neural_avatar.open_preferences")
        if obj is None or obj.type != "ARMATURE":
            lines(layout, "Choose an armature, or add an avatar with its own.", "INFO")
            draw_adding(layout)
            return
        layout.label(text=obj.name, icon="OUTLINER_OB_ARMATURE")
        draw_choice(layout, obj)
        if not obj.neural_avatar.avatar_path:
            return
        with contextlib.suppress(BackendError):  # it is among the troubles
            draw_header(layout, avatars.header(avatars.absolute_path(obj)), short=True)
        draw_troubles(layout, [*troubles.of_object(obj), *troubles.of_scene(context.scene)])


class NEURAL_AVATAR_PT_tools(_Sidebar, bpy.types.Panel):
    bl_label = "Tools"
    bl_order = 20

    def draw(self, context: Any) -> None:
        layout, obj = self.layout, context.object
        if obj is not None and obj.type == "ARMATURE" and obj.neural_avatar.avatar_path:
            column = layout.column(align=True)
            column.operator("neural_avatar.detect_mapping", text="Detect Mapping", icon="FILE_REFRESH").preset = "AUTO"
            own = column.operator("neural_avatar.add_person", text="Import Its Own Armature", icon="ARMATURE_DATA")
            own.filepath = avatars.absolute_path(obj)
            offer(column, "neural_avatar.fit_proportions", icon="MOD_LENGTH")
            offer(column, "neural_avatar.shadow_proxy", icon="MOD_CLOTH")
            offer(column, "neural_avatar.bake_clip", icon="ACTION")
        column = layout.column(align=True)
        offer(column, "neural_avatar.setup_compositing", icon="NODE_COMPOSITING")
        draw_adding(layout)


def draw_adding(layout: Any) -> None:
    """Buttons that add a person."""
    column = layout.column(align=True)
    column.operator("neural_avatar.add_person", text="Add Bundled Avatar", icon="ADD").filepath = ""
    column.operator("neural_avatar.import_person", text="Add Avatar from File…", icon="FILE_FOLDER")


CLASSES = (NEURAL_AVATAR_PT_sidebar, NEURAL_AVATAR_PT_tools)
