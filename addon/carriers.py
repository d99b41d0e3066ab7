# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene must hold for its people to be seen: armatures that carry avatars, and whatever makes instances of them.

Instances are looked for in what the user has set up, not in an evaluated scene: a render has one of its own that no
handler is shown, and crowds are often turned off in viewports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy

from . import avatars

#: Kinds of node sockets that name what may be instanced.
_SOCKETS = {"OBJECT", "COLLECTION"}


def carriers(scene: Any) -> Iterator[Any]:
    """Objects by which the people of a scene's view layers, and of the set behind it, are rendered."""
    search = _Search()
    for layer in scene.view_layers:
        if layer.use:
            found = _in_collection(layer.layer_collection, search)
            # Who is in shadows and reflections alone is in no picture of the avatars.
            yield from (obj for obj in found if not obj.indirect_only_get(view_layer=layer))
    passed, behind = {scene}, scene.background_set
    while behind is not None and behind not in passed:
        # Of a background set Blender shows one view layer.
        layers = [layer for layer in behind.view_layers if layer.use] or behind.view_layers
        yield from _in_collection(layers[0].layer_collection, search)
        passed.add(behind)
        behind = behind.background_set


def anybody(scene: Any) -> bool:
    """Would a render of the scene show anybody at all?"""
    return bool(len(bpy.data.armatures)) and any(True for _ in carriers(scene))


def _in_collection(layer_collection: Any, search: _Search) -> Iterator[Any]:
    if layer_collection.collection.hide_render:
        return
    # What is excluded says nothing of its children.
    for obj in () if layer_collection.exclude else layer_collection.collection.objects:
        if search.finds_avatar(obj):
            yield obj
            # Instances on vertices and faces are made of all that hangs on an object.
            parent = obj.parent
            while parent is not None:
                if parent.instance_type in {"VERTS", "FACES"}:
                    yield parent
                parent = parent.parent
    for child in layer_collection.children:
        yield from _in_collection(child, search)


class _Search:
    """Looks for avatars along what instances what; remembers where there are none."""

    def __init__(self) -> None:
        self._without: set[Any] = set()

    def finds_avatar(self, thing: Any) -> bool:
        """Does an object, a collection or a node group bring an avatar?"""
        seen: set[Any] = set()
        ahead = [thing]
        while ahead:
            one = ahead.pop()
            if one is None or one in seen or one in self._without:
                continue
            if isinstance(one, bpy.types.Object) and avatars.carries_avatar(one):
                return True
            seen.add(one)
            ahead.extend(_instanced(one))
        self._without |= seen
        return False


def _instanced(thing: Any) -> Iterator[Any]:
    """Objects, collections and node groups that one of these shows, or may show: what a modifier or a switch turns off
    counts too, as it may be animated."""
    if isinstance(thing, bpy.types.Collection):
        yield from thing.all_objects
    elif isinstance(thing, bpy.types.NodeTree):
        for node in thing.nodes:
            yield getattr(node, "node_tree", None)
            yield from (socket.default_value for socket in node.inputs if socket.type in _SOCKETS)
    else:
        if thing.instance_type == "COLLECTION":
            yield thing.instance_collection
        for modifier in thing.modifiers:
            if modifier.type == "NODES":
                yield modifier.node_group
                inputs = (modifier[name] for name in modifier.keys())  # noqa: SIM118  (Blender's own kind of mapping)
                yield from (one for one in inputs if isinstance(one, (bpy.types.Object, bpy.types.Collection)))
        for system in thing.particle_systems:
            yield from (system.settings.instance_object, system.settings.instance_collection)
