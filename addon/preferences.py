# SPDX-License-Identifier: GPL-3.0-or-later
"""Preferences: which Python runs the renderer, on which device, and how long it keeps memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bpy

#: The extension's root package: what Blender knows the add-on by.
PACKAGE: str = __package__.rpartition(".")[0]

UNLOAD_MINUTES, STOP_MINUTES = 5, 0

_WHEELS = (
    ("AUTO", "Automatic", "What suits this machine"),
    ("CUDA", "NVIDIA GPU", "PyTorch for CUDA"),
    ("ROCM", "AMD GPU", "PyTorch for ROCm, on Linux"),
    ("MPS", "Apple GPU", "PyTorch for Metal"),
    ("CPU", "CPU", "The smallest download; works everywhere"),
)


def _devices(self: Any, context: Any, text: str) -> list[tuple[str, str]]:
    """What the last self-test found, to choose from; anything else may be typed."""
    from . import session
    from .setup import home

    test = home.tested(session.setup_home())
    found = [name.partition(" ")[::2] for name in (test.devices if test else ())]
    return [("auto", "the fastest"), *((device, name.strip("()")) for device, name in found)]


class NeuralAvatarPreferences(bpy.types.AddonPreferences):
    bl_idname = PACKAGE

    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Existing Python",
        description="Python of your own that has PyTorch, numpy and safetensors, for farms and labs. Empty: the "
        "environment that was set up. The environment variable NEURAL_AVATAR_PYTHON goes before it",
        subtype="FILE_PATH",
        default="",
    )
    device: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Device",
        description="auto, cpu, cuda:0, cuda:1 or mps; the list is what the last test found. The environment variable "
        "NEURAL_AVATAR_DEVICE goes before it",
        default="auto",
        search=_devices,
        search_options={"SUGGESTION"},
    )
    wheels: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="PyTorch for", description="Which build of PyTorch Set Up installs", items=_WHEELS, default="AUTO"
    )
    torch_index: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Package Index",
        description="Address to get PyTorch from instead of its vendor's, such as a mirror in your house. The "
        "environment variable NEURAL_AVATAR_TORCH_INDEX does the same",
        default="",
    )
    unload_minutes: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Give Memory Back After",
        description="Minutes without a frame after which the renderer gives the GPU's memory back; 0 for never",
        default=UNLOAD_MINUTES,
        min=0,
        soft_max=120,
        precision=0,
    )
    stop_minutes: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Stop After",
        description="Minutes without a frame after which the renderer's process ends; the next frame starts it again. "
        "0 for never",
        default=STOP_MINUTES,
        min=0,
        soft_max=240,
        precision=0,
    )

    def draw(self, context: bpy.types.Context) -> None:
        from .setup import panel

        panel.draw_preferences(self)


def preferences() -> Any:
    """The preferences; their defaults where the package runs without being installed as an add-on."""
    context: Any = bpy.context
    addon = context.preferences.addons.get(PACKAGE)
    if addon is not None and addon.preferences:
        return addon.preferences
    return SimpleNamespace(
        python="",
        device="auto",
        wheels="AUTO",
        torch_index="",
        unload_minutes=UNLOAD_MINUTES,
        stop_minutes=STOP_MINUTES,
    )


CLASSES = (NeuralAvatarPreferences,)
