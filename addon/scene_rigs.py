# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigs whose pose depends on the scene that they are in, where two scenes hold the same ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ..neural_backend.interface.messages import BackendError
from .later import np
from .writing import put, write

#: Custom properties of our own, which are each scene's.
_OURS = "neural_avatar"
#: A pose is another one from this share of the body's size on.
_APART = 1e-3


def bring_properties(scene: Any, people: Any) -> None:
    """Give the scene of the avatars the set's custom properties: drivers may read those of the scene that is evaluated.
    Blender brings animated ones to a frame before it calls those who listen for it."""
    known = {p.identifier for p in scene.bl_rna.properties}
    names = [str(name) for name in scene.keys()]  # noqa: SIM118  (Blender's own kind of mapping)
    found = {name: _plain(scene[name]) for name in names if name not in known and not name.startswith(_OURS)}
    new = {name: value for name, value in found.items() if value is not None and _plain(people.get(name)) != value}
    for name, value in new.items():
        write(lambda name=name, value=value: people.__setitem__(name, value))  # type: ignore[misc]
    if new:
        people.update_tag()


def _plain(value: Any) -> Any:
    """A number, a text or a list of numbers; None for what drivers do not read."""
    if isinstance(value, (bool, int, float, str)):
        return value
    values = value.to_list() if hasattr(value, "to_list") else ()
    return values if values and all(isinstance(v, (bool, int, float)) for v in values) else None


def posed_apart(scene: Any, people: Any) -> list[str]:
    """Names of armatures that the scene of the avatars, at the frame of the set's, poses otherwise than the set's
    does."""
    put(people, "frame_current", scene.frame_current)
    # A layer for once: what is evaluated for it is gone with it.
    layer = people.view_layers.new("Comparison")
    try:
        there = _poses([layer])
    finally:
        people.view_layers.remove(layer)
    here = _poses(one for one in scene.view_layers if one.use)
    both = (key for key in here.keys() & there.keys() if len(here[key]) == len(there[key]))
    return sorted({key[0].name for key in both if any(map(_differ, here[key], there[key]))})


def _poses(layers: Iterable[Any]) -> dict[tuple[Any, Any], list[Any]]:
    """The people of view layers by armature and by what shows them."""
    from . import scene as scenes

    found: dict[tuple[Any, Any], list[Any]] = {}
    for layer in layers:
        layer.update()
        of_layer = defaultdict(list)
        try:
            for shown in scenes.shown_people(layer.depsgraph):
                of_layer[shown.armature, shown.shown_by].append(shown.person)
        except BackendError:  # told by who renders
            continue
        found.update(of_layer)
    return found


def _differ(one: Any, other: Any) -> bool:
    known = (one.confidence > 0) & (other.confidence > 0)
    a, b = one.joints[known], other.joints[known]
    return bool(np.abs(a - b).max(initial=0) > _APART * np.ptp(a, axis=0).max(initial=0))
