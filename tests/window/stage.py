# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts share that run inside a real Blender window: the add-on, a scene, steps, and facts as JSON lines.

A script gives :func:`play` a generator; each `yield` hands the window back to Blender until a condition holds. Nothing
waits by the clock: every wait has an event and a limit.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import addon_utils
import bpy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "blender"))
import harness  # noqa: E402

#: The name under which Blender knows the add-on: the checkout stands in the extensions' folder of this run.
PACKAGE = "bl_ext.user_default.neural_avatar"

OUT = Path(os.environ["NEURAL_AVATAR_OUT"])
AVATAR = os.environ.get("NEURAL_AVATAR_FILE", str(HERE.parents[1] / "assets" / "demo.avatar"))
LIMIT = 180.0


def tell(**facts) -> None:
    """A line for the test to read."""
    with open(OUT / "facts.jsonl", "a") as file:
        file.write(json.dumps(facts) + "\n")


def module(name: str):
    """A module of the add-on, such as 'addon.viewport'."""
    return importlib.import_module(f"{PACKAGE}.{name}")


def window():
    """Blender's window, its 3D view and the view's main region."""
    win = bpy.context.window_manager.windows[0]
    area = max((a for a in win.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    return win, area, next(r for r in area.regions if r.type == "WINDOW")


def override():
    """A context inside the 3D view."""
    win, area, region = window()
    return bpy.context.temp_override(window=win, screen=win.screen, area=area, region=region)


def new_scene(avatar: str = "", maximise: bool = False):
    """Nothing but a person who stands at the origin and a camera that looks at them."""
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    scene = bpy.context.scene
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x, scene.render.resolution_y = 960, 540
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0.5, -4.4, 1.1), (1.5308, 0.0, 0.113)
    scene.collection.objects.link(camera)
    scene.camera = camera
    bpy.ops.object.select_all(action="DESELECT")
    person = harness.add_person(avatar or AVATAR)
    if maximise:
        with override():
            bpy.ops.screen.screen_full_area(use_hide_panels=True)
    with override():
        bpy.context.space_data.region_3d.view_perspective = "CAMERA"
        bpy.context.space_data.overlay.show_floor = True
    return scene, person


def swing(person, frames: int = 24) -> None:
    """An animation: the arm swings, the body goes sideways."""
    for frame, angle, side in ((1, -0.6, -0.2), (frames // 2, 0.6, 0.2), (frames, -0.6, -0.2)):
        bone = person.pose.bones["RElbow"]
        bone.rotation_euler = (angle, 0.0, angle)
        bone.keyframe_insert("rotation_euler", frame=frame)
        person.location.x = side
        person.keyframe_insert("location", frame=frame)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, frames


def shade(kind: str, engine: str = "NEURAL_AVATAR") -> None:
    """Set the view's shading."""
    window()[1].spaces.active.shading.type = kind
    bpy.context.scene.render.engine = engine


def redraw() -> None:
    window()[2].tag_redraw()


def picture(name: str) -> Path:
    """The whole window as the screen shows it."""
    path = OUT / f"{name}.png"
    subprocess.run(["import", "-window", "root", str(path)], check=True)
    return path


def region_place() -> list[int]:
    """The 3D view's place in the window's picture: x, y of the top left corner, width, height."""
    win, _, region = window()
    return [region.x, win.height - region.y - region.height, region.width, region.height]


def flat_box(obj) -> list[float]:
    """Where a mesh is seen in the 3D view: left, bottom, right, top in pixels of the region."""
    from bpy_extras.view3d_utils import location_3d_to_region_2d

    _, area, region = window()
    data = area.spaces.active.region_3d
    flat = [location_3d_to_region_2d(region, data, obj.matrix_world @ v.co) for v in obj.data.vertices]
    return [min(p.x for p in flat), min(p.y for p in flat), max(p.x for p in flat), max(p.y for p in flat)]


def finished() -> bool:
    """Have all views what they wish for?"""
    views = module("addon.viewport").all_views()
    return bool(views) and all(v.preview.state.name == "HIGH" and v.preview.wait_seconds() is None for v in views)


def drawn_since(moment: float):
    """A condition: the view has been drawn after a moment."""
    viewport = module("addon.viewport")
    return lambda: any(v.drawn_at > moment for v in viewport.all_views())


def play(story) -> None:
    """Run a script's generator from Blender's timer, then quit. It yields conditions; the next step comes when one
    holds."""
    bpy.context.preferences.view.show_splash = False
    state = {"condition": lambda: True, "since": time.monotonic(), "told": False}
    steps = None

    def step():
        nonlocal steps
        try:
            if steps is None:
                assert addon_utils.enable(PACKAGE, default_set=True) is not None, "the add-on cannot be enabled"
                steps = story()
            if not state["condition"]():
                if time.monotonic() - state["since"] > LIMIT:
                    raise TimeoutError(f"waited {LIMIT} s for line {steps.gi_frame.f_lineno} of the script")
                return 0.02
            state["condition"] = next(steps) or (lambda: True)
            state["since"] = time.monotonic()
            return 0.02
        except StopIteration:
            tell(finished=True)
        except BaseException:
            tell(error=traceback.format_exc())
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(step, first_interval=0.5, persistent=True)
