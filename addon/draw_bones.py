# SPDX-License-Identifier: GPL-3.0-or-later
"""The bones over an avatar. Blender has drawn its own bones by then, and the avatar covers them: their outlines are
drawn once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import gpu
import numpy as np
import numpy.typing as npt
from gpu_extras.batch import batch_for_shader

from . import avatars

Lines = npt.NDArray[np.float32]

#: The octahedron that Blender draws for a bone, along Y with length 1, and its edges.
_CORNERS = np.array(
    [[0, 0, 0], [0.1, 0.1, 0.1], [0.1, 0.1, -0.1], [-0.1, 0.1, -0.1], [-0.1, 0.1, 0.1], [0, 1, 0]], np.float32
)
_EDGES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1], [5, 1], [5, 2], [5, 3], [5, 4]])
_STICK = np.array([[0, 5]])
_OCTAHEDRON = _CORNERS[_EDGES.reshape(-1)]
_LINE = _CORNERS[_STICK.reshape(-1)]


def draw(context: Any, depsgraph: Any) -> None:
    """Draw the bones of every armature of the view that carries an avatar; those not set In Front are hidden by the
    scene's objects, as Blender does."""
    theme = context.preferences.themes[0].view_3d
    for obj in context.visible_objects:
        if not avatars.carries_avatar(obj) or not obj.visible_in_viewport_get(context.space_data):
            continue
        evaluated = obj.evaluated_get(depsgraph)
        groups = _groups(evaluated, obj, context)
        gpu.state.depth_test_set("NONE" if obj.show_in_front else "LESS_EQUAL")
        gpu.state.blend_set("ALPHA")
        gpu.state.line_width_set(2.0 * context.preferences.system.ui_scale)
        try:
            posing = obj.mode == "POSE"
            colors = {
                "active": theme.bone_pose_active,
                "selected": theme.bone_pose if posing else theme.object_active,
                "plain": theme.bone_solid if posing else theme.wire,
            }
            shader = gpu.shader.from_builtin("UNIFORM_COLOR")
            for name, lines in groups.items():
                if len(lines):
                    shader.uniform_float("color", (*_linear(colors[name]), 1.0))
                    batch_for_shader(shader, "LINES", {"pos": lines}).draw(shader)
        finally:
            gpu.state.depth_test_set("NONE")
            gpu.state.blend_set("NONE")
            gpu.state.line_width_set(1.0)


def _linear(color: Any) -> tuple[float, float, float]:
    """A theme's colour is as the display shows it; what is drawn over a view is scene-linear."""
    r, g, b = (((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in color[:3])
    return r, g, b


@dataclass(frozen=True)
class _Shape:
    """What is drawn of an armature, whatever its pose.

    points, shift: (N, 3), two for each line, in the axes of the bone that carries each; carriers: (N,) its number.
    owners: (N,) number of the bone by whose length, which a pose may stretch, points are multiplied before they are
    shifted; one past the last for none.
    """

    points: Lines
    shift: Lines
    carriers: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]


#: Of each armature, what it was made from and, by how they are coloured, the lines: bones change less often than poses.
_kept: dict[str, tuple[Any, dict[str, _Shape]]] = {}


def forget() -> None:
    """Look at all bones again."""
    _kept.clear()


def _groups(evaluated: Any, obj: Any, context: Any) -> dict[str, Lines]:
    """World lines (N, 3), two points each, of the bones that are shown, by how they are coloured."""
    bones = evaluated.pose.bones
    matrices, lengths = np.empty(16 * len(bones), np.float32), np.ones(len(bones) + 1, np.float32)
    bones.foreach_get("matrix", matrices)
    bones.foreach_get("length", lengths[:-1])
    world = np.array(evaluated.matrix_world, np.float32)
    to_world = world @ matrices.reshape(-1, 4, 4).transpose(0, 2, 1)
    facts = _facts(obj, context)
    kept = _kept.get(obj.name_full)
    if kept is None or kept[0] != facts:
        kept = _kept[obj.name_full] = facts, _shapes(bones, obj, context)
    found = {}
    for kind, shape in kept[1].items():
        m, points = to_world[shape.carriers], shape.points * lengths[shape.owners, None] + shape.shift
        found[kind] = np.einsum("nij,nj->ni", m[:, :3, :3], points) + m[:, :3, 3]
    return found


def _facts(obj: Any, context: Any) -> tuple[Any, ...]:
    """What Blender changes without telling its handlers; the rest is forgotten with each change of the scene."""
    data, active = obj.data, context.active_pose_bone
    flags = np.empty((2, len(data.bones)), bool)
    # From Blender 5.0 the pose bone itself is hidden and selected, before that its bone.
    for flag, name in zip(flags, ("hide", "select"), strict=True):
        (obj.pose if name in bpy.types.PoseBone.bl_rna.properties else data).bones.foreach_get(name, flag)
    shown = tuple(c.is_visible_effectively for c in data.collections_all)
    state = obj.mode, obj.select_get(), active.name if active is not None else ""
    return *state, data.display_type, data.show_bone_custom_shapes, shown, flags.tobytes()


def _shapes(bones: Any, obj: Any, context: Any) -> dict[str, _Shape]:
    numbers = {bone.name: i for i, bone in enumerate(bones)}
    posing, active = obj.mode == "POSE", context.active_pose_bone
    selected_object = obj.select_get()
    plain = _OCTAHEDRON if obj.data.display_type in {"OCTAHEDRAL", "BBONE", "ENVELOPE"} else _LINE
    still = np.zeros(3, np.float32)
    found: dict[str, list[tuple[Lines, Lines, int, int]]] = {"plain": [], "selected": [], "active": []}
    for number, (bone, original) in enumerate(zip(bones, obj.pose.bones, strict=True)):
        if not _shown(original):
            continue
        if posing:
            selected = _selected(original)
            kind = "active" if original == active and selected else "selected" if selected else "plain"
        else:
            kind = "selected" if selected_object else "plain"
        if bone.custom_shape is not None and obj.data.show_bone_custom_shapes:
            carrier = number if bone.custom_shape_transform is None else numbers[bone.custom_shape_transform.name]
            owner = number if bone.use_custom_shape_bone_size else len(bones)
            shift = np.array(bone.custom_shape_translation, np.float32)
            found[kind].append((_custom(bone), shift, carrier, owner))
        else:
            found[kind].append((plain, still, number, number))
    return {
        kind: _Shape(
            np.concatenate([points for points, *_ in parts]).astype(np.float32),
            *(np.repeat(one, [len(points) for points, *_ in parts], 0) for one in list(zip(*parts, strict=True))[1:]),
        )
        for kind, parts in found.items()
        if parts
    }


def _shown(bone: Any) -> bool:
    # From Blender 5.0 the pose bone itself is hidden, before that its bone.
    hidden = bone.hide if hasattr(bone, "hide") else bone.bone.hide
    collections = bone.bone.collections
    return not hidden and (not len(collections) or any(c.is_visible_effectively for c in collections))


def _selected(bone: Any) -> bool:
    return bool(bone.select if hasattr(bone, "select") else bone.bone.select)


def _custom(bone: Any) -> Lines:
    """The edges of a bone's custom shape, before it is made as long as the bone and shifted."""
    mesh = getattr(bone.custom_shape, "data", None)
    if not hasattr(mesh, "edges"):
        return np.empty((0, 3), np.float32)
    points = np.empty(3 * len(mesh.vertices), np.float32)
    edges = np.empty(2 * len(mesh.edges), np.int32)
    mesh.vertices.foreach_get("co", points)
    mesh.edges.foreach_get("vertices", edges)
    size = np.array(bone.custom_shape_scale_xyz, np.float32)
    turn = np.array(bone.custom_shape_rotation_euler.to_matrix(), np.float32)
    return np.asarray(((points.reshape(-1, 3) * size) @ turn.T)[edges], np.float32)
