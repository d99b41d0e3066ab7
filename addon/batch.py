# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering in the background: a device and a Python without preferences.

A Python named in a blend file is a program that the file wants to be run. Blender does not tell add-ons whether the
open file is trusted: *Trusted Source* is unticked in the file browser, and the preferences say the same as before. So a
window asks, and in the background only what the command line says of this very file counts.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from typing import Any, Literal

import bpy

from . import compositing, render_job
from .render_settings import displayed_as

#: Files, and the Pythons that the user has allowed them until Blender ends.
_allowed: set[tuple[str, str]] = set()


class BatchSettings(bpy.types.PropertyGroup):
    device: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Device",
        description="Device that renders this scene's avatars: auto, cpu, cuda, cuda:1 or mps. Empty: that of the "
        "scene whose set they join, else the preferences' one. The environment variable NEURAL_AVATAR_DEVICE goes "
        "before it",
    )
    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python",
        description="Python that renders this scene's avatars, once you have allowed it; in the background where "
        "scripts of blend files may run (Auto Run Python Scripts, or blender -y). Empty: that of the scene whose set "
        "they join, else the preferences' one. The environment variable NEURAL_AVATAR_PYTHON goes before it",
        subtype="FILE_PATH",
    )


class NEURAL_AVATAR_PT_batch(bpy.types.Panel):
    bl_label = "Batch"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "render"
    bl_parent_id = "NEURAL_AVATAR_PT_render"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    def draw(self, context: Any) -> None:
        layout, settings = self.layout, context.scene.neural_avatar_batch
        layout.use_property_split = True
        layout.prop(settings, "device")
        layout.prop(settings, "python")
        if settings.python.strip() and not _may_run(settings.python.strip()):
            layout.label(text="Not used yet: this file names a program", icon="ERROR")
            layout.operator(NEURAL_AVATAR_OT_allow_python.bl_idname, icon="CHECKMARK")


class NEURAL_AVATAR_OT_allow_python(bpy.types.Operator):
    """Let this file be rendered by the Python above, a program on this computer, until Blender is closed. Do so only
    where you know that program"""

    bl_idname = "neural_avatar.allow_python"
    bl_label = "Allow This Python"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.scene.neural_avatar_batch.python.strip())

    def execute(self, context: Any) -> set[Literal["FINISHED"]]:
        _allowed.add((bpy.data.filepath, context.scene.neural_avatar_batch.python.strip()))
        return {"FINISHED"}


def device() -> str:
    """The device that the scene asks for, '' for none."""
    return _setting("device")


def python() -> str:
    """The Python that the scene asks for, '' for none and where this file may not run it."""
    named = _setting("python")
    return named if _may_run(named) else ""


def hint() -> str:
    """A sentence to add when there is no Python, '' for nothing to say."""
    named = _setting("python")
    if not named or _may_run(named):
        return ""
    if not bpy.app.background:
        return (
            f" This file names '{named}': allow it in the render properties, Neural Avatar › Batch, if you know that "
            "program."
        )
    return " The one that this file names is used only where scripts may run: Auto Run Python Scripts, or blender -y."


def _setting(name: str) -> str:
    """Of the scene that is rendered; where it says nothing, of that whose set it belongs to."""
    values = (getattr(scene.neural_avatar_batch, name).strip() for scene in _scenes())
    return next(filter(None, values), "")


def _scenes() -> list[Any]:
    """The scene that our engine renders, or would render for the one in use, and the scene of its set.

    Views ask too, during a render as well: by other scenes than the render they would have the renderer started anew.
    """
    rendered = render_job.scenes()
    if rendered:
        return [rendered[0], displayed_as(rendered[0]), *rendered[1:]]
    scene: Any = bpy.context.scene
    return [] if scene is None else [compositing.scene_of_avatars(scene) or scene, displayed_as(scene)]


def _may_run(named: str) -> bool:
    """May this Python be run for the open file?"""
    return (bpy.data.filepath, named) in _allowed or (bpy.app.background and _may_run_scripts())


def _may_run_scripts() -> bool:
    """May Blender, in the background, run what the open file brings with it? As the command line says, else as the
    preferences do for a file that the command line opens: a script may open another without trusting it."""
    if bpy.app.autoexec_fail:  # something of this file has been refused
        return False
    arguments = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    for argument in reversed(arguments):
        if argument in ("-y", "--enable-autoexec", "-Y", "--disable-autoexec"):
            return argument in ("-y", "--enable-autoexec")
    context: Any = bpy.context
    if not context.preferences.filepaths.use_scripts_auto_execute:
        return False
    opened = os.path.realpath(bpy.data.filepath)
    if not bpy.data.filepath or not any(os.path.realpath(argument) == opened for argument in arguments):
        return False
    folder = os.path.normpath(os.path.dirname(bpy.data.filepath))
    return not any(_excludes(entry, folder) for entry in context.preferences.autoexec_paths)


def _excludes(entry: Any, folder: str) -> bool:
    if not entry.path:
        return False
    if entry.use_glob:
        return fnmatch.fnmatch(folder, entry.path)
    excluded = os.path.normcase(os.path.normpath(entry.path))
    return (os.path.normcase(folder) + os.sep).startswith(excluded.rstrip(os.sep) + os.sep)


CLASSES = (BatchSettings, NEURAL_AVATAR_OT_allow_python, NEURAL_AVATAR_PT_batch)


def register() -> None:
    """Attach the settings to scenes."""
    bpy.types.Scene.neural_avatar_batch = bpy.props.PointerProperty(type=BatchSettings)  # type: ignore[attr-defined, func-returns-value]


def unregister() -> None:
    """Detach the settings; what is stored in files stays there."""
    # Called at Blender's own end, it may be too late.
    if hasattr(bpy.types.Scene, "neural_avatar_batch"):
        del bpy.types.Scene.neural_avatar_batch
