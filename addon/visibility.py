# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render of a scene would show, which is not what its 3D views show."""

from __future__ import annotations

from typing import Any

from .render_settings import displayed_as


def renders(scene: Any, obj: Any) -> bool:
    """Would a render of the scene show this object of it, as it is now?"""
    layers = (layer for layer in scene.view_layers if layer.use and meets_camera(layer, obj))
    return not obj.hide_render and any(_renders(layer.layer_collection, obj) for layer in layers)


def meets_camera(layer: Any, obj: Any) -> bool:
    """Does a view layer show an object directly, and not in shadows and reflections alone?"""
    return bool(obj.visible_camera) and not obj.indirect_only_get(view_layer=layer)


def is_holdout(scene: Any, layer: Any, obj: Any) -> bool:
    """Is an object of a scene's view layer there to cut a hole? In a scene that renders a set's avatars it is the set
    that says so: where none of its view layers shows the object as it is."""
    set_scene = displayed_as(scene)
    if obj.is_holdout or set_scene == scene:
        return bool(obj.is_holdout or obj.holdout_get(view_layer=layer))
    layers = [one for one in set_scene.view_layers if one.use and one.objects.get(obj.name) == obj]
    shown = [one for one in layers if meets_camera(one, obj)]
    return bool(shown) and all(obj.holdout_get(view_layer=one) for one in shown)


def _renders(layer_collection: Any, obj: Any) -> bool:
    collection = layer_collection.collection
    if collection.hide_render:
        return False
    if not layer_collection.exclude and any(one == obj for one in collection.objects):
        return True
    # What is excluded says nothing of its children; what is disabled takes them with it.
    return any(_renders(child, obj) for child in layer_collection.children)
