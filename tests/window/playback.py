# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: playback with a backend that works, sleeps, is killed; then quits in the middle of a
request."""

import os
import signal
import sys
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
import stage

frames = {"played": 0, "asked": 0, "busy_at": 0}


def played(number: int):
    """A condition: so many frames more have been played."""
    goal = frames["played"] + number
    return lambda: frames["played"] >= goal


def memory() -> int:
    """Bytes of memory that belong to this process alone."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) << 10


def play_or_stop() -> None:
    with stage.override():
        bpy.ops.screen.animation_play()


def story():
    viewport, session = stage.module("addon.viewport"), stage.module("addon.session")
    _, person = stage.new_scene(maximise=True)
    stage.swing(person, 16)
    stage.shade("SOLID")

    def count(*_):
        frames["played"] += 1
        if any(v.preview.is_busy for v in viewport.all_views()):
            frames["busy_at"] = frames["played"]

    bpy.app.handlers.frame_change_post.append(count)
    stage.redraw()
    yield stage.finished
    backend = session.session()
    genuine = backend.request

    def counted(*arguments, **keywords):
        frames["asked"] += 1
        frames["busy_at"] = frames["played"]
        return genuine(*arguments, **keywords)

    backend.request = counted
    play_or_stop()
    # Until every frame of the loop has a picture.
    yield lambda: frames["asked"] > 5 and frames["played"] - frames["busy_at"] > 25
    asked = frames["asked"]
    yield played(40)
    before = memory()
    yield played(100)
    stage.tell(first=asked, again=frames["asked"] - asked, growth=memory() - before, cached=len(viewport.cache))

    # A backend that sleeps holds up nobody.
    viewport.cache.clear()
    pid = backend.info["pid"]
    os.kill(pid, signal.SIGSTOP)
    yield played(30)
    stage.tell(kept_playing=True, pictures_while_asleep=len(viewport.cache))
    os.kill(pid, signal.SIGCONT)
    yield lambda: len(viewport.cache) > 2

    # One that is killed is told of, and started again.
    viewport.cache.clear()
    view, errors = viewport.all_views()[0], []
    os.kill(pid, signal.SIGKILL)

    victim = pid

    def recovered() -> bool:
        nonlocal victim
        if not errors and len(viewport.cache) > 2 and backend.info["pid"] != victim:
            # It died between two frames, when nothing was asked of it: nobody had to be told. Once more.
            victim = backend.info["pid"]
            viewport.cache.clear()
            os.kill(victim, signal.SIGKILL)
        if view.preview.error is not None and view.preview.error.message not in errors:
            errors.append(view.preview.error.message)
        return bool(errors) and view.preview.error is None and len(viewport.cache) > 2

    yield recovered
    stage.tell(sentences=errors, another=backend.info["pid"] != pid)

    # The scene goes, and comes back.
    play_or_stop()
    bpy.ops.wm.save_as_mainfile(filepath=str(stage.OUT / "scene.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(stage.OUT / "scene.blend"))
    stage.tell(kept_after_load=len(viewport.cache), views_after_load=len(viewport.all_views()))
    yield
    stage.redraw()
    yield stage.finished
    person = next(o for o in bpy.data.objects if o.type == "ARMATURE")
    person.location.y += 0.1
    yield lambda: any(v.preview.wait_seconds() is not None and v.preview.is_busy for v in viewport.all_views())
    stage.tell(pid=backend.info["pid"], folders=[str(p) for p in Path(os.environ["NEURAL_AVATAR_FRAMES"]).iterdir()])


stage.play(story)
