# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: whom a 3D view shows, and through which camera. Arguments: avatar, folder."""

import os
import sys
from types import SimpleNamespace

import bpy
import harness
import numpy as np
from mathutils import Matrix

harness.enable()
from neural_avatar.addon import scene as scenes  # noqa: E402
from neural_avatar.addon import viewport  # noqa: E402
from neural_avatar.addon.preview_view import View, make_wish  # noqa: E402
from neural_avatar.neural_backend.interface.messages import BackendError  # noqa: E402

scene = harness.new_scene()
person = harness.add_person(sys.argv[1])
# A copy of the start-up file's window, and in it a 3D view.
area = bpy.context.window_manager.windows[0].screen.areas[0]
area.type = "VIEW_3D"
space = area.spaces.active
region = next(r for r in area.regions if r.type == "WINDOW")
region_data = SimpleNamespace(view_perspective="CAMERA", window_matrix=Matrix(), view_matrix=Matrix())
context = SimpleNamespace(scene=scene, space_data=space, region=region, region_data=region_data)
viewport.start()


def seen() -> list[float]:
    """Where the people stand that the view shows, along X."""
    bpy.context.view_layer.update()
    viewport._changed()
    people = viewport.people_in(context, bpy.context.evaluated_depsgraph_get())
    return sorted(round(float(p.joints[8, 0]), 2) for p in people)


facts = {"alone": seen()}
source = bpy.data.collections.new("Source")
source.objects.link(person)
empty = bpy.data.objects.new("Instance", None)
empty.instance_type, empty.instance_collection, empty.location = "COLLECTION", source, (1.0, 0.0, 0.0)
scene.collection.objects.link(empty)
facts["both"] = seen()
person.hide_set(True)
facts["source hidden"] = seen()
person.hide_set(False)
empty.hide_set(True)
facts["instance hidden"] = seen()
empty.hide_set(False)

# A render region cuts what Blender itself cuts by it.
for name in ("min_x", "min_y"):
    setattr(space, f"render_border_{name}", 0.5)
region_data.view_perspective, space.use_render_border = "PERSP", True
clips = {}
for shading, engine in (
    ("SOLID", "NEURAL_AVATAR"), ("RENDERED", "NEURAL_AVATAR"), ("RENDERED", "CYCLES"), ("MATERIAL", "CYCLES"),
    ("RENDERED", "BLENDER_WORKBENCH"),
):  # fmt: skip
    scene.render.engine = engine
    space.shading.type = shading
    clip = viewport.view_of(context).clip
    clips[f"{shading} {engine}"] = clip and [2 * clip.x >= region.width - 1, 2 * clip.y >= region.height - 1]
facts["clips"] = clips
scene.render.engine, space.shading.type = "NEURAL_AVATAR", "RENDERED"
region_data.view_perspective, space.use_render_border = "CAMERA", False

# A view's own camera, with a plate that the scene's camera lacks: Blender draws the plate, we do not cover it.
own = bpy.data.objects.new("Own", bpy.data.cameras.new("Own"))
scene.collection.objects.link(own)
own.data.show_background_images = True
own.data.background_images.new().image = bpy.data.images.new("Plate", 8, 8)
scene.render.film_transparent, scene.world = False, bpy.data.worlds.new("World")
filled = []
viewport.draw.fill = lambda *place: filled.append(place)
viewport.show = lambda *arguments, **keywords: None
counts = []
for camera in (scene.camera, own):
    space.use_local_camera, space.camera = True, camera
    viewport.draw_engine(context, bpy.context.evaluated_depsgraph_get())
    counts.append(len(filled))
facts["filled"] = counts

# Who is beyond the far end of the range is drawn nowhere.
bpy.data.objects.remove(empty)
scene.render.film_transparent = True
for end in (2.0, 100.0):
    scene.camera.data.clip_end = end
    trouble = harness.render(scene, os.path.join(sys.argv[2], f"{end:.0f}.png"), "PNG")
    picture = bpy.data.images.load(os.path.join(sys.argv[2], f"{end:.0f}.png"))
    depsgraph = bpy.context.evaluated_depsgraph_get()
    people = scenes.avatar_instances(depsgraph)
    wishes = []
    for kind in ("PERSP", "ORTHO"):
        scene.camera.data.type = kind
        seen_by = scene.camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
        projection = np.array(seen_by.calc_matrix_camera(depsgraph, x=160, y=120), np.float64)
        view = View(160, 120, projection, np.array(seen_by.matrix_world.normalized().inverted(), np.float64))
        wishes.append(len(make_wish(view, people).people))
    scene.camera.data.type = "PERSP"
    try:
        bpy.ops.neural_avatar.bake_clip(filepath=os.path.join(sys.argv[2], f"{end:.0f}"), frame_end=1)
        said = ""
    except RuntimeError as error:
        said = str(error).strip()
    facts[f"{end:.0f}"] = [trouble, round(max(list(picture.pixels)[3::4]), 2), wishes, said]

# While the scene cannot be read nothing is asked for it, and the timer ends.
cancelled = []
frame = SimpleNamespace(poll=lambda: False, cancel=lambda: cancelled.append(True))
watched = viewport.Viewed("view", viewport.Preview(lambda request: frame, viewport.cache))
viewport._state.views[region.as_pointer()] = watched
watched.preview.look(make_wish(view, people))
facts["ticks"] = []
for error in (None, BackendError("joints-unmapped", "The joint is lacking."), None):
    watched.people_error = error
    facts["ticks"].append([viewport._tick() is not None, watched.preview.is_busy, len(cancelled)])
harness.tell(**facts)
