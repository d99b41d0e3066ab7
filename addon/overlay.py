# SPDX-License-Identifier: GPL-3.0-or-later
"""The avatar over Blender's own shading: Solid, Material Preview and any engine's Rendered view, hidden by the scene's
objects and hiding them, with the bones over it; and the settings of all previews."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import bpy

from . import preview_playblast
from .engine import NeuralAvatarEngine

_handles: list[Any] = []


def _viewport() -> Any:
    """The previews; loaded, with numpy, when there is something to show: Blender's start must not wait for it."""
    from . import viewport

    viewport.start()
    return viewport


def _is_loaded() -> bool:
    return f"{__package__}.viewport" in sys.modules


class PreviewSettings(bpy.types.PropertyGroup):
    """How a scene's avatars are shown in 3D views."""

    show: bpy.props.BoolProperty(
        name="Neural Avatars",
        description="Show avatars in the viewport, in every shading. The Neural Avatar engine's own Rendered view "
        "always shows them",
        default=True,
    )
    show_bones: bpy.props.BoolProperty(
        name="Bones over Avatars", description="Draw the bones over the avatar that they move", default=True
    )
    show_rate: bpy.props.BoolProperty(
        name="Rate", description="Write into the view how many pictures the preview shows each second", default=False
    )
    pause: bpy.props.BoolProperty(
        name="Pause", description="Ask for no new pictures; what is there stays", default=False
    )
    cache_megabytes: bpy.props.IntProperty(
        name="Memory",
        description="Most memory for pictures kept, so that a second playback runs at full rate, in megabytes",
        default=512,
        min=0,
        soft_max=8192,
        max=65536,
    )


def any_avatar() -> bool:
    """Does any armature carry an avatar?"""
    return bool(len(bpy.data.armatures)) and any(
        obj.type == "ARMATURE" and obj.neural_avatar.avatar_path for obj in bpy.data.objects
    )


def is_our_render(context: Any) -> bool:
    """Does the view show our own engine's render?"""
    shading, engine = context.space_data.shading.type, context.scene.render.engine
    return bool(shading == "RENDERED" and engine == NeuralAvatarEngine.bl_idname)


def _draw_avatars() -> None:
    context: Any = bpy.context
    space = context.space_data
    if space is None or space.shading.type == "WIREFRAME" or is_our_render(context):
        return
    settings = getattr(context.scene, "neural_avatar_preview", None)
    if settings is None or not settings.show:
        return
    if not (_is_loaded() or any_avatar()):
        return
    depsgraph = context.evaluated_depsgraph_get()
    view = _viewport().show(context, depsgraph, hidden_by_scene=True)
    if view is None or view.upload is None or not settings.show_bones:
        return
    if space.overlay.show_overlays and space.overlay.show_bones:
        from . import draw_bones

        draw_bones.draw(context, depsgraph)


def _draw_words() -> None:
    """What is wrong, and how fast it goes."""
    context: Any = bpy.context
    settings = getattr(context.scene, "neural_avatar_preview", None)
    if settings is None or not (settings.show or is_our_render(context)):
        return
    view = _viewport().known(context) if _is_loaded() else None
    if view is None:
        return
    from . import draw, session

    error, preview = view.error, view.preview
    scale = context.preferences.system.ui_scale
    region = context.region
    if error is not None:
        lines = textwrap.wrap(f"Neural Avatar: {error.message}", max(int(region.width / (6.5 * scale)), 20))
        draw.text(lines, 20 * scale, (20 + 16 * (len(lines) - 1)) * scale, scale, alert=True)
    elif view.wish is not None and view.wish.box is not None and preview.picture is None and not settings.pause:
        words = session.status() if not session.is_ready() else "Drawing avatar…"
        draw.text([words], 20 * scale, 20 * scale, scale)
    elif settings.pause:
        draw.text(["Avatars paused"], 20 * scale, 20 * scale, scale)
    if settings.show_rate and preview.picture is not None:
        line = f"{preview.rate:.1f} pictures/s · {preview.state.value} · {preview.picture.level:.0%}"
        draw.text([line], 20 * scale, 40 * scale if error is None else region.height - 120 * scale, scale)


class NEURAL_AVATAR_OT_preview_retry(bpy.types.Operator):
    """Try again to show the avatars"""

    bl_idname = "neural_avatar.preview_retry"
    bl_label = "Try Again"

    def execute(self, context: Any) -> Any:
        _viewport().retry()
        return {"FINISHED"}


class NEURAL_AVATAR_OT_preview_clear(bpy.types.Operator):
    """Forget the pictures that the viewport has kept"""

    bl_idname = "neural_avatar.preview_clear"
    bl_label = "Clear"

    def execute(self, context: Any) -> Any:
        _viewport().cache.clear()
        return {"FINISHED"}


class NEURAL_AVATAR_PT_view(bpy.types.Panel):
    bl_label = "Preview"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Neural Avatar"

    layout: Any

    def draw(self, context: Any) -> None:
        layout, settings = self.layout, context.scene.neural_avatar_preview
        layout.use_property_split = True
        layout.use_property_decorate = False
        row = layout.row(align=True)
        row.prop(settings, "show", text="Show", toggle=True, icon="HIDE_OFF" if settings.show else "HIDE_ON")
        row.prop(settings, "pause", text="", icon="PLAY" if settings.pause else "PAUSE")
        layout.prop(settings, "show_bones")
        layout.prop(settings, "show_rate")
        layout.prop(settings, "cache_megabytes")
        if not _is_loaded():
            return
        viewport = _viewport()
        row = layout.row(align=True)
        row.label(text=f"{len(viewport.cache)} pictures, {viewport.cache.size >> 20} MB")
        row.operator("neural_avatar.preview_clear", text="", icon="TRASH")
        for view in viewport.all_views():
            error = view.error
            if error is not None:
                box = layout.box()
                box.alert = True
                for line in textwrap.wrap(error.message, 36):
                    box.label(text=line)
                box.operator("neural_avatar.preview_retry", icon="FILE_REFRESH")
                break


def _popover(panel: Any, context: Any) -> None:
    column = panel.layout.column(align=True)
    column.label(text="Neural Avatar")
    settings = context.scene.neural_avatar_preview
    row = column.row(align=True)
    row.prop(settings, "show")
    row.prop(settings, "show_rate")


CLASSES = (
    PreviewSettings,
    NEURAL_AVATAR_OT_preview_retry,
    NEURAL_AVATAR_OT_preview_clear,
    NEURAL_AVATAR_PT_view,
    preview_playblast.NEURAL_AVATAR_OT_playblast,
)


def register() -> None:
    """Draw into every 3D view; nothing is drawn where there is no window."""
    bpy.types.Scene.neural_avatar_preview = bpy.props.PointerProperty(type=PreviewSettings)
    bpy.types.VIEW3D_PT_overlay.append(_popover)
    bpy.types.VIEW3D_MT_view.append(preview_playblast.menu)
    if not bpy.app.background:
        space = bpy.types.SpaceView3D
        _handles.append(space.draw_handler_add(_draw_avatars, (), "WINDOW", "POST_VIEW"))
        _handles.append(space.draw_handler_add(_draw_words, (), "WINDOW", "POST_PIXEL"))


def unregister() -> None:
    """Undo :func:`register`."""
    while _handles:
        bpy.types.SpaceView3D.draw_handler_remove(_handles.pop(), "WINDOW")
    if _is_loaded():
        _viewport().stop()
    bpy.types.VIEW3D_PT_overlay.remove(_popover)
    bpy.types.VIEW3D_MT_view.remove(preview_playblast.menu)
    del bpy.types.Scene.neural_avatar_preview
