# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render of a scene would show, which is not what its 3D views show."""

from __future__ import annotations

from typing import Any


def renders(scene: Any, obj: Any) -> bool:
    """Would a render of the scene show this object of it, as it is now?"""
    layers = (layer.layer_collection for layer in scene.view_layers if layer.use)
    return not obj.hide_render and any(_renders(layer, obj) for layer in layers)


def _renders(layer_collection: Any, obj: Any) -> bool:
    collection = layer_collection.collection
    if collection.hide_render:
        return False
    if not layer_collection.exclude and any(one == obj for one in collection.objects):
        return True
    # What is excluded says nothing of its children; what is disabled takes them with it.
    return any(_renders(child, obj) for child in layer_collection.children)
