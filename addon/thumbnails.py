# SPDX-License-Identifier: GPL-3.0-or-later
"""Thumbnails of avatars as icons. They cannot be drawn from memory, so each is written once beside the log."""

from __future__ import annotations

import hashlib
from typing import Any

import bpy.utils.previews

from ..neural_backend.interface.files import whole
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
        path = session.log_path().parent / f"{name}.png"
        if not path.exists():
            try:
                with whole(path) as temporary:
                    temporary.write_bytes(png)
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
