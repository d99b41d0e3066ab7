# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels, where people look: the armature's data properties, the render properties, the preferences."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars, joints, mapping, operators, session, thumbnails
from .engine import NeuralAvatarEngine


class NEURAL_AVATAR_UL_joints(bpy.types.UIList):
    """Joints of the chosen section; those that are required and have no bone are red."""

    def draw_item(
        self,
        context: Any,
        layout: Any,
        data: Any,
        item: Any,
        icon: Any,
        active_data: Any,
        active_property: Any,
        index: Any = 0,
    ) -> None:  # type: ignore[override]
        bones = data.id_data.data.bones
        row = layout.row(align=True)
        row.alert = bool(item.bone and item.bone not in bones) or (not item.bone and item.joint in mapping.REQUIRED)
        split = row.split(factor=0.4)
        split.label(text=mapping.words(item.joint).capitalize())
        right = split.row(align=True)
        right.prop_search(item, "bone", data.id_data.data, "bones", text="")
        if item.bone:
            right.prop(item, "end", text="")

    def filter_items(self, context: Any, data: Any, property: str) -> tuple[list[int], list[int]]:
        rows = getattr(data, property)
        shown = [self.bitflag_filter_item if mapping.section(r.joint) == data.section else 0 for r in rows]
        return shown, []


class _AvatarPanel:
    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and context.object.type == "ARMATURE"


class NEURAL_AVATAR_PT_avatar(_AvatarPanel, bpy.types.Panel):
    bl_label = "Neural Avatar"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "data"

    layout: Any

    def draw(self, context: Any) -> None:
        layout, obj = self.layout, context.object
        layout.use_property_split = True
        layout.prop(obj.neural_avatar, "avatar_path")
        if not obj.neural_avatar.avatar_path:
            if operators.bundled_avatar():
                layout.operator("neural_avatar.use_bundled")
            return
        try:
            header = avatars.header(avatars.absolute_path(obj))
        except BackendError as error:
            _warn(layout, error.message)
            return
        _draw_header(layout, header)
        if missing := joints.unmapped(obj):
            _warn(layout, f"No bone for: {', '.join(mapping.words(j) for j in missing)}")
        if context.scene.render.engine != NeuralAvatarEngine.bl_idname:
            layout.label(text="The render engine is not Neural Avatar", icon="INFO")


class NEURAL_AVATAR_PT_joints(_AvatarPanel, bpy.types.Panel):
    bl_label = "Joints"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "data"
    bl_parent_id = "NEURAL_AVATAR_PT_avatar"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    def draw(self, context: Any) -> None:
        layout, settings = self.layout, context.object.neural_avatar
        layout.operator_menu_enum("neural_avatar.detect_mapping", "preset", text=settings.preset or "Map Joints")
        layout.row().prop(settings, "section", expand=True)
        layout.template_list("NEURAL_AVATAR_UL_joints", "", settings, "rows", settings, "active_row", rows=8)
        if 0 <= settings.active_row < len(settings.rows):
            layout.use_property_split = True
            layout.prop(settings.rows[settings.active_row], "offset")


class NEURAL_AVATAR_PT_render(bpy.types.Panel):
    bl_label = "Renderer"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES: ClassVar = {NeuralAvatarEngine.bl_idname}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.engine in cls.COMPAT_ENGINES

    layout: Any

    def draw(self, context: Any) -> None:
        draw_session(self.layout)


def draw_session(layout: Any) -> None:
    """The renderer's state, and what can be done about it."""
    try:
        session.python()
        _lines(layout, session.status(), "CHECKMARK" if session.is_ready() else "INFO")
    except BackendError as error:
        _warn(layout, error.message)
    row = layout.row(align=True)
    row.operator("neural_avatar.stop_renderer")
    row.operator("neural_avatar.open_log")


def draw_preferences(preferences: Any) -> None:
    """The add-on's preferences."""
    layout = preferences.layout
    layout.use_property_split = True
    row = layout.row(align=True)
    row.prop(preferences, "python")
    row.operator("neural_avatar.check_python", text="", icon="VIEWZOOM")
    layout.prop(preferences, "device")
    for variable in (session.PYTHON_VARIABLE, session.DEVICE_VARIABLE):
        if os.environ.get(variable):
            layout.label(text=f"{variable} is set to {os.environ[variable]} and goes first", icon="INFO")
    draw_session(layout)


def _draw_header(layout: Any, header: Any) -> None:
    row = layout.row()
    if number := thumbnails.icon(header.thumbnail):
        row.template_icon(icon_value=number, scale=5.0)
    column = row.column(align=True)
    figures = ", ".join(f"{k} {v:.3g}" for k, v in sorted(header.metrics.items()) if isinstance(v, (int, float)))
    facts = (("Licence", header.license), ("Credit", header.credit), ("Figures", figures), ("Method", header.method))
    for title, text in facts:
        if text:
            _lines(column, f"{title}: {text}")


def _warn(layout: Any, text: str) -> None:
    box = layout.box()
    box.alert = True
    _lines(box, text, "ERROR")


def _lines(layout: Any, text: str, icon: str = "NONE", width: int = 52) -> None:
    """A long sentence as several labels: Blender does not wrap them."""
    import textwrap

    column = layout.column(align=True)
    for i, line in enumerate(textwrap.wrap(text, width) or [""]):
        column.label(text=line, icon=icon if i == 0 else "BLANK1" if icon != "NONE" else "NONE")


CLASSES = (NEURAL_AVATAR_UL_joints, NEURAL_AVATAR_PT_avatar, NEURAL_AVATAR_PT_joints, NEURAL_AVATAR_PT_render)

_NOT_OURS = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_freestyle", "RENDER_PT_simplify"}


def _shared_panels() -> list[Any]:
    """Blender's own panels that suit any engine: output, camera, world colour, post processing."""
    return [
        panel
        for panel in bpy.types.Panel.__subclasses__()
        if "BLENDER_RENDER" in getattr(panel, "COMPAT_ENGINES", ()) and panel.__name__ not in _NOT_OURS
    ]


def register() -> None:
    """Show Blender's shared panels, and the entry in the Add menu."""
    for panel in _shared_panels():
        panel.COMPAT_ENGINES.add(NeuralAvatarEngine.bl_idname)
    bpy.types.VIEW3D_MT_armature_add.append(operators.menu_entry)


def unregister() -> None:
    """Undo :func:`register`."""
    for panel in _shared_panels():
        panel.COMPAT_ENGINES.discard(NeuralAvatarEngine.bl_idname)
    bpy.types.VIEW3D_MT_armature_add.remove(operators.menu_entry)
    thumbnails.clear()
