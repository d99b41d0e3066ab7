# SPDX-License-Identifier: GPL-3.0-or-later
"""From render() called to the passes written, minus the backend's work, at 1920x1080.

add-on: time on the clock, minus what the backend says it worked; where the backend's network keeps every core busy,
Blender's own threads and this one wait for a core too. its CPU: time that the render's thread itself computed, without
the looks at cancel while it waits; what it does while the backend works (the backdrop) is in this figure alone.

Run it with a Python that holds bpy:

NEURAL_AVATAR_PYTHON=<Python with torch> <Python with bpy> benchmarks/addon_overhead.py PERSON.avatar
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import bpy

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7


def load_package() -> None:
    """Make the checkout importable as `neural_avatar`, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "neural_avatar", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["neural_avatar"] = module
    spec.loader.exec_module(module)


def make_scene(avatar: str) -> Any:
    """A person who stands at full height in a Full HD frame."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "NEURAL_AVATAR"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.film_transparent = 1920, 1080, True
    bpy.context.view_layer.use_pass_z = True
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -5.2, 0.95), (1.5708, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.ops.neural_avatar.add_person(filepath=avatar)
    return scene


def plate(camera: Any) -> None:
    """A picture of the frame's size behind the person."""
    image = bpy.data.images.new("Plate", 1920, 1080)
    image.generated_type = "COLOR_GRID"
    camera.data.show_background_images = True
    background = camera.data.background_images.new()
    background.image, background.alpha = image, 1.0


def main() -> None:
    """Print the table."""
    avatar = os.path.abspath(sys.argv[-1])
    load_package()
    addon = sys.modules["neural_avatar"]
    addon.register()  # type: ignore[attr-defined]
    from neural_avatar.addon import final

    scene = make_scene(avatar)
    spent = {"total": 0.0, "backend": 0.0, "cpu": 0.0, "waiting": 0.0}
    render, collect = final.render, final.collect

    def timed_render(*arguments: Any) -> None:
        spent["waiting"] = 0.0
        started, cpu = time.perf_counter(), time.thread_time()
        render(*arguments)
        spent["total"] = time.perf_counter() - started
        spent["cpu"] = time.thread_time() - cpu - spent["waiting"]

    def timed_collect(*arguments: Any) -> Any:
        cpu = time.thread_time()
        frame = collect(*arguments)
        # The backend's own count of its work: waiting for a message is the add-on's affair.
        spent["backend"], spent["waiting"] = sum(frame.seconds.values()), time.thread_time() - cpu
        return frame

    final.render, final.collect = timed_render, timed_collect
    background = scene.world = bpy.data.worlds.new("World")
    background.use_nodes = True

    def stand(transparent: bool, distance: float) -> None:
        scene.render.film_transparent = transparent
        scene.camera.location.y = -distance

    cases = (
        ("whole figure, transparent film", lambda: stand(True, 5.2)),
        ("whole figure, film colour", lambda: stand(False, 5.2)),
        ("fills the frame, transparent film", lambda: stand(True, 1.2)),
        ("fills the frame, film colour", lambda: stand(False, 1.2)),
        ("whole figure, plate", lambda: (stand(True, 5.2), plate(scene.camera))),
    )
    print(f"Blender {bpy.app.version_string}, 1920x1080, all passes, median of {REPEATS} (least to most), milliseconds")
    print(f"{'case':<36}{'whole':>8}{'backend':>9}{'add-on':>8}{'its CPU':>9}")
    for name, prepare in cases:
        prepare()
        bpy.ops.render.render()
        rows = []
        for _ in range(REPEATS):
            bpy.ops.render.render()
            rows.append((spent["total"] * 1e3, spent["backend"] * 1e3, spent["cpu"] * 1e3))
        own = [a - b for a, b, _ in rows]
        whole, backend, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        figures = f"{whole:8.0f}{backend:9.0f}{statistics.median(own):8.0f}{cpu:9.0f}"
        print(f"{name:<36}{figures}  ({min(own):.0f} to {max(own):.0f})")
    final.render, final.collect = render, collect
    addon.unregister()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
