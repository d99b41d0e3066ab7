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


class JointRow(bpy.types.PropertyGroup):
    joint: bpy.props.StringProperty(name="Joint", description="Name of the joint or guide that the bone gives")  # type: ignore[valid-type]
    bone: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Bone", description="Bone that gives the joint. Empty: the joint is derived where that is possible"
    )
    end: bpy.props.EnumProperty(name="End", description="Which end of the bone is the joint", items=ENDS)  # type: ignore[valid-type]
    offset: bpy.props.FloatVectorProperty(  # type: ignore[valid-type]
        name="Offset",
        description="Moves the joint, along the bone's own axes",
        size=3,
        subtype="TRANSLATION",
        unit="LENGTH",
    )


def _avatar_chosen(settings: AvatarSettings, context: bpy.types.Context) -> None:
    """A first mapping as soon as there is an avatar, so that there is something to look at."""
    obj = settings.id_data
    if settings.avatar_path and not settings.rows and obj.type == "ARMATURE":
        fill_rows(obj, mapping.detect([bone.name for bone in obj.data.bones]))


class AvatarSettings(bpy.types.PropertyGroup):
    avatar_path: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Avatar",
        description="Avatar file that this armature moves",
        subtype="FILE_PATH",
        update=_avatar_chosen,
    )
    rows: bpy.props.CollectionProperty(type=JointRow, name="Joints")  # type: ignore[valid-type]
    active_row: bpy.props.IntProperty(name="Active Joint", options={"SKIP_SAVE"})  # type: ignore[valid-type]
    section: bpy.props.EnumProperty(name="Section", description="Which joints are shown", items=SECTIONS)  # type: ignore[valid-type]
    preset: bpy.props.StringProperty(name="Preset", description="Kind of rig whose bone names were found")  # type: ignore[valid-type]


def fill_rows(obj: Any, detection: mapping.Detection) -> None:
    """Replace an armature's mapping. Joints without a bone get an empty row, for the user to fill."""
    settings = obj.neural_avatar
    settings.rows.clear()
    settings.preset = detection.label if detection.rows else ""
    settings.active_row = 0
    found = {r.joint: r for r in detection.rows}
    names = [*BODY_JOINTS, *mapping.GUIDES, *LEFT_HAND_JOINTS, *RIGHT_HAND_JOINTS]
    for joint in (*names, *(j for j in found if mapping.section(j) == "FACE")):
        row = settings.rows.add()
        row.name = row.joint = joint
        if joint in found:
            row.bone, row.end, row.offset = found[joint].bone, found[joint].end, found[joint].offset


CLASSES = (JointRow, AvatarSettings)


def register() -> None:
    """Attach the settings to objects."""
    bpy.types.Object.neural_avatar = bpy.props.PointerProperty(type=AvatarSettings)  # type: ignore[attr-defined, func-returns-value]


def unregister() -> None:
    """Detach the settings; what is stored in files stays there."""
    del bpy.types.Object.neural_avatar  # type: ignore[attr-defined]
