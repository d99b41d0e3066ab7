# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps relative paths of avatars true when a blend file is saved elsewhere, for other systems, or things are appended
from another.

Blender does this for its own paths, not for an add-on's.
"""

from __future__ import annotations

import os
from typing import Any

import bpy

from . import avatars
from .handlers import listen, unlisten

#: What a save has changed, in case it was the save of a copy or fails: object's name to the path it had.
_before: dict[str, str] = {}


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _save_pre(*arguments: Any) -> None:
    _before.clear()
    target = _target(arguments)
    old, new = os.path.dirname(bpy.data.filepath), os.path.dirname(target)
    known = bool(bpy.data.filepath and target)
    moves = known and os.path.normcase(old) != os.path.normcase(new)
    for obj in _own():
        path = obj.neural_avatar.avatar_path
        absolute = avatars.absolute_path(obj)
        if not path.startswith("//") or not os.path.exists(absolute):
            continue
        obj.neural_avatar.known_at = absolute
        # Where the file stays, what a path itself leads to is spelled for all systems, and nothing else is changed.
        leads = absolute if moves else avatars.resolved(path)
        spelled = avatars.relative(leads, new) if known and os.path.exists(leads) else path
        if spelled != path:
            _before[obj.name] = path
            obj.neural_avatar["avatar_path"] = spelled


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _save_post(*arguments: Any) -> None:
    # The save of a copy leaves the open file where it was.
    if _before and os.path.normpath(bpy.data.filepath) != os.path.normpath(_target(arguments)):
        _restore()
    _before.clear()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _save_post_fail(*_: Any) -> None:
    _restore()


def _restore() -> None:
    for name, path in _before.items():
        bpy.data.objects[name, None].neural_avatar["avatar_path"] = path
    _before.clear()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _import_post(context: Any, *_: Any) -> None:
    """After an append: paths were relative to the file that things come from."""
    for item in context.import_items:
        obj, library = item.id, item.source_library
        if library is None or not isinstance(obj, bpy.types.Object) or obj.library is not None:
            continue
        path = obj.neural_avatar.avatar_path
        if path.startswith("//"):
            absolute = avatars.resolved(path, library)
            if os.path.exists(absolute):
                folder = os.path.dirname(bpy.data.filepath)
                obj.neural_avatar["avatar_path"] = avatars.relative(absolute, folder) if folder else absolute


def _own() -> list[Any]:
    """The armatures whose path to an avatar is this file's to keep."""
    return [
        o
        for o in bpy.data.objects
        if o.library is None and o.type == "ARMATURE" and o.neural_avatar.avatar_path and not _inherits(o)
    ]


def _inherits(obj: Any) -> bool:
    """Whether an override has its avatar from its library: a path of its own would no longer follow that."""
    reference = obj.override_library.reference if obj.override_library else None
    return (
        reference is not None
        and reference.neural_avatar.avatar_path == obj.neural_avatar.avatar_path
        and avatars.absolute_path(reference) == avatars.absolute_path(obj)
    )


def _target(arguments: tuple[Any, ...]) -> str:
    """The file that is being saved, as Blender tells its handlers; '' for a start-up file."""
    return next((a for a in arguments if isinstance(a, str)), "")


#: The last is there from Blender 4.3 on; before, `known_at` leads to the avatar.
_HANDLERS = (
    ("save_pre", _save_pre),
    ("save_post", _save_post),
    ("save_post_fail", _save_post_fail),
    ("blend_import_post", _import_post),
)

CLASSES = ()


def register() -> None:
    """Watch saving and appending."""
    listen(_HANDLERS)


def unregister() -> None:
    """Undo :func:`register`."""
    unlisten(_HANDLERS)
