# SPDX-License-Identifier: GPL-3.0-or-later
"""The render that Blender was asked for, and what it has told.

Where a set's compositor has Blender render the avatars' scene, that scene's render has no list of reports: whatever an
engine reports there reaches nobody, and Blender calls the whole a success. So it is kept here and shown by ourselves,
until the next render of the set has nothing to tell.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import bpy
from bpy.app.handlers import persistent

from .handlers import listen, unlisten
from .render_settings import displayed_as

#: Most sentences that are shown at once; the log has all.
_MOST = 6
#: Letters in a line of a popup, and unscaled pixels of a letter and of what stands around a line.
_LETTERS, _LETTER, _AROUND = 90, 6.8, 60


@dataclass
class Job:
    """scene: name of the scene that Blender was asked for. rendered: of the scene that our engine draws for it, frame
    by frame. told: frames by level and sentence. shown: sentences that a window has been shown last."""

    scene: str
    rendered: str = ""
    frame: int = 0
    told: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    shown: tuple[str, ...] = ()

    @property
    def in_set(self) -> bool:
        """Is it a set's render, by whose compositor the avatars' scene is rendered?"""
        return self.rendered not in ("", self.scene)

    def sentences(self, *levels: str) -> list[str]:
        """What was told, each with its frames."""
        return [f"{_frames(at)}: {text}" for (level, text), at in list(self.told.items()) if level in levels]


_current: Job | None = None
#: The last job that had something to tell, by its scene.
_last: dict[str, Job] = {}


def begin_frame(scene: Any, frame: int) -> None:
    """Our engine begins a frame of a scene."""
    if _current is not None:
        _current.rendered, _current.frame = scene.name_full, frame


def scenes() -> list[Any]:
    """The scene that our engine renders, or has rendered last, for the render under way, and the one that Blender was
    asked for; none where our engine has not begun."""
    if _current is None or not _current.rendered:
        return []
    names = (_current.rendered, _current.scene)
    return [scene for name in names for scene in bpy.data.scenes if scene.name_full == name]


def note(level: str, sentence: str) -> None:
    """Keep a sentence of the present frame, where Blender shows it to nobody. Called from the render's thread."""
    job = _current
    if job is None or not job.in_set:
        return
    # The frames of one and the same trouble are told together.
    key = level, sentence.replace(f" at frame {job.frame}", "")
    is_new = key not in job.told
    at = job.told.setdefault(key, [])
    if job.frame not in at:
        at.append(job.frame)
    _last[job.scene] = job
    if is_new and level == "ERROR":
        _show_soon()


def _frames(numbers: list[int]) -> str:
    """'Frame 3', or 'Frames 3, 5–7'."""
    runs = groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    words = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in ends)
    return f"Frame{'s' if len(numbers) > 1 else ''} {words}"


@persistent  # type: ignore[untyped-decorator]
def _begin(scene: Any, *_: object) -> None:
    global _current
    _current = Job(scene.name_full)


@persistent  # type: ignore[untyped-decorator]
def _end(scene: Any, *_: object) -> None:
    """A render is over, or was cancelled: all of it is told once more, together."""
    global _current
    job, _current = _current, None
    if job is None or not job.in_set:
        return
    if not job.told:
        _last.pop(job.scene, None)
    for sentence in job.sentences("ERROR"):
        print(f"Neural Avatar: scene '{job.scene}': {sentence}", file=sys.stderr)
    _show_soon()


@persistent  # type: ignore[untyped-decorator]
def _forget(*_: object) -> None:
    _last.clear()


def _show_soon() -> None:
    """In Blender's first thread, between two drawings."""
    if not bpy.app.background and not bpy.app.timers.is_registered(_show):
        bpy.app.timers.register(_show, first_interval=0.0, persistent=True)


def _show() -> None:
    """Have the panels drawn again, and let what is new pop up."""
    manager: Any = bpy.context.window_manager
    for window in manager.windows:
        for area in window.screen.areas:
            if area.type == "PROPERTIES":
                area.tag_redraw()
    for job in list(_last.values()):
        sentences = tuple(job.sentences("ERROR", "WARNING"))
        if sentences and sentences != job.shown and len(manager.windows):
            job.shown = sentences
            # The newest is the render's own, which lies over the others.
            window = manager.windows[-1]
            room = (window.width / bpy.context.preferences.system.ui_scale - _AROUND) / _LETTER
            draw = _popup(sentences, max(24, min(_LETTERS, int(room))))
            with bpy.context.temp_override(window=window):
                manager.popup_menu(draw, title=f"Neural Avatar: scene '{job.scene}'", icon="ERROR")


def _popup(sentences: tuple[str, ...], width: int) -> Any:
    def draw(menu: Any, context: Any) -> None:
        for sentence in _few(sentences):
            for line in textwrap.wrap(sentence, width):
                menu.layout.label(text=line)

    return draw


def _few(sentences: list[str] | tuple[str, ...]) -> list[str]:
    more = len(sentences) - _MOST
    return [*sentences[:_MOST], *([f"{more} more: see the log, in the add-on's preferences."] if more > 0 else [])]


class NEURAL_AVATAR_PT_last_render(bpy.types.Panel):
    bl_label = "Last Render"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"
    bl_parent_id = "NEURAL_AVATAR_PT_compositing"

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return displayed_as(context.scene).name_full in _last

    def draw(self, context: Any) -> None:
        from .widgets import lines, warn

        job = _last[displayed_as(context.scene).name_full]
        for sentence in _few(job.sentences("ERROR", "WARNING")):
            warn(self.layout, sentence)
        for sentence in _few(job.sentences("INFO")):
            lines(self.layout, sentence, "INFO")


CLASSES = (NEURAL_AVATAR_PT_last_render,)

_HANDLERS = (
    ("render_init", _begin), ("render_complete", _end), ("render_cancel", _end), ("load_post", _forget),
)  # fmt: skip


def register() -> None:
    """Listen for renders."""
    listen(_HANDLERS)


def unregister() -> None:
    """Listen no more."""
    unlisten(_HANDLERS)
    if bpy.app.timers.is_registered(_show):
        bpy.app.timers.unregister(_show)
    _forget()
