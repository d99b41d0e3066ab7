# SPDX-License-Identifier: GPL-3.0-or-later
"""Preferences: the Python that has PyTorch, and the device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy

#: The extension's root package: what Blender knows the add-on by.
PACKAGE: str = __package__.rpartition(".")[0]


class NeuralAvatarPreferences(bpy.types.AddonPreferences):
    bl_idname = PACKAGE

    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python",
        description="Python that has PyTorch, numpy and safetensors. The environment variable "
        "NEURAL_AVATAR_PYTHON goes before it",
        subtype="FILE_PATH",
        default="",
    )
    device: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Device",
        description="auto, cpu, cuda, cuda:1 or mps. The environment variable NEURAL_AVATAR_DEVICE goes before it",
        default="auto",
    )

    def draw(self, context: bpy.types.Context) -> None:
        from . import ui

        ui.draw_preferences(self)


def preferences() -> Any:
    """The preferences; their defaults where the package runs without being installed as an add-on."""
    context: Any = bpy.context
    addon = context.preferences.addons.get(PACKAGE)
    return addon.preferences if addon is not None and addon.preferences else SimpleNamespace(python="", device="auto")


CLASSES = (NeuralAvatarPreferences,)
