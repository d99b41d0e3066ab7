# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: an avatar keeps its look under other view transforms. Arguments: avatar, output folder."""

import sys
from pathlib import Path

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
harness.tell(errors=errors, **facts)
