# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine. It only delegates: Blender makes and drops engines as it likes, so nothing of value lives in
one. Each method loads what it needs when it is called: Blender's start must not wait for it."""

from __future__ import annotations

from typing import Any

import bpy


class NeuralAvatarEngine(bpy.types.RenderEngine):
    """Renders the people whom a neural avatar gives to armatures."""

    bl_idname = "NEURAL_AVATAR"
    bl_label = "Neural Avatar"
    bl_use_preview = False
    bl_use_postprocess = True
    bl_use_eevee_viewport = True
    bl_use_shading_nodes_custom = False

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)

    def update_render_passes(self, scene: Any = None, renderlayer: Any = None) -> None:
        from . import passes

        passes.register(self, scene, renderlayer)

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:  # type: ignore[override]
        from . import final

        final.render(self, depsgraph)

    def view_update(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """The scene has changed; the drawing that follows looks for itself."""

    def view_draw(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        from . import viewport

        viewport.start()
        viewport.draw_engine(context, depsgraph)


CLASSES = (NeuralAvatarEngine,)
