# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels in the properties editor: the armature's data and the render properties."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars, compositing, mapping, operators, render_settings, troubles
from .engine import NeuralAvatarEngine
from .widgets import draw_session, letters, lines, offer, warn

#: Letters beside which a thumbnail has room, and letters that it takes.
_BESIDE, _PICTURE = 36, 16


class NEURAL_AVATAR_UL_joints(bpy.types.UIList):
    """Joints of the chosen section, or those that the search finds; what must be filled is red."""

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
        armature = data.id_data.data
        row = layout.row(align=True)
        row.alert = bool(item.bone and item.bone not in armature.bones) or _must_be_filled(data, item)
        split = row.split(factor=0.36)
        split.label(text=mapping.words(item.joint).capitalize())
        right = split.row(align=True)
        right.prop_search(item, "bone", armature, "bones", text="")
        if item.bone:
            end = right.row(align=True)
            end.ui_units_x = 3.2
            end.prop(item, "end", text="")
        right.operator("neural_avatar.pick_bone", text="", icon="RESTRICT_SELECT_OFF").joint = item.joint

    def filter_items(self, context: Any, data: Any, property: str) -> tuple[list[int], list[int]]:
        rows, sought = getattr(data, property), self.filter_name.lower().replace("_", " ")

        def is_shown(row: Any) -> bool:
            if sought:
                return bool(sought in mapping.words(row.joint) or sought in row.bone.lower().replace("_", " "))
            return bool(mapping.section(row.joint) == data.section)

        return [self.bitflag_filter_item if is_shown(r) else 0 for r in rows], []


def _must_be_filled(settings: Any, row: Any) -> bool:
    if row.bone or row.joint not in mapping.REQUIRED:
        return False
    return row.joint in mapping.missing_joints(r.joint for r in settings.rows if r.bone)


class _AvatarPanel:
    bl_space_type: Any = "PROPERTIES"
    bl_region_type: Any = "WINDOW"
    bl_context = "data"

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and context.object.type == "ARMATURE"


class NEURAL_AVATAR_PT_avatar(_AvatarPanel, bpy.types.Panel):
    bl_label = "Neural Avatar"

    def draw(self, context: Any) -> None:
        layout, obj = self.layout, context.object
        draw_choice(layout, obj)
        if not obj.neural_avatar.avatar_path:
            return
        with contextlib.suppress(BackendError):  # it is among the troubles
            draw_header(layout, avatars.header(avatars.absolute_path(obj)))
        draw_troubles(layout, [*troubles.of_object(obj), *troubles.of_scene(context.scene)])
        if context.scene.render.engine != NeuralAvatarEngine.bl_idname and not _joins(context.scene):
            row = layout.row()
            row.label(text="Another render engine is chosen", icon="INFO")
            offer(row, "neural_avatar.setup_compositing", text="Set Up Compositing")


class NEURAL_AVATAR_PT_joints(_AvatarPanel, bpy.types.Panel):
    bl_label = "Joints"
    bl_parent_id = "NEURAL_AVATAR_PT_avatar"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: Any) -> bool:
        return super().poll(context) and bool(context.object.neural_avatar.avatar_path)

    def draw(self, context: Any) -> None:
        layout, obj = self.layout, context.object
        settings = obj.neural_avatar
        layout.enabled = obj.library is None
        row = layout.row(align=True)
        row.operator_menu_enum("neural_avatar.detect_mapping", "preset", text=settings.preset or "Map Joints")
        row.operator("neural_avatar.detect_mapping", text="", icon="FILE_REFRESH").preset = "AUTO"
        if not settings.rows:
            lines(
                layout, "The joints are found by the bones' names in each frame. Map them to choose yourself.", "INFO"
            )
            return
        layout.row().prop(settings, "section", expand=True)
        layout.template_list("NEURAL_AVATAR_UL_joints", "", settings, "rows", settings, "active_row", rows=8)
        if 0 <= settings.active_row < len(settings.rows):
            layout.use_property_split = True
            layout.prop(settings.rows[settings.active_row], "offset")


class NEURAL_AVATAR_PT_render(bpy.types.Panel):
    bl_label = "Neural Avatar"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    COMPAT_ENGINES: ClassVar = {NeuralAvatarEngine.bl_idname}

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        if context.engine in cls.COMPAT_ENGINES:
            return True
        # Views and a set's compositor show avatars beside any engine, and go by these settings.
        scene = context.scene
        return _joins(scene) or avatars.anybody(scene)

    def draw(self, context: Any) -> None:
        layout, scene = self.layout, context.scene
        seen = render_settings.displayed_as(scene)
        draw_troubles(layout, troubles.of_scene(scene))
        if seen != scene:
            lines(layout, f"These are the settings of scene '{seen.name}', whose set the avatars join.", "INFO")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        column.prop(render_settings.settings(seen), "quality", slider=True)
        if _joins(scene) and scene.render.use_motion_blur:
            column.prop(render_settings.settings(scene), "samples")
        draw_session(layout)


class _EnginePanel:
    """What the engine Neural Avatar alone has."""

    bl_space_type: Any = "PROPERTIES"
    bl_region_type: Any = "WINDOW"
    bl_context = "render"
    bl_parent_id = "NEURAL_AVATAR_PT_render"
    bl_options: Any = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.engine == NeuralAvatarEngine.bl_idname)


class NEURAL_AVATAR_PT_motion_blur(_EnginePanel, bpy.types.Panel):
    # Blender has such a panel for each of its own engines, and none for others.
    bl_label = "Motion Blur"

    def draw_header(self, context: Any) -> None:
        self.layout.prop(render_settings.displayed_as(context.scene).render, "use_motion_blur", text="")

    def draw(self, context: Any) -> None:
        layout, scene = self.layout, render_settings.displayed_as(context.scene)
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.active = scene.render.use_motion_blur
        layout.prop(scene.render, "motion_blur_position", text="Position")
        layout.prop(scene.render, "motion_blur_shutter")
        layout.prop(render_settings.settings(scene), "samples", text="Samples")


class NEURAL_AVATAR_PT_plate(_EnginePanel, bpy.types.Panel):
    bl_label = "Plate and Passes"

    def draw(self, context: Any) -> None:
        layout, scene = self.layout, context.scene
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(scene.render, "film_transparent", text="Transparent Film")
        layer = context.view_layer
        passes = layout.column(heading="Passes")
        passes.prop(layer, "use_pass_z", text="Depth")
        for name, text in (("use_pass_object_index", "Object Index"), ("use_pass_cryptomatte_object", "Cryptomatte")):
            passes.prop(layer, name, text=text)
        camera = scene.camera.data if scene.camera is not None else None
        if isinstance(camera, bpy.types.Camera):
            layout.prop(camera, "show_background_images", text="Plate")
            for picture in camera.background_images if camera.show_background_images else ():
                shown = picture.image if picture.source == "IMAGE" else picture.clip
                layout.label(text=shown.name if shown is not None else "No picture", icon="IMAGE_BACKGROUND")
        lines(layout, "A plate is a background picture of the camera: choose it in the camera's properties.", "INFO")


def draw_choice(layout: Any, obj: Any) -> None:
    """The avatar file, and buttons to get one."""
    row = layout.row(align=True)
    row.enabled = obj.library is None
    row.prop(obj.neural_avatar, "avatar_path", text="")
    if not obj.neural_avatar.avatar_path:
        buttons = layout.column(align=True)
        buttons.operator("neural_avatar.add_avatar", text="Add Avatar…", icon="ADD")
        if operators.bundled_avatar():
            buttons.operator("neural_avatar.use_bundled")


def draw_troubles(layout: Any, found: list[troubles.Trouble]) -> None:
    """Sentences in red, each with the button that helps."""
    for trouble in found:
        box = warn(layout, trouble.text)
        if trouble.fix:
            button = box.operator(trouble.fix, text=trouble.label)
            for name, value in trouble.options.items():
                setattr(button, name, value)


def draw_header(layout: Any, header: Any, short: bool = False) -> None:
    """Thumbnail, licence and figures of an avatar file. short: the licence alone."""
    from . import thumbnails

    figures = ", ".join(f"{k} {v:.3g}" for k, v in sorted(header.metrics.items()) if isinstance(v, (int, float)))
    facts = [("Licence", header.license), ("Credit", header.credit), ("Figures", figures), ("Method", header.method)]
    width = letters()
    beside = width >= _BESIDE
    number = thumbnails.icon(header.thumbnail)
    # The picture needs so many letters of the width; a layout would give it half.
    parts = layout.split(factor=min(0.4, _PICTURE / width)) if number and beside else layout
    if number:
        parts.column().template_icon(icon_value=number, scale=4.0 if short else 6.0)
    column = parts.column(align=True)
    for title, text in facts[:1] if short else facts:
        if text:
            lines(column, f"{title}: {text}", width=max(16, width - _PICTURE - 2) if number and beside else width)


def _joins(scene: Any) -> bool:
    """Do the scene's avatars come from another scene, by the compositor?"""
    return compositing.scene_of_avatars(scene) is not None


CLASSES = (
    NEURAL_AVATAR_UL_joints,
    NEURAL_AVATAR_PT_avatar,
    NEURAL_AVATAR_PT_joints,
    NEURAL_AVATAR_PT_render,
    NEURAL_AVATAR_PT_motion_blur,
    NEURAL_AVATAR_PT_plate,
)

_NOT_OURS = {"VIEWLAYER_PT_filter", "VIEWLAYER_PT_layer_passes", "RENDER_PT_freestyle", "RENDER_PT_simplify"}


def _shared_panels() -> list[Any]:
    """Blender's own panels that suit any engine: output, camera, world colour, post processing."""
    return [
        panel
        for panel in bpy.types.Panel.__subclasses__()
        if isinstance(engines := getattr(panel, "COMPAT_ENGINES", None), set)  # others' may be anything
        and "BLENDER_RENDER" in engines
        and panel.__name__ not in _NOT_OURS
    ]


def register() -> None:
    """Show Blender's shared panels, and the entries in the Add menu."""
    for panel in _shared_panels():
        panel.COMPAT_ENGINES.add(NeuralAvatarEngine.bl_idname)
    bpy.types.VIEW3D_MT_armature_add.append(operators.menu_entry)


def unregister() -> None:
    """Undo :func:`register`."""
    from . import thumbnails

    for panel in _shared_panels():
        panel.COMPAT_ENGINES.discard(NeuralAvatarEngine.bl_idname)
    bpy.types.VIEW3D_MT_armature_add.remove(operators.menu_entry)
    thumbnails.clear()
