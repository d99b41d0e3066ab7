# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces that several panels draw."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from ..neural_backend.interface.messages import BackendError
from . import session

#: Unscaled pixels of a letter, about, and of what stands before and after a label.
_LETTER, _MARGIN = 6.8, 72


def letters() -> int:
    """About how many letters fit beside one another in the region that is being drawn."""
    region: Any = bpy.context.region
    if region is None or region.width < 2:
        return 52
    width = region.width / bpy.context.preferences.system.ui_scale
    return max(24, int((width - _MARGIN) / _LETTER))


def lines(layout: Any, text: str, icon: str = "NONE", width: int = 0) -> None:
    """A long sentence as several labels: Blender does not wrap them."""
    column = layout.column(align=True)
    column.scale_y = 0.85
    for i, line in enumerate(textwrap.wrap(text, width or letters()) or [""]):
        column.label(text=line, icon=icon if i == 0 else "BLANK1" if icon != "NONE" else "NONE")


def warn(layout: Any, text: str, width: int = 0) -> Any:
    """A sentence in red; returns the box, for a button that helps."""
    box = layout.box()
    column = box.column()
    column.alert = True
    lines(column, text, "ERROR", width - 3 if width else max(16, letters() - 4))
    return box


def offer(layout: Any, name: str, **options: Any) -> Any:
    """A button of an operator, where that operator exists; returns its properties."""
    group, _, bare = name.partition(".")
    return layout.operator(name, **options) if hasattr(bpy.types, f"{group.upper()}_OT_{bare}") else None


def draw_session(layout: Any, width: int = 0) -> None:
    """The renderer's state, and what can be done about it."""
    try:
        session.python()
        lines(layout, session.status(), "CHECKMARK" if session.is_ready() else "INFO", width)
    except BackendError as error:
        warn(layout, error.message, width).operator("neural_avatar.open_preferences")
    row = layout.row(align=True)
    row.operator("neural_avatar.stop_renderer")
    row.operator("neural_avatar.open_log")
