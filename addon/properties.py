# SPDX-License-Identifier: GPL-3.0-or-later
"""What is stored in the blend file: an armature's avatar and its mapping. Belongs to the object, so that copies and
appends carry it."""

from __future__ import annotations

from typing import Any

import bpy

from ..neural_backend.interface.skeleton import BODY_JOINTS, LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS
from . import mapping

ENDS = (
    (mapping.HEAD, "Head", "The joint is where the bone begins"),
    (mapping.TAIL, "Tail", "The joint is where the bone ends"),
)

SECTIONS = (
    ("BODY", "Body", "Joints of trunk, limbs, head and feet"),
    ("LEFT_HAND", "Left Hand", "Joints of the left hand"),
    ("RIGHT_HAND", "Right Hand", "Joints of the right hand"),
    ("FACE", "Face", "Landmarks of the face"),
)


#: A linked character's settings can be changed where it is overridden.
_OVERRIDABLE = {"LIBRARY_OVERRIDABLE"}
#: From Blender 4.5 on a property says that it understands `//`.
_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()


class JointRow(bpy.types.PropertyGroup):
    joint: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Joint", description="Name of the joint or guide that the bone gives", override=_OVERRIDABLE
    )
    bone: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Bone",
        description="Bone that gives the joint. Empty: the joint is derived where that is possible",
        override=_OVERRIDABLE,
    )
    end: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="End", description="Which end of the bone is the joint", items=ENDS, override=_OVERRIDABLE
    )
    offset: bpy.props.FloatVectorProperty(  # type: ignore[valid-type]
        name="Offset",
        description="Moves the joint, along the bone's own axes",
        size=3,
        subtype="TRANSLATION",
        unit="LENGTH",
        override=_OVERRIDABLE,
    )


def _avatar_chosen(settings: AvatarSettings, context: bpy.types.Context) -> None:
    """A first mapping as soon as there is an avatar, so that there is something to look at."""
    obj = settings.id_data
    if settings.avatar_path and not settings.rows and obj.type == "ARMATURE":
        fill_rows(obj, mapping.detect([bone.name for bone in obj.data.bones]))


class AvatarSettings(bpy.types.PropertyGroup):
    """known_at: where a relative path led when the file was last saved, for what is appended into files elsewhere."""

    avatar_path: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Avatar",
        description="Avatar file that this armature moves",
        subtype="FILE_PATH",
        options=_RELATIVE,
        update=_avatar_chosen,
        override=_OVERRIDABLE,
    )
    known_at: bpy.props.StringProperty(options={"HIDDEN"})  # type: ignore[valid-type]
    rows: bpy.props.CollectionProperty(  # type: ignore[valid-type]
        type=JointRow, name="Joints", override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"}
    )
    active_row: bpy.props.IntProperty(name="Active Joint", options={"SKIP_SAVE"}, override=_OVERRIDABLE)  # type: ignore[valid-type]
    section: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Section", description="Which joints are shown", items=SECTIONS, override=_OVERRIDABLE
    )
    preset: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Preset", description="Kind of rig whose bone names were found", override=_OVERRIDABLE
    )


def fill_rows(obj: Any, detection: mapping.Detection) -> None:
    """Replace an armature's mapping. Joints without a bone get an empty row, for the user to fill.

    Rows that are there are written, not made anew: an override of a linked character remembers changes to rows.
    """
    settings = obj.neural_avatar
    settings.preset = detection.label if detection.rows else ""
    settings.active_row = 0
    found = {r.joint: r for r in detection.rows}
    names = [*BODY_JOINTS, *mapping.GUIDES, *LEFT_HAND_JOINTS, *RIGHT_HAND_JOINTS]
    known = {row.joint for row in settings.rows}
    for joint in (*names, *(j for j in found if mapping.section(j) == "FACE")):
        if joint not in known:
            row = settings.rows.add()
            row.name = row.joint = joint
    for row in settings.rows:
        one = found.get(row.joint, mapping.Row(row.joint, ""))
        row.bone, row.end, row.offset = one.bone, one.end, one.offset
    obj.update_tag()  # rows tell Blender nothing: without this views would go on showing the old mapping


CLASSES = (JointRow, AvatarSettings)


def register() -> None:
    """Attach the settings to objects."""
    bpy.types.Object.neural_avatar = bpy.props.PointerProperty(  # type: ignore[attr-defined, func-returns-value]
        type=AvatarSettings, override={"LIBRARY_OVERRIDABLE"}
    )


def unregister() -> None:
    """Detach the settings; what is stored in files stays there."""
    del bpy.types.Object.neural_avatar  # type: ignore[attr-defined]
