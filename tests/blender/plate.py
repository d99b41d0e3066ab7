# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: pictures behind the avatar. Arguments: avatar, folder with the pictures, output folder, and as
JSON the cases, each a name, a file and settings."""

import json
import shutil
import sys
from pathlib import Path

import bpy
import harness

avatar, pictures, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
harness.enable()
from neural_avatar.addon import final, plate, session  # noqa: E402

scene = harness.new_scene()
harness.add_person(avatar)
scene.world = bpy.data.worlds.new("World")
scene.world.use_nodes = True
scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.05, 0.1, 0.2, 1)
camera = scene.camera.data
camera.show_background_images = True
background = camera.background_images.new()
camera.background_images.new()  # one for which nothing has been chosen

told = []
genuine_tell = final.tell


def tell(engine, level, message, details=""):
    told.append([level, message])
    genuine_tell(engine, level, message, details)


final.tell = tell
warnings = {}

conversions = 0
genuine = plate.to_scene_linear


def counted(*arguments):
    global conversions
    conversions += 1
    return genuine(*arguments)


plate.to_scene_linear = counted


def load(name: str, source: str = "FILE") -> None:
    background.image = bpy.data.images.load(str(pictures / name))
    background.image.source = source
    background.image_user.frame_duration, background.image_user.frame_start = 3, 1


def picture(name: str) -> None:
    told.clear()
    error = harness.render(scene, out / f"{name}.exr")
    assert not error, error
    if told:
        warnings[name] = list(told)


for case in json.loads(sys.argv[4]):
    load(case["file"])
    settings = {"frame_method": "STRETCH", "alpha": 1.0, "offset": (0, 0), "scale": 1.0, "rotation": 0.0}
    settings |= {"use_flip_x": False, "display_depth": "BACK"} | case["settings"]
    for key, value in settings.items():
        setattr(background, key, value)
    scene.render.film_transparent = not case.get("film")
    picture(case["name"])
background.alpha, background.offset, background.scale, background.rotation = 1.0, (0, 0), 1.0, 0.0
background.use_flip_x, background.frame_method, background.display_depth = False, "STRETCH", "BACK"
scene.render.film_transparent = True

# Moving pictures, frame by frame and not in order.
for kind, name, source in (("sequence", "moving_0001.png", "SEQUENCE"), ("movie", "moving.mov", "MOVIE")):
    load(name, source)
    for frame in (1, 3, 2):
        scene.frame_set(frame)
        picture(f"{kind}_{frame}")
# A picture of the row is lacking.
for number in (1, 3):
    shutil.copy(pictures / f"moving_{number:04d}.png", out / f"gap_{number:04d}.png")
background.image = bpy.data.images.load(str(out / "gap_0001.png"))
background.image.source = "SEQUENCE"
for frame in (1, 2, 3):
    scene.frame_set(frame)
    picture(f"gap_{frame}")
bpy.data.images.remove(background.image)
# What a user has made of the same files stays as it is.
for image in (i for i in bpy.data.images if i.source != "VIEWER"):
    image.source, image.colorspace_settings.name = "FILE", "Non-Color"


def images() -> list[list[object]]:
    """All that are in the file."""
    return [[i.name, i.source, i.colorspace_settings.name] for i in bpy.data.images if not i.name.startswith(".")]


before = images()
background.source, background.use_camera_clip = "MOVIE_CLIP", False
for kind, name in (("clip", "moving.mov"), ("clips", "moving_0001.png")):
    background.clip = bpy.data.movieclips.load(str(pictures / name))
    for frame in (1, 3, 2):
        scene.frame_set(frame)
        picture(f"{kind}_{frame}")
harness.tell(images=before == images(), number=len(before), ours=len(bpy.data.images) - len(before))
background.clip.filepath = str(out / "nowhere.mov")
picture("clip_gone")
background.clip = bpy.data.movieclips[0]
picture("clip_again")
background.source = "IMAGE"
# Nothing of ours gets into the file, or stays in Blender without a renderer.
bpy.ops.wm.save_as_mainfile(filepath=str(out / "saved.blend"), copy=True)
with bpy.data.libraries.load(str(out / "saved.blend")) as (there, _):
    saved = [name for name in (*there.images, *there.textures) if name.startswith(".")]
background.source = "MOVIE_CLIP"
picture("clip_saved")
background.source = "IMAGE"
session.stop()
left = [one.name for kind in (bpy.data.images, bpy.data.textures) for one in kind if one.name.startswith(".")]
harness.tell(saved=saved, left=left)

# A still is converted once, unless it changes: painted, loaded again, or in other colours.
shutil.copy(pictures / "wide.png", out / "still.png")
background.image = bpy.data.images.load(str(out / "still.png"))
counts = {}


def count(name: str) -> None:
    global conversions
    conversions = 0
    picture(name)
    counts[name] = conversions


count("still_first")
count("still_again")
scene.frame_set(2)
count("still_moved")
background.image.colorspace_settings.name = "Non-Color"
count("still_raw")
background.image.colorspace_settings.name = "sRGB"
background.image.pixels[:] = [0.5, 0.25, 0.0, 1.0] * (len(background.image.pixels) // 4)
count("still_painted")
shutil.copy(pictures / "tall.png", out / "still.png")
background.image.reload()
count("still_reloaded")
scene.render.use_border = True
scene.render.border_min_x, scene.render.border_max_x = 0.25, 0.75
scene.render.border_min_y, scene.render.border_max_y = 0.25, 1.0
scene.render.use_crop_to_border = True
picture("still_border")
scene.render.use_border = False
background.image.filepath = str(out / "nowhere.png")
background.image.reload()
picture("gone")
harness.tell(counts=counts, warnings=warnings)
