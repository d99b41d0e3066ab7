# SPDX-License-Identifier: GPL-3.0-or-later
"""How a scene's avatars are rendered: the network's resolution, motion blur's samples, the look under the scene's view
transform. Belongs to the scene as ``scene.neural_avatar_render``."""

from __future__ import annotations

from typing import Any

import bpy


class RenderSettings(bpy.types.PropertyGroup):
    quality: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Network Resolution",
        description="Size of the network's picture, as a factor of the size the avatar was trained at. Time grows "
        "with its square; far from 1 the network sees what it was not trained for",
        default=1.0,
        min=0.25,
        max=4.0,
        soft_min=0.5,
        soft_max=2.0,
        options=set(),
    )
    samples: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Motion Blur Samples",
        description="Moments within the shutter time that are rendered and averaged where the scene's Motion Blur is "
        "on. 1: no motion blur",
        default=8,
        min=1,
        max=256,
        soft_max=32,
        options=set(),
    )
    keep_look: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Keep Avatar's Look",
        description="Give avatars the colours that the scene's view transform (AgX, Filmic…) shows as their own. "
        "Colours that it cannot show, very bright or strong ones, become the nearest that it can",
        default=False,
        options=set(),
    )
    #: On the scene that holds the avatars of a set-up compositing: the scene whose set they join.
    set_scene: bpy.props.PointerProperty(type=bpy.types.Scene, options={"HIDDEN"})  # type: ignore[valid-type]


def retag(group: Any, context: Any) -> None:
    """Let an object's evaluated copies have what a user has just changed."""
    group.id_data.update_tag()


def settings(scene: Any) -> Any:
    """The settings of a scene, original or evaluated."""
    return scene.neural_avatar_render


def displayed_as(scene: Any) -> Any:
    """The original scene through whose view transform a scene's avatars are seen: the set's, where they join one."""
    original = scene.original
    return settings(original).set_scene or original


CLASSES = (RenderSettings,)


def register() -> None:
    """Attach the settings to scenes."""
    bpy.types.Scene.neural_avatar_render = bpy.props.PointerProperty(type=RenderSettings)  # type: ignore[attr-defined, func-returns-value]


def unregister() -> None:
    """Detach the settings; what is stored in files stays there."""
    del bpy.types.Scene.neural_avatar_render  # type: ignore[attr-defined]
