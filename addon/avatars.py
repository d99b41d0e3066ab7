# SPDX-License-Identifier: GPL-3.0-or-later
"""Avatar files as the scene names them: where they are, and what their headers say."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import bpy

from ..neural_backend.interface.messages import BackendError

if TYPE_CHECKING:
    from ..neural_backend.interface.avatar_header import AvatarHeader


def carries_avatar(obj: Any) -> bool:
    """Is this an armature with an avatar file set?"""
    return obj.type == "ARMATURE" and bool(obj.original.neural_avatar.avatar_path)


def anybody(scene: Any) -> bool:
    """Whether some object of the scene itself carries an avatar."""
    return any(carries_avatar(obj) for obj in scene.objects)


def absolute_path(obj: Any) -> str:
    """The avatar file of an armature; ``//`` means the folder of the blend file that the armature comes from."""
    original = obj.original
    path: str = original.neural_avatar.avatar_path
    libraries = _libraries(original) if path.startswith("//") else [None]
    places = [resolved(path, library) for library in libraries]
    known = [original.neural_avatar.known_at] if path.startswith("//") else []
    found = next((place for place in (*places, *known) if os.path.exists(place)), "")
    return found or _bundled(places[-1]) or places[-1]


def _libraries(obj: Any) -> list[Any]:
    """The libraries that a path of an armature may be relative to, None for the open file. An override inherits the
    path of its reference, which may be one in turn, or has set one of its own: the first that leads to a file holds."""
    override = obj.override_library
    inherited = _libraries(override.reference) if override and override.reference else []
    return [*inherited, obj.library]


def resolved(path: str, library: Any = None) -> str:
    """The file that a path names; ``//`` means the folder of a library's blend file, else of the open one.

    A file that Windows saved separates folders by ``\\``, which may be part of a name elsewhere: where a file is called
    so, it is meant.
    """
    spellings = (path, bpy.path.native_pathsep(path)) if path.startswith("//") else (path,)
    found = [os.path.normpath(os.path.abspath(bpy.path.abspath(p, library=library))) for p in spellings]
    return found[0] if os.path.exists(found[0]) else found[-1]


def relative(path: str, folder: str) -> str:
    """A file as seen from a folder: ``//`` and separators that every system reads; the path itself where the file is on
    another drive."""
    try:
        return "//" + os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:
        return path


def _bundled(path: str) -> str:
    """The avatar that comes with this installation, where a file names that of another; '' where it does not."""
    folder, name = os.path.split(bpy.path.native_pathsep(path))
    here = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "assets", name)
    return here if os.path.basename(folder) == "assets" and name and os.path.exists(here) else ""


def header(path: str) -> AvatarHeader:
    """The header of an avatar file, read again whenever the file has changed.

    Raises BackendError 'avatar-missing', 'avatar-corrupt', 'avatar-newer'.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise BackendError(
            "avatar-missing",
            f"There is no avatar file '{path}': choose it again in the armature's Neural Avatar panel.",
            str(error),
        ) from error
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _read(path: str, mtime_ns: int, size: int) -> AvatarHeader:
    from ..neural_backend.interface.avatar_header import read_header

    return read_header(path)
