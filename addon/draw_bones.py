# SPDX-License-Identifier: GPL-3.0-or-later
"""The bones over an avatar. Blender has drawn its own bones by then, and the avatar covers them: their outlines are
drawn once more."""

from __future__ import annotations

from typing import Any

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


def _groups(evaluated: Any, obj: Any, context: Any) -> dict[str, Lines]:
    """World lines (N, 3), two points each, of the bones that are shown, by how they are coloured."""
    bones = evaluated.pose.bones
    matrices, lengths = np.empty(16 * len(bones), np.float32), np.empty(len(bones), np.float32)
    bones.foreach_get("matrix", matrices)
    bones.foreach_get("length", lengths)
    world = np.array(evaluated.matrix_world, np.float32)
    to_world = world @ matrices.reshape(-1, 4, 4).transpose(0, 2, 1)
    posing, active = obj.mode == "POSE", context.active_pose_bone
    selected_object = obj.select_get()
    shape = _OCTAHEDRON if obj.data.display_type in {"OCTAHEDRAL", "BBONE", "ENVELOPE"} else _LINE
    found: dict[str, list[Lines]] = {"plain": [], "selected": [], "active": []}
    for bone, original, matrix, length in zip(bones, obj.pose.bones, to_world, lengths, strict=True):
        if not _shown(original):
            continue
        if posing:
            kind = (
                "active"
                if original == active and _selected(original)
                else "selected"
                if _selected(original)
                else "plain"
            )
        else:
            kind = "selected" if selected_object else "plain"
        if bone.custom_shape is not None and obj.data.show_bone_custom_shapes:
            found[kind].append(_custom(bone, matrix, length, evaluated))
        else:
            found[kind].append(shape * length @ matrix[:3, :3].T + matrix[:3, 3])
    return {
        kind: np.concatenate(parts).astype(np.float32) if parts else np.empty((0, 3), np.float32)
        for kind, parts in found.items()
    }


def _shown(bone: Any) -> bool:
    # From Blender 5.0 the pose bone itself is hidden, before that its bone.
    hidden = bone.hide if hasattr(bone, "hide") else bone.bone.hide
    collections = bone.bone.collections
    return not hidden and (not len(collections) or any(c.is_visible_effectively for c in collections))


def _selected(bone: Any) -> bool:
    return bool(bone.select if hasattr(bone, "select") else bone.bone.select)


def _custom(bone: Any, matrix: Lines, length: Any, evaluated: Any) -> Lines:
    """The edges of a bone's custom shape."""
    mesh = getattr(bone.custom_shape, "data", None)
    if not hasattr(mesh, "edges"):
        return np.empty((0, 3), np.float32)
    points = np.empty(3 * len(mesh.vertices), np.float32)
    edges = np.empty(2 * len(mesh.edges), np.int32)
    mesh.vertices.foreach_get("co", points)
    mesh.edges.foreach_get("vertices", edges)
    if bone.custom_shape_transform is not None:
        other = bone.custom_shape_transform.matrix
        matrix = np.array(evaluated.matrix_world, np.float32) @ np.array(other, np.float32)
    size = np.array(bone.custom_shape_scale_xyz, np.float32) * (length if bone.use_custom_shape_bone_size else 1.0)
    turn = np.array(bone.custom_shape_rotation_euler.to_matrix(), np.float32)
    shift = np.array(bone.custom_shape_translation, np.float32)
    local = (points.reshape(-1, 3) * size) @ turn.T + shift
    return np.asarray((local @ matrix[:3, :3].T + matrix[:3, 3])[edges], np.float32)
