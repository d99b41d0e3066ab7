# SPDX-License-Identifier: GPL-3.0-or-later
"""A frame that failed: no picture of it may be taken for a good one.

Blender itself stops a render whose engine reports an error, writes nothing, and ends with exit code 1, but not where
the engine renders another scene for the compositor: the set would be written without its people.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import compositor, render_job
from .handlers import listen, unlisten

#: The frame that is being rendered has failed; from a report of the engine to the next frame's beginning.
_failed = False
_began = 0.0
#: Seconds that a file server's clock may go behind this machine's.
_CLOCKS_DIFFER = 2.0
#: Blender has been told to stop, which may be done once: it kills itself the second time.
_stopped = False
#: What Blender fills in in a path, and the braces that it takes for themselves.
_FILLED_IN = re.compile(r"\{\{|\}\}|\{[^{}]*\}")
#: Characters that Blender keeps out of the name of a file which is an input's name.
_NO_FILE_NAME = re.compile(r'[/\\?*:|"<>]')


def failed() -> None:
    """Called for each error of the engine, from the render's thread."""
    global _failed, _stopped
    _failed = True
    # Only Blender's own handler in the background stops the render; Python does not know it, and shows it as None.
    if bpy.app.background and not _stopped and signal.getsignal(signal.SIGINT) is None:
        _stopped = True
        signal.raise_signal(signal.SIGINT)


@persistent  # type: ignore[untyped-decorator]
def _begin_frame(*_: Any) -> None:
    global _failed, _began
    _failed, _began = False, time.time()


@persistent  # type: ignore[untyped-decorator]
def _rendered(scene: Any, *_: Any) -> None:
    """Where the render could not be stopped (in a window, from a script), take back what the compositor wrote."""
    if not _failed:
        return
    for pattern in _output_nodes(compositor.tree_of(scene), scene.frame_current, set()):
        for path in (*glob.glob(pattern), *glob.glob(f"{pattern}.*")):
            _remove(path, scene.frame_current)


@persistent  # type: ignore[untyped-decorator]
def _written(scene: Any, *_: Any) -> None:
    """The same for the picture itself, which was written just now."""
    render = scene.render
    if not _failed:
        return
    if render.is_movie_format:
        render_job.note("ERROR", "In the movie all the same, without its people: render the movie again, or pictures.")
        return
    still = bpy.path.abspath(render.filepath)
    if render.use_file_extension and not still.lower().endswith(render.file_extension):
        still += render.file_extension
    for path in (bpy.path.abspath(render.frame_path(frame=scene.frame_current)), still):
        _remove(path, scene.frame_current)


def _remove(path: str, frame: int) -> None:
    """Remove a file that was written since the frame's render began."""
    try:
        if os.stat(path).st_mtime > _began - _CLOCKS_DIFFER:
            os.remove(path)
            print(f"Neural Avatar: frame {frame} has failed; '{path}' was removed.", file=sys.stderr)
    except OSError:
        return


def _output_nodes(tree: Any, frame: int, seen: set[Any]) -> Iterator[str]:
    """What File Output nodes of a tree and of its groups write at a frame, as patterns for glob, without endings."""
    if tree is None or tree in seen:
        return
    seen.add(tree)
    for node in tree.nodes:
        if node.bl_idname == "CompositorNodeOutputFile":
            yield from (_pattern(folder, name, frame) for folder, name in _places(node))
        elif node.bl_idname == "CompositorNodeGroup":
            yield from _output_nodes(node.node_tree, frame, seen)


def _places(node: Any) -> list[tuple[str, str]]:
    """Folder and name of each file that a File Output node writes."""
    one_file = node.format.file_format == "OPEN_EXR_MULTILAYER"
    if not compositor.FIVE:
        return [os.path.split(node.base_path)] if one_file else [(node.base_path, s.path) for s in node.file_slots]
    if one_file:
        return [(node.directory, node.file_name)]
    return [(node.directory, node.file_name + _NO_FILE_NAME.sub("_", i.name)) for i in node.file_output_items]


def _pattern(folder: str, name: str, frame: int) -> str:
    """A pattern that fits the file of this frame alone: others may be written at the same time, by other machines."""
    whole = os.path.join(folder, name)
    if "#" not in os.path.basename(name):
        whole += "####"
    # Blender puts the frame in the place of the name's last '###'.
    whole = re.sub(r"#+(?=[^#/\\]*$)", lambda run: f"{frame:0{len(run[0])}d}", whole)
    return _FILLED_IN.sub("*", glob.escape(bpy.path.abspath(whole)))


CLASSES = ()

_HANDLERS = (
    ("render_init", _begin_frame), ("render_pre", _begin_frame), ("render_post", _rendered), ("render_write", _written),
)  # fmt: skip


def register() -> None:
    """Watch frames."""
    listen(_HANDLERS)


def unregister() -> None:
    """Watch no more."""
    unlisten(_HANDLERS)
