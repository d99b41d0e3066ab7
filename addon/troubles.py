# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an armature's avatar or its scene, in sentences, each with the operator that puts it right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from ..neural_backend.interface.messages import BackendError
from . import avatars, mapping


@dataclass(frozen=True)
class Trouble:
    """text: for people. fix: idname of an operator, '' for none. label: its button. options: its properties."""

    text: str
    fix: str = ""
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)


_RELOCATE = ("neural_avatar.add_avatar", "Relocate…")


def of_object(obj: Any) -> list[Trouble]:
    """Troubles of an armature that carries an avatar; the gravest first."""
    found = []
    if obj.library is not None:
        found.append(
            Trouble(
                f"'{obj.name}' is linked from '{obj.library.name}' and cannot be changed here: make an override.",
                "neural_avatar.make_override",
                "Make Override",
            )
        )
    try:
        avatars.header(avatars.absolute_path(obj))
    except BackendError as error:
        found.append(Trouble(error.message, *_RELOCATE))
    return found + of_mapping(obj)


def of_mapping(obj: Any) -> list[Trouble]:
    """Troubles of an armature's joints."""
    from . import joints

    again = ("neural_avatar.detect_mapping", "Detect Again", {"preset": "AUTO"})
    bones, rows = set(joints.bone_names(obj)), obj.neural_avatar.rows
    found = []
    if not bones:
        return [Trouble(f"'{obj.name}' has no bones: add some in edit mode, or add the avatar's own armature.")]
    gone = [(r.joint, r.bone) for r in rows if r.bone and r.bone not in bones]
    if gone:
        told = ", ".join(f"'{bone}' ({mapping.words(joint)})" for joint, bone in gone[:3])
        more = f" and {len(gone) - 3} more" if len(gone) > 3 else ""
        found.append(Trouble(f"Bones renamed or deleted: {told}{more}. Choose others in the list of joints.", *again))
    lost = {joint for joint, _ in gone}
    missing = [j for j in joints.unmapped(obj) if j not in lost]
    if missing:
        told = ", ".join(mapping.words(j) for j in missing)
        found.append(Trouble(f"No bone for: {told}. Choose them in the list of joints.", *again))
    for joints_of_one in _twice(rows):
        told = " and ".join(mapping.words(r.joint) for r in joints_of_one)
        found.append(Trouble(f"'{joints_of_one[0].bone}' gives {told}: choose another bone, or the bone's other end."))
    return found


def of_scene(scene: Any) -> list[Trouble]:
    """Troubles of a scene that is to be rendered."""
    if scene.camera is None:
        text = f"Scene '{scene.name}' has no camera: nothing can be rendered."
        return [Trouble(text, "neural_avatar.add_camera", "Add Camera")]
    return []


def _twice(rows: Any) -> list[list[Any]]:
    """Required joints that lie in one and the same point of a bone."""
    at: dict[tuple[object, ...], list[Any]] = defaultdict(list)
    for row in rows:
        if row.bone and row.joint in mapping.REQUIRED and row.joint != "Head":
            at[(row.bone, row.end, *row.offset)].append(row)
    return [found for found in at.values() if len(found) > 1]
