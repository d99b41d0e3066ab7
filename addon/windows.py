# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's windows, as far as 3D views are in them; there are none in the background."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy


def regions() -> Iterator[Any]:
    """Every 3D view's main region in every window."""
    manager = bpy.context.window_manager
    for window in manager.windows if manager is not None else ():
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                yield from (region for region in area.regions if region.type == "WINDOW")


def is_playing() -> bool:
    """Does an animation play in any window?"""
    manager = bpy.context.window_manager
    return manager is not None and any(window.screen.is_animation_playing for window in manager.windows)


def redraw() -> None:
    """Have every 3D view drawn again."""
    for region in regions():
        region.tag_redraw()
