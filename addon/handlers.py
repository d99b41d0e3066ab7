# SPDX-License-Identifier: GPL-3.0-or-later
"""Listening to what Blender tells: its handlers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import bpy

#: Names of lists in bpy.app.handlers, each with what is to be called.
Handlers = Iterable[tuple[str, Callable[..., None]]]


def listen(handlers: Handlers) -> None:
    """Add handlers; lists that this Blender does not have are passed over."""
    for name, handler in handlers:
        if hasattr(bpy.app.handlers, name):
            getattr(bpy.app.handlers, name).append(handler)


def unlisten(handlers: Handlers) -> None:
    """Take them away again, where they are still there."""
    for name, handler in handlers:
        listening: list[Any] = getattr(bpy.app.handlers, name, [])
        if handler in listening:
            listening.remove(handler)
