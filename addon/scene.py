# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame needs, read from an evaluated scene: every avatar and the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.codec import DETAIL_RANGE
from ..neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from ..neural_backend.interface.skeleton import INDEX, SIZE_BONES
from . import avatars, camera, joints, look, matte, proportions, visibility
from .render_settings import settings

#: Flesh, hair and clothes reach this far beyond the joints, as a share of the summed lengths of trunk and limbs;
#: fingers further.
_REACH = 0.1


@dataclass(frozen=True)
class Shown:
    """A person of an evaluated scene. armature: whose pose it is. shown_by: the object whose visibility decides, the
    armature itself or what makes instances of it. Both are originals."""

    person: AvatarInstance
    armature: Any
    shown_by: Any


@dataclass(frozen=True)
class Fault:
    """Why somebody of an evaluated scene cannot be shown. shown_by: as of :class:`Shown`."""

    error: BackendError
    shown_by: Any


def avatar_instances(depsgraph: bpy.types.Depsgraph) -> tuple[AvatarInstance, ...]:
    """Every visible armature that carries an avatar, instances of collections too. Raises BackendError."""
    return tuple(shown.person for shown in shown_people(depsgraph))


def shown_people(depsgraph: bpy.types.Depsgraph, faults: list[Fault] | None = None) -> tuple[Shown, ...]:
    """As :func:`avatar_instances`, with the objects behind each. Raises BackendError, unless faults takes those who
    cannot be shown: a render is whole or not there, but a view shows whom it can."""
    found = []
    layer, original = depsgraph.view_layer, depsgraph.scene.original
    for instance in depsgraph.object_instances:
        obj = instance.object
        if obj is None or not avatars.carries_avatar(obj) or (instance.is_instance and not instance.show_self):
            continue
        # What is animated is so in the evaluated copies alone, and what collections say is known of originals.
        shower = instance.parent or obj
        shown_by = shower.original
        if not (obj.visible_camera and shower.visible_camera) or shown_by.indirect_only_get(view_layer=layer):
            continue
        try:
            if obj.is_holdout or shower.is_holdout or visibility.is_holdout(original, layer, shown_by):
                raise BackendError(
                    "holdout",
                    f"'{obj.original.name}' is a holdout, by itself or by its collection, and Neural Avatar draws none:"
                    " turn Holdout off, or hide the armature.",
                )
            person = _person(obj, np.array(instance.matrix_world), depsgraph.scene_eval)
        except BackendError as error:
            if faults is None:
                raise
            faults.append(Fault(error, shown_by))
        else:
            found.append(Shown(person, obj.original, shown_by))
    return tuple(found)


def _person(obj: Any, place: np.ndarray[Any, Any], scene: Any) -> AvatarInstance:
    path = avatars.absolute_path(obj)
    header = avatars.header(path)
    points, confidence = joints.world_joints(obj, header, place)
    points = proportions.fitted(obj, header, points, confidence, place, scene)
    name = obj.original.name
    return AvatarInstance(path, name, points, confidence, look.gain(obj), obj.pass_index, matte.number(name))


def active_camera(depsgraph: bpy.types.Depsgraph, override: bpy.types.Object | None, region: camera.Region) -> Camera:
    """The camera that a render looks through. Raises BackendError 'no-camera' and those of camera.convert."""
    scene: Any = depsgraph.scene_eval
    if scene.render.use_multiview:
        raise BackendError("stereoscopy", "Neural Avatar renders no stereoscopy: turn it off in the output properties.")
    obj = override or scene.camera
    if obj is None:
        raise BackendError(
            "no-camera", f"Scene '{scene.name}' has no camera: add one, or make one active with Ctrl+Numpad 0."
        )
    return camera.convert(obj.evaluated_get(depsgraph), depsgraph, region)


def request(
    view: Camera, people: Sequence[AvatarInstance], planes: Sequence[str], scene: Any, detail: float = 1.0
) -> RenderRequest:
    """A request in a scene's own look and quality, without those of whom nothing is in the picture. detail: a factor of
    the quality, for a preview."""
    low, high = DETAIL_RANGE
    quality = min(max(settings(scene).quality * detail, low), high)
    return RenderRequest(view, in_picture(view, people), tuple(planes), look.table(scene), quality)


def in_range(view: Camera, people: Sequence[AvatarInstance]) -> tuple[AvatarInstance, ...]:
    """Those of whom something may lie before the far end of the camera's range (Clip End)."""

    def nearest(person: AvatarInstance) -> float:
        depth = view.to_camera(person.joints[person.confidence > 0])[:, 2]
        return float(depth.min(initial=np.inf)) - _reach(person)

    # Joints that are no numbers are for the renderer to refuse.
    return tuple(person for person in people if not nearest(person) > view.far)


def _reach(person: AvatarInstance) -> float:
    return _REACH * sum(float(np.linalg.norm(person.joints[a] - person.joints[b])) for a, b in SIZE_BONES)


def in_picture(view: Camera, people: Sequence[AvatarInstance]) -> tuple[AvatarInstance, ...]:
    """Those of whom something may be seen."""
    # Joints that are no numbers are for the renderer to refuse.
    return tuple(p for p in people if not np.isfinite(p.joints).all() or visible_box(view, (p,)) is not None)


def _beside(view: Camera, points: npt.NDArray[np.float64], reach: float) -> bool:
    """Do balls around points (N, 3) lie all on the far side of one edge of the picture?"""
    right, down, one = view.K
    edges = np.stack([right, view.width * one - right, down, view.height * one - down])
    inside = view.to_camera(points) @ (edges / np.linalg.norm(edges, axis=1, keepdims=True)).T
    return bool((inside < -reach).all(0).any())


def visible_box(view: Camera, people: Sequence[AvatarInstance]) -> camera.Region | None:
    """The smallest part of the picture that surely holds all avatars, None where none can be seen.

    Every joint is taken as a ball as large as what may surround it.
    """
    low, high = np.array([np.inf, np.inf]), np.array([-np.inf, -np.inf])
    for person in in_range(view, people):
        points = person.joints[person.confidence > 0].astype(np.float64)
        reach = _reach(person)
        tips = [2 * person.joints[INDEX[f"{s}Wrist"]] - person.joints[INDEX[f"{s}Elbow"]] for s in "LR"]
        points = np.concatenate([points, tips])
        pixels, depth = view.project(points)
        if not view.orthographic:
            if (depth + reach <= view.near).all() or _beside(view, points, reach):
                continue
            if (depth - reach <= view.near).any():
                # A body around the camera may be anywhere in the picture.
                return camera.Region(0, 0, view.width, view.height)
        nearest = np.ones_like(depth) if view.orthographic else depth - reach
        # A ball's outline is wider off the axis: its centre moves by reach * tangent at most.
        slant = 0.0 if view.orthographic else np.abs(view.to_camera(points)[:, :2]) / depth[:, None]
        room = (reach * (1 + slant) / nearest[:, None]) * np.abs(np.diag(view.K)[:2])
        low, high = np.minimum(low, (pixels - room).min(0)), np.maximum(high, (pixels + room).max(0))
    x0, y0 = (int(max(np.floor(v), 0)) for v in np.where(np.isfinite(low), low, 0))
    x1, y1 = (
        int(min(np.ceil(v), size))
        for v, size in zip(np.where(np.isfinite(high), high, 0), (view.width, view.height), strict=True)
    )
    if x1 <= x0 or y1 <= y0:
        return None
    return camera.Region(x0, view.height - y1, x1 - x0, y1 - y0)
