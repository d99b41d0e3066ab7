# SPDX-License-Identifier: GPL-3.0-or-later
"""Thumbnails of avatars as icons. They cannot be drawn from memory, so each is written once beside the log."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import bpy.utils.previews

from . import session

_icons: Any = None


def icon(png: bytes) -> int:
    """Icon number of a PNG, 0 for none."""
    global _icons
    if not png:
        return 0
    if _icons is None:
        _icons = bpy.utils.previews.new()
    name = hashlib.sha256(png).hexdigest()[:24]
    if name not in _icons:
        folder = session.log_path().parent
        path, temporary = folder / f"{name}.png", folder / f"{name}.{os.getpid()}.tmp"
        if not path.exists():
            try:
                temporary.write_bytes(png)
                temporary.replace(path)
            except OSError:
                return 0
        _icons.load(name, str(path), "IMAGE")
    return int(_icons[name].icon_id)


def clear() -> None:
    """Forget all icons."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
    _icons = None
