# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewport preview in a real Blender window: what it costs Blender, and how soon there is a picture.

draw: our code in one drawing of a 3D view, without and with a new picture to upload, with the bones of a posed rig.
latency: from a change of the pose to its draft on the way to the screen, and to full quality; network: its share of
that, by the backend's own count. rate: drafts each second while the pose changes with every drawing. idle: CPU time of
Blender in seconds while nothing happens. playback: memory that 250 frames leave behind. start: what enabling the add-on
takes.

NEURAL_AVATAR_CHECKOUT=<checkout> NEURAL_AVATAR_PYTHON=<Python with torch> BLENDER_USER_RESOURCES=<folder with the
checkout as extensions/user_default/neural_avatar> .ci/blender_window.sh benchmarks/preview.py OUT <folders>

With software OpenGL Blender itself draws a few frames a second; the figures of draw include that slowness.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(os.environ["NEURAL_AVATAR_CHECKOUT"]) / "tests" / "window"))
import addon_utils
import bpy
import stage

SECONDS = 4.0


def table(name: str, values: list[float], unit: str = "ms") -> None:
    """A row: median, least, most."""
    middle = statistics.median(values)
    line = f"{name:<46}{middle:9.1f} {unit:<10}({min(values):.1f} to {max(values):.1f}, {len(values)} times)"
    with open(stage.OUT / "preview.txt", "a") as file:
        file.write(line + "\n")


def memory() -> int:
    """Bytes that belong to this process alone."""
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_")) << 10


def story() -> Any:
    """The measurements, one after another."""
    viewport, overlay = stage.module("addon.viewport"), stage.module("addon.overlay")
    scene, person = stage.new_scene(maximise=True)
    stage.swing(person, 250)
    stage.shade("SOLID")
    spent: list[float] = []
    bones, words = stage.module("addon.draw_bones"), overlay._draw_words
    genuine = viewport.show, bones.draw

    def timed(function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                spent.append((time.perf_counter() - started) * 1e3)

        return call

    viewport.show, bones.draw = timed(genuine[0]), timed(genuine[1])
    stage.redraw()
    yield stage.finished
    region = stage.window()[2]
    table(f"view, {region.width} x {region.height} pixels", [region.width], "pixels")

    def still(number: int) -> Any:
        for _ in range(number):
            moment = time.monotonic()
            stage.redraw()
            yield stage.drawn_since(moment)

    for name, active in (("draw, nothing new", False), ("draw, nothing new, with the bones of a posed rig", True)):
        if active:
            bpy.context.view_layer.objects.active = person
            bpy.ops.object.mode_set(mode="POSE")
        scene.neural_avatar_preview.show_bones = active
        yield from still(3)
        spent.clear()
        yield from still(15)
        each = [a + b for a, b in zip(spent[::2], spent[1::2], strict=False)] if active else list(spent)
        table(name, each)
    scene.neural_avatar_preview.show_bones = False
    view = viewport.all_views()[0]

    uploads, drafts, full, network, whole = [], [], [], [], []
    for number in range(8):
        person.pose.bones["RElbow"].rotation_euler[0] = 0.3 + 0.02 * number
        changed = time.perf_counter()
        before = view.preview.picture
        yield lambda before=before: view.preview.picture is not before
        drafts.append((time.perf_counter() - changed) * 1e3)
        spent.clear()
        moment = time.monotonic()
        yield stage.drawn_since(moment)
        uploads += spent[:1]
        yield stage.finished
        full.append((time.perf_counter() - changed) * 1e3)
        seconds = view.preview.picture.seconds
        network.append(seconds["network"] * 1e3)
        whole.append(view.preview.latency * 1e3)
    table("draw, with a new picture to upload", uploads)
    table("latency to a draft", drafts)
    table("latency to full quality (0.2 s of rest in it)", full)
    table("of which request to picture, full quality", whole)
    table("of which network, full quality", network)

    viewport.cache.clear()
    rates = []
    play = bpy.ops.screen.animation_play
    with stage.override():
        play()
    end = time.monotonic() + 2 * SECONDS

    def playing() -> bool:
        rates.append(view.preview.rate)
        return time.monotonic() > end

    yield playing
    table("rate of pictures in a first playback", rates[len(rates) // 2 :], "1/s")
    count = {"frames": 0}
    bpy.app.handlers.frame_change_post.append(lambda *_: count.__setitem__("frames", count["frames"] + 1))
    scene.frame_end = 24
    # Until every frame of the loop has its picture: nothing new is kept in two rounds.
    known = {"pictures": -1, "since": 0}

    def settled() -> bool:
        if len(viewport.cache) != known["pictures"]:
            known.update(pictures=len(viewport.cache), since=count["frames"])
        return count["frames"] - known["since"] > 50

    yield settled
    before = memory()
    count["frames"] = 0
    spent.clear()
    yield lambda: count["frames"] > 250
    table("playback of 250 frames leaves behind", [(memory() - before) / 2**20], "MB")
    table("draw, second playback", list(spent))
    table("rate of pictures in a second playback", [view.preview.rate], "1/s")
    with stage.override():
        play()
    yield stage.finished
    end = time.monotonic() + SECONDS
    cpu = time.process_time()
    waiting = {"timers": bpy.app.timers.is_registered(viewport._tick)}
    stage.tell(timers_when_idle=waiting["timers"])
    # The benchmark's own looks, 50 a second, are in this figure.
    yield lambda: time.monotonic() > end
    table(f"CPU in {SECONDS:.0f} idle seconds", [(time.process_time() - cpu) * 1e3])
    viewport.show, bones.draw = genuine
    assert words is overlay._draw_words

    starts = []
    for _ in range(3):
        addon_utils.disable(stage.PACKAGE)
        for name in [n for n in sys.modules if n.startswith(stage.PACKAGE)]:
            del sys.modules[name]
        started = time.perf_counter()
        addon_utils.enable(stage.PACKAGE)
        starts.append((time.perf_counter() - started) * 1e3)
    table("enabling the add-on (numpy is loaded)", starts)


stage.play(story)
