# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender add-on. Importing it imports no bpy: what knows Blender is loaded by :func:`register`."""

from __future__ import annotations

import atexit
import traceback
from importlib import import_module
from types import ModuleType

#: Modules with classes, in the order of registration: panels after those whose parts they are.
_MODULES = (
    "preferences",
    "properties",
    "relocation",
    "render_settings",
    "operators",
    "fixes",
    "setup.operators",
    "engine",
    "overlay",
    "ui",
    "sidebar",
    "batch",
    "bake",
    "look",
    "proportions",
    "compositing",
    "render_job",
    "failed_frames",
    "shadow",
)


def _modules() -> tuple[ModuleType, ...]:
    return tuple(import_module(f".{name}", __package__) for name in _MODULES)


def register() -> None:
    """Register everything with Blender; where that fails, nothing."""
    import bpy

    # What is still registered when the interpreter ends crashes Blender 4.2 and hangs 4.5, and not every way out of
    # Blender disables its add-ons first.
    atexit.register(unregister, at_exit=True)
    try:
        for module in _modules():
            for cls in module.CLASSES:
                bpy.utils.register_class(cls)
            if hasattr(module, "register"):
                module.register()
    except Exception:
        unregister()
        raise


def unregister(at_exit: bool = False) -> None:
    """Take everything back that is there, and end the backend. at_exit: Python ends, and Blender's data may be gone."""
    import bpy

    from . import session

    atexit.unregister(unregister)
    session.stop(with_data=not at_exit)
    for module in reversed(_modules()):
        classes = [cls for cls in module.CLASSES if getattr(cls, "is_registered", False)]
        if hasattr(module, "unregister") and len(classes) == len(module.CLASSES):
            try:
                module.unregister()
            except Exception:  # whatever else is there must go all the same
                traceback.print_exc()
        for cls in reversed(classes):
            bpy.utils.unregister_class(cls)
