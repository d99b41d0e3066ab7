# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a user's output settings under Keep Avatar's Look. Arguments: avatar, output folder."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1], Path(sys.argv[2])
RECENT = bpy.app.version >= (5, 0)
harness.enable()
from neural_avatar.addon import display  # noqa: E402

scene = harness.new_scene(64, 48)
harness.add_person(avatar)
scene.view_settings.view_transform = "AgX"
scene.neural_avatar_render.keep_look = True
settings = scene.render.image_settings


def facts(thing: object) -> dict[str, object]:
    """All settings of a thing and of what belongs to it."""
    found = {}
    for prop in thing.bl_rna.properties:
        if prop.identifier == "rna_type":
            continue
        value = getattr(thing, prop.identifier)
        if prop.type == "POINTER":
            found[prop.identifier] = facts(value) if value is not None else None
        elif prop.type != "COLLECTION":
            found[prop.identifier] = list(value) if getattr(prop, "is_array", False) else value
    return found


def media(kind: str) -> None:
    if RECENT:
        settings.media_type = kind


def exr() -> None:
    media("IMAGE")
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    settings.color_management = "OVERRIDE"
    settings.linear_colorspace_settings.name = "ACES2065-1"


def png() -> None:
    media("IMAGE")
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    settings.color_management = "OVERRIDE"
    settings.view_settings.view_transform, settings.view_settings.exposure = "Filmic", 1.5


def movie() -> None:
    media("VIDEO")
    settings.file_format = "FFMPEG"
    film = scene.render.ffmpeg
    film.format, film.codec = "MKV", "H264"
    film.constant_rate_factor, film.gopsize = "NONE", 7
    film.video_bitrate, film.minrate, film.maxrate = 4321, 12, 5432
    settings.color_management = "OVERRIDE"
    settings.view_settings.view_transform = "Raw"


def still(path: Path) -> None:
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


kept = {}
# Each gives the table anew: other exposures.
for case, (choose, ending) in enumerate(((exr, "exr"), (png, "png"), (movie, "mkv"))):
    choose()
    scene.view_settings.exposure = 0.1 * (case + 1)
    before = facts(settings), facts(scene.render.ffmpeg)
    if ending == "mkv":
        scene.frame_start = scene.frame_end = 1
        scene.render.filepath = str(out / "film.mkv")
        bpy.ops.render.render(animation=True)
    else:
        still(out / f"{ending}_first.{ending}")
        still(out / f"{ending}_second.{ending}")
    after = facts(settings), facts(scene.render.ffmpeg)
    kept[ending] = [
        before == after,
        [k for one, two in zip(before, after, strict=True) for k in one if one[k] != two[k]],
    ]
harness.tell(kept=kept)

# What our own scene shows is what the user's shows, curves, looks and white balance included.
png()
settings.color_mode, settings.color_depth, settings.color_management = "RGB", "16", "FOLLOW_SCENE"
scene.render.dither_intensity = 0
view = scene.view_settings
view.look, view.exposure, view.gamma = "AgX - Punchy", 0.4, 1.2
view.use_curve_mapping = True
curve = view.curve_mapping.curves[3]
curve.points.new(0.3, 0.6)
curve.points.new(0.6, 0.5).handle_type = "VECTOR"
view.curve_mapping.curves[0].points[1].location = (0.9, 0.7)
view.curve_mapping.black_level, view.curve_mapping.extend = (0.01, 0.0, 0.02), "HORIZONTAL"
view.curve_mapping.update()
if hasattr(view, "use_white_balance"):
    view.use_white_balance, view.white_balance_temperature = True, 5000
light = np.random.default_rng(1).uniform(0, 2, (64, 3))
image = bpy.data.images.new("Light", 64, 1, float_buffer=True)
image.pixels.foreach_set(np.concatenate([light, np.ones((64, 1))], 1).astype(np.float32).reshape(-1))
image.save_render(str(out / "light.png"), scene=scene)
bpy.data.images.remove(image)
image = bpy.data.images.load(str(out / "light.png"))
image.colorspace_settings.name = "Non-Color"
wanted = np.array(image.pixels).reshape(-1, image.channels)[:, :3]
bpy.data.images.remove(image)
names = sorted(s.name for s in bpy.data.scenes)
off = float(np.abs(display.shown(scene, light) - wanted).max())
harness.tell(off=off, scenes=sorted(s.name for s in bpy.data.scenes) == names == [scene.name])
harness.tell(images=[i.name for i in bpy.data.images if i.name.startswith((".", "neural"))])
