# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering in the background: a device and a Python without preferences, and a failed frame that a farm notices.

A Python named in a blend file is a program that the file wants to be run. It is honoured only where Blender may run
what files bring with them (Auto Run Python Scripts, or ``blender -y``): there the file could run it anyway.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import sys
import time
from typing import Any

import bpy

#: The frame that is being rendered has failed; from a report of the engine to the next frame's beginning.
_failed = False
_began = 0.0
#: Seconds that a file server's clock may go behind this machine's.
_CLOCKS_DIFFER = 2.0
#: Blender has been told to stop, which may be done once: it kills itself the second time.
_stopped = False


class BatchSettings(bpy.types.PropertyGroup):
    device: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Device",
        description="Device that renders this file: auto, cpu, cuda, cuda:1 or mps. Empty: the preferences' one. The "
        "environment variable NEURAL_AVATAR_DEVICE goes before it",
    )
    python: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Python",
        description="Python that renders this file where scripts of blend files may run (Auto Run Python Scripts, or "
        "blender -y). Empty: the preferences' one. The environment variable NEURAL_AVATAR_PYTHON goes before it",
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
        if settings.python and not may_run_scripts():
            layout.label(text="Ignored: Auto Run Python Scripts is off", icon="INFO")


def device() -> str:
    """The device that the file asks for, '' for none."""
    return _setting("device")


def python() -> str:
    """The Python that the file asks for, '' for none and where files may run nothing."""
    return _setting("python") if may_run_scripts() else ""


def hint() -> str:
    """A sentence to add when there is no Python, '' for nothing to say."""
    if not _setting("python") or may_run_scripts():
        return ""
    return " The one that this file names is used only where scripts may run: Auto Run Python Scripts, or blender -y."


def _setting(name: str) -> str:
    """Of the scene in use; else of the first that has it: an avatar's scene may be rendered from the set's."""
    scenes: list[Any] = [bpy.context.scene, *(s for s in bpy.data.scenes if s.library is None)]
    values = (getattr(scene.neural_avatar_batch, name).strip() for scene in scenes if scene is not None)
    return next(filter(None, values), "")


def may_run_scripts() -> bool:
    """May Blender run what the open file brings with it? As the command line says, else as the preferences do."""
    arguments = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    for argument in reversed(arguments):
        if argument in ("-y", "--enable-autoexec", "-Y", "--disable-autoexec"):
            return argument in ("-y", "--enable-autoexec")
    context: Any = bpy.context
    if not context.preferences.filepaths.use_scripts_auto_execute:
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


def frame_failed() -> None:
    """Called for each error of the engine, from the render's thread: no picture may be taken for a good one.

    Blender itself stops a render whose engine reports an error, writes nothing, and ends with exit code 1, but not
    where the engine renders another scene for the compositor: the set would be written without its people.
    """
    global _failed, _stopped
    _failed = True
    # Only Blender's own handler in the background stops the render; Python does not know it, and shows it as None.
    if bpy.app.background and not _stopped and signal.getsignal(signal.SIGINT) is None:
        _stopped = True
        signal.raise_signal(signal.SIGINT)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _begin_frame(*_: Any) -> None:
    global _failed, _began
    _failed, _began = False, time.time()


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _remove_failed(scene: Any, *_: Any) -> None:
    """Where the render could not be stopped (in a window, from a script), take back the picture that was written."""
    render = scene.render
    if not _failed or render.is_movie_format:
        return
    still = bpy.path.abspath(render.filepath)
    if render.use_file_extension and not still.lower().endswith(render.file_extension):
        still += render.file_extension
    for path in (bpy.path.abspath(render.frame_path(frame=scene.frame_current)), still):
        try:
            if os.stat(path).st_mtime > _began - _CLOCKS_DIFFER:
                os.remove(path)
                print(f"Neural Avatar: frame {scene.frame_current} has failed; '{path}' was removed.", file=sys.stderr)
        except OSError:
            continue


_HANDLERS = (("render_init", _begin_frame), ("render_pre", _begin_frame), ("render_write", _remove_failed))

CLASSES = (BatchSettings, NEURAL_AVATAR_PT_batch)


def register() -> None:
    """Attach the settings to scenes, and watch frames."""
    bpy.types.Scene.neural_avatar_batch = bpy.props.PointerProperty(type=BatchSettings)  # type: ignore[attr-defined, func-returns-value]
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Undo :func:`register`."""
    for name, handler in _HANDLERS:
        listening = getattr(bpy.app.handlers, name)
        if handler in listening:
            listening.remove(handler)
    # Called at Blender's own end, it may be too late.
    if hasattr(bpy.types.Scene, "neural_avatar_batch"):
        del bpy.types.Scene.neural_avatar_batch
