# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: an avatar keeps its look under other view transforms. Arguments: avatar, output folder."""

import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import display, look  # noqa: E402


def picture(name):
    error = harness.render(scene, out / f"{name}.png", "PNG")
    assert not error, error


scene = harness.new_scene()
harness.add_person(avatar)
# What is saved as a picture must be opaque: transparent pixels are mixed before the view transform.
scene.render.film_transparent = True
picture("standard")
facts = {"standard_has_no_table": look.table(scene) is None}
settings = scene.neural_avatar_render
settings.keep_look = True
facts["standard_keeps"] = look.table(scene) is None
before = {n: getattr(scene.render.image_settings, n) for n in ("file_format", "color_mode", "color_depth")}
errors = {}
dice = np.random.default_rng(0)
colors = dice.uniform(0.02, 0.9, (4000, 3))
colors = colors[np.ptp(colors, axis=1) < 0.4]
for name, transform, scene_look, exposure in (
    ("agx", "AgX", "None", 0.0), ("agx_punchy", "AgX", "AgX - Punchy", 0.5), ("filmic", "Filmic", "None", 0.0),
):  # fmt: skip
    scene.view_settings.view_transform = transform
    scene.view_settings.look, scene.view_settings.exposure = scene_look, exposure
    settings.keep_look = False
    picture(f"{name}_plain")
    settings.keep_look = True
    table = look.table(scene)
    assert table is look.table(scene)
    # Trilinear, as the renderer reads it.
    place = colors * (look.STEPS - 1)
    corner = place.astype(int)
    share = place - corner
    stored = np.zeros_like(colors)
    for i in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(i, share, 1 - share), 1)
        stored += weight[:, None] * table[tuple((corner + i).T)]
    off = np.abs(display.shown(scene, look.light_of(stored)) - colors).max(1) * 255
    errors[name] = [float(np.percentile(off, q)) for q in (50, 90, 99)]
    facts[f"{name}_range"] = [float(look.light_of(table).min()), float(look.light_of(table).max())]
    picture(f"{name}_kept")
facts["settings_kept"] = before == {n: getattr(scene.render.image_settings, n) for n in before}
facts["images"] = len(bpy.data.images)
assert bpy.ops.neural_avatar.use_standard() == {"FINISHED"}
picture("button")

# A view that is drawn never waits for a table: one is made when its settings rest, and no animation plays.
moment, playing, made = 0.0, False, []
look.time = SimpleNamespace(monotonic=lambda: moment)
look.windows = SimpleNamespace(is_playing=lambda: playing, redraw=lambda: made.append("redraw"))
look._inverse = lambda ask: made.append(scene.view_settings.exposure) or np.full((2, 2, 2, 3), len(made))
scene.view_settings.view_transform = "AgX"


def drawn(exposure, seconds=0.0):
    """The table that the view is drawn with, by its exposure, and whether the timer goes on after some seconds."""
    global moment
    scene.view_settings.exposure = exposure
    key, table = look.prepared(scene)
    assert (key is None) == (table is None) and (key is None or look._tables[key] is table)
    moment += seconds
    return [None if key is None else round(key[3], 2), look._make_awaited() is not None]


facts["first"] = drawn(0.1, 0.4)
facts["dragged"] = [drawn(0.1 + 0.01 * i, 0.1) for i in range(1, 10)]
facts["made_dragging"] = list(made)
facts["rested"] = [drawn(0.25, 1.0), drawn(0.25)]
facts["made_resting"] = [round(x, 2) if isinstance(x, float) else x for x in made]
made.clear()
playing = True
facts["played"] = [drawn(0.3 + 0.1 * i, 1.0) for i in range(3)]
facts["made_playing"] = list(made)
playing = False
facts["stopped"] = [look._make_awaited() is not None, drawn(0.5), len(made)]
# A setting that has gone meanwhile is not what a table is made for.
look.prepared(scene)
scene.view_settings.exposure = 0.7
look.prepared(scene)
scene.view_settings.exposure, moment = 0.5, moment + 1
facts["gone"] = [look._make_awaited() is not None, len(made)]
harness.tell(errors=errors, **facts)
