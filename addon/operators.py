# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators: choose an avatar, find the mapping, add the avatar's own armature, stop the renderer, open its log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars, mapping, session
from .properties import fill_rows

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

_ROOT = Path(__file__).resolve().parents[1]


def bundled_avatar() -> str:
    """The avatar that comes with the add-on, '' when there is none."""
    return next((str(p) for p in sorted((_ROOT / "assets").glob("*.avatar"))), "")


def _preset_items(self: Any, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    return _PRESETS


#: Blender keeps no reference to the strings of dynamic enums: they live here.
_PRESETS = [
    ("AUTO", "Detect", "Find out from the bones' names"),
    *((key, label, "") for key, label in mapping.presets()),
]


class _ArmatureOperator:
    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and context.object.type == "ARMATURE" and context.object.library is None


class NEURAL_AVATAR_OT_detect_mapping(_ArmatureOperator, bpy.types.Operator):
    """Find out by name which bones give which joints"""

    bl_idname = "neural_avatar.detect_mapping"
    bl_label = "Map Joints"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    preset: bpy.props.EnumProperty(
        name="Rig", description="Kind of rig whose bone names to look for", items=_preset_items
    )  # type: ignore[valid-type]

    def execute(self, context: Any) -> Outcome:
        names = [bone.name for bone in context.object.data.bones]
        found = mapping.detect(names) if self.preset == "AUTO" else mapping.apply(self.preset, names)
        fill_rows(context.object, found)
        if not found.rows:
            self.report({"WARNING"}, mapping.refusal(context.object.name, found.missing))
        elif found.missing:
            lacking = ", ".join(mapping.words(j) for j in found.missing)
            self.report({"WARNING"}, f"{found.label}: no bone found for {lacking}. Choose the bones in the list.")
        else:
            self.report({"INFO"}, f"{found.label}: {len(found.rows)} bones found.")
        return {"FINISHED"}


class NEURAL_AVATAR_OT_add_avatar(_ArmatureOperator, bpy.types.Operator):
    """Let this armature move an avatar: choose its file. Joints are found by the bones' names"""

    bl_idname = "neural_avatar.add_avatar"
    bl_label = "Add Avatar"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    filepath: bpy.props.StringProperty(name="Avatar", subtype="FILE_PATH", options={"SKIP_SAVE"})  # type: ignore[valid-type]
    filter_glob: bpy.props.StringProperty(default="*.avatar", options={"HIDDEN"})  # type: ignore[valid-type]

    def invoke(self, context: Any, event: Any) -> Outcome:
        return _choose(self, context)

    def execute(self, context: Any) -> Outcome:
        try:
            avatars.header(avatars.resolved(self.filepath))
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}
        context.object.neural_avatar.avatar_path = _as_preferred(self.filepath)
        return {"FINISHED"}


def _choose(operator: Any, context: Any) -> Outcome:
    context.window_manager.fileselect_add(operator)
    return {"RUNNING_MODAL"}


def _as_preferred(path: str) -> str:
    """A path as the user's preferences want it: relative to the blend file where there is one and it can be."""
    folder = os.path.dirname(bpy.data.filepath)
    wanted = path.startswith("//") or bpy.context.preferences.filepaths.use_relative_paths
    return avatars.relative(avatars.resolved(path), folder) if folder and wanted else path


class NEURAL_AVATAR_OT_use_bundled(_ArmatureOperator, bpy.types.Operator):
    """Let this armature move the avatar that comes with the add-on"""

    bl_idname = "neural_avatar.use_bundled"
    bl_label = "Use Bundled Avatar"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    def execute(self, context: Any) -> Outcome:
        path = bundled_avatar()
        if not path:
            self.report({"ERROR"}, "This installation holds no avatar: choose a file.")
            return {"CANCELLED"}
        context.object.neural_avatar.avatar_path = path
        return {"FINISHED"}


class NEURAL_AVATAR_OT_add_person(bpy.types.Operator):
    """Add an armature of an avatar's own, standing at the 3D cursor"""

    bl_idname = "neural_avatar.add_person"
    bl_label = "Neural Avatar"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    filepath: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Avatar",
        description="Avatar file. Empty: the one that comes with the add-on",
        subtype="FILE_PATH",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.mode == "OBJECT")

    def execute(self, context: Any) -> Outcome:
        return _add_person(self, context, self.filepath or bundled_avatar())


class NEURAL_AVATAR_OT_import_person(bpy.types.Operator):
    """Add an armature of an avatar's own from its file; a file dropped into the 3D view does the same"""

    bl_idname = "neural_avatar.import_person"
    bl_label = "Neural Avatar from File"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    filepath: bpy.props.StringProperty(name="Avatar", subtype="FILE_PATH", options={"SKIP_SAVE"})  # type: ignore[valid-type]
    filter_glob: bpy.props.StringProperty(default="*.avatar", options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.mode == "OBJECT")

    def invoke(self, context: Any, event: Any) -> Outcome:
        return self.execute(context) if self.filepath else _choose(self, context)

    def execute(self, context: Any) -> Outcome:
        return _add_person(self, context, self.filepath)


class NEURAL_AVATAR_FH_avatar(bpy.types.FileHandler):
    """Avatar files that are dropped into the 3D view"""

    bl_idname = "NEURAL_AVATAR_FH_avatar"
    bl_label = "Neural Avatar"
    bl_import_operator = NEURAL_AVATAR_OT_import_person.bl_idname
    bl_file_extensions = ".avatar"

    @classmethod
    def poll_drop(cls, context: Any) -> bool:
        return bool(context.area and context.area.type == "VIEW_3D")


def _add_person(operator: Any, context: Any, path: str) -> Outcome:
    from . import armature

    if not path:
        operator.report({"ERROR"}, "This installation holds no avatar: choose a file.")
        return {"CANCELLED"}
    try:
        header = avatars.header(avatars.resolved(path))
    except BackendError as error:
        operator.report({"ERROR"}, error.message)
        return {"CANCELLED"}
    armature.create(context, Path(path).stem, header, _as_preferred(path))
    return {"FINISHED"}


class NEURAL_AVATAR_OT_stop_renderer(bpy.types.Operator):
    """End the renderer's process and free its memory, on the GPU too; the next frame starts it again"""

    bl_idname = "neural_avatar.stop_renderer"
    bl_label = "Stop Renderer"

    def execute(self, context: Any) -> Outcome:
        session.stop()
        return {"FINISHED"}


class NEURAL_AVATAR_OT_open_log(bpy.types.Operator):
    """Open the log of the add-on and its renderer"""

    bl_idname = "neural_avatar.open_log"
    bl_label = "Open Log"

    def execute(self, context: Any) -> Outcome:
        path = session.log_path()
        if not path.exists():
            self.report({"INFO"}, f"There is no log yet; it will be {path}")
            return {"CANCELLED"}
        bpy.ops.wm.path_open(filepath=str(path))
        return {"FINISHED"}


def menu_entry(self: Any, context: Any) -> None:
    """Draws the entries in the Add > Armature menu."""
    self.layout.operator(NEURAL_AVATAR_OT_add_person.bl_idname, icon="OUTLINER_OB_ARMATURE").filepath = ""
    self.layout.operator(NEURAL_AVATAR_OT_import_person.bl_idname, text="Neural Avatar from File…", icon="FILE_FOLDER")


CLASSES = (
    NEURAL_AVATAR_OT_detect_mapping,
    NEURAL_AVATAR_OT_add_avatar,
    NEURAL_AVATAR_OT_use_bundled,
    NEURAL_AVATAR_OT_add_person,
    NEURAL_AVATAR_OT_import_person,
    NEURAL_AVATAR_FH_avatar,
    NEURAL_AVATAR_OT_stop_renderer,
    NEURAL_AVATAR_OT_open_log,
)
