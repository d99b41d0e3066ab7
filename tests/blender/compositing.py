# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: avatars in a set. Arguments: avatar, output folder."""

import json
import sys
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
FIVE = bpy.app.version >= (5, 0)
harness.enable()
from neural_avatar.addon import compositing, compositor  # noqa: E402


def save(path):
    """The picture as it leaves the compositor, 32 bit."""
    settings = scene.render.image_settings
    if FIVE:
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def shape(tree):
    """Links of a tree, as names."""
    return sorted(
        [link.from_node.name, link.from_socket.name, link.to_node.name, link.to_socket.name] for link in tree.links
    )


scene = harness.new_scene()
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 4, False, "CPU"
scene.world = bpy.data.worlds.new("World")
scene.view_layers[0].use_pass_z = False
harness.glowing_box("Back", (0, 1.5, 1), (6, 0.1, 4), (0, 0, 1))
front = harness.glowing_box("Front", (0.0, -1.0, 0.45), (3, 0.05, 0.9), (0, 1, 0))
person = harness.add_person(avatar)
scene.frame_start, scene.frame_end = 3, 9
facts = {}

# Nothing set up: nobody in the picture.
save(out / "plain.exr")

# One click, and again.
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
people = compositing.scene_of_avatars(scene)
once = shape(compositor.tree_of(scene))
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
facts["again"] = shape(compositor.tree_of(scene)) == once and compositing.scene_of_avatars(scene) == people
facts["engine"], facts["scenes"] = scene.render.engine, len(bpy.data.scenes)
save(out / "joined.exr")
front.location.y = 1.2
save(out / "behind.exr")
front.location.y = -1.0

# What changes later is followed: camera, size, frames, another person, another view layer's exclusion.
other_camera = bpy.data.objects.new("Other", scene.camera.data.copy())
other_camera.matrix_world = scene.camera.matrix_world.copy()
other_camera.location.x += 0.4
scene.collection.objects.link(other_camera)
first_camera = scene.camera
scene.camera = other_camera
scene.render.resolution_x, scene.frame_end = 200, 11
save(out / "followed.exr")
facts["followed"] = [people.camera.name, people.render.resolution_x, people.frame_end]
scene.camera, scene.render.resolution_x = first_camera, 160
marker = scene.timeline_markers.new("Cut", frame=4)
marker.camera = other_camera
scene.timeline_markers.new("Start", frame=1).camera = first_camera
scene.frame_set(4)
save(out / "cut.exr")
facts["cut"] = people.camera.name
scene.timeline_markers.clear()
scene.camera = first_camera
# A moment between two frames, and the same as a whole frame.
for x, frame in ((-0.3, 1), (0.3, 2)):
    person.location.x = x
    person.keyframe_insert("location", frame=frame)
scene.frame_set(1, subframe=0.75)
save(out / "between.exr")
x = person.location.x
facts["between"] = [people.frame_current, people.frame_subframe, round(x, 1)]
person.animation_data_clear()
person.location.x = x
scene.frame_set(1)
save(out / "between_still.exr")
facts["whole"] = [people.frame_current, people.frame_subframe]
person.location.x = 0.0
away = bpy.data.collections.new("Away")
scene.collection.children.link(away)
scene.collection.objects.unlink(person)
away.objects.link(person)
away.hide_render = True
save(out / "hidden.exr")
facts["hidden"] = sorted(o.name for o in people.objects)
away.hide_render = False

# Mend what a user has torn: the scene of the avatars is gone.
bpy.data.scenes.remove(people)
bpy.ops.neural_avatar.setup_compositing()
save(out / "mended.exr")

# What a user puts into the scene of the avatars stays; what leaves the set leaves that scene too.
people = compositing.scene_of_avatars(scene)
mine, guest = bpy.data.objects.new("Mine", None), person.copy()
people.collection.objects.link(mine), scene.collection.objects.link(guest)
compositing.before_save()
guest.name = "Renamed"
compositing.before_save()
there = sorted(o.name for o in people.objects)
guest.name = "Renamed again"
scene.collection.objects.unlink(guest)
compositing.before_save()
facts["guests"] = [there, sorted(o.name for o in people.objects)]
# What a user has put there stays there, whether the set has it too or not.
scene.collection.objects.link(mine)
compositing.before_save()
scene.collection.objects.unlink(mine)
compositing.before_save()
facts["stays"] = sorted(o.name for o in people.objects)
# A file of before named what it had from the set, and had all in one place.
for collection in list(people.collection.children):
    bpy.data.collections.remove(collection)
for obj in {person, scene.camera, guest} - set(people.collection.objects):
    people.collection.objects.link(obj)
people["neural_avatar_linked"] = json.dumps([person.name, scene.camera.name, guest.name])
save(out / "older.exr")
facts["older"] = [sorted(o.name for o in people.objects), "neural_avatar_linked" in people]
facts["person"] = person.name

# An animation in the user's scene: only it writes.
scene.frame_start, scene.frame_end = 1, 2
scene.render.filepath = str(out / "film_")
bpy.ops.render.render(animation=True)

# Take it back.
bpy.ops.neural_avatar.remove_compositing()
facts["removed"] = [compositor.tree_of(scene) is None, len(bpy.data.scenes), len(bpy.data.node_groups)]
facts["mine"] = [s.name for s in mine.users_scene] == [scene.name] and not guest.users_scene
facts["collections"] = sorted(c.name for c in bpy.data.collections)
bpy.data.objects.remove(mine)
save(out / "removed.exr")

# A user's own tree keeps its nodes: blue is turned off, before and after.
for place in ("END", "START"):
    tree, end = harness.compositor(scene, "Mine")
    layers, curves = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("CompositorNodeBrightContrast")
    layers.scene = scene
    curves.inputs["Bright" if "Bright" in curves.inputs else "Brightness"].default_value = 30.0
    picture = next(s for s in curves.inputs if s.type == "RGBA")
    tree.links.new(layers.outputs["Image"], picture)
    tree.links.new(curves.outputs[0], end.inputs[0])
    before = shape(tree)
    bpy.ops.neural_avatar.setup_compositing(place=place)
    save(out / f"own_{place}.exr")
    bpy.ops.neural_avatar.remove_compositing()
    facts[f"own_{place}"] = shape(tree) == before
    if not FIVE:
        tree.nodes.clear()
        scene.use_nodes = False
    else:
        scene.compositing_node_group = None

# Two view layers: the thing in front is in one, the wall in the other.
second = scene.view_layers.new("Second")
fore = bpy.data.collections.new("Fore")
scene.collection.children.link(fore)
scene.collection.objects.unlink(front)
fore.objects.link(front)
scene.view_layers[0].layer_collection.children["Fore"].exclude = True
second.layer_collection.children["Away"].exclude = True
scene.render.film_transparent = True
for thing in ("Back",):
    bpy.data.objects[thing].visible_camera = True
back = bpy.data.collections.new("Rear")
scene.collection.children.link(back)
scene.collection.objects.unlink(bpy.data.objects["Back"])
back.objects.link(bpy.data.objects["Back"])
second.layer_collection.children["Rear"].exclude = True
tree, end = harness.compositor(scene, "Layers")
one, two, over = (tree.nodes.new(f"CompositorNode{n}") for n in ("RLayers", "RLayers", "AlphaOver"))
one.scene = two.scene = scene
one.layer, two.layer = scene.view_layers[0].name, "Second"
background, foreground = (0, 1) if FIVE else (1, 2)
tree.links.new(one.outputs["Image"], over.inputs[background])
tree.links.new(two.outputs["Image"], over.inputs[foreground])
tree.links.new(over.outputs[0], end.inputs[0])
bpy.ops.neural_avatar.setup_compositing()
save(out / "layers.exr")
bpy.ops.neural_avatar.remove_compositing()

# The scene's engine was ours: the set gets one of its own, and ours comes back.
scene.render.engine = "NEURAL_AVATAR"
bpy.ops.neural_avatar.setup_compositing()
facts["set_engine"] = scene.render.engine
bpy.ops.neural_avatar.remove_compositing()
facts["engine_back"] = scene.render.engine

# Nobody there.
errors = []
bpy.data.objects.remove(person)
try:
    bpy.ops.neural_avatar.setup_compositing()
except RuntimeError as error:
    errors.append(str(error))
facts["errors"], facts["scenes_after"] = errors, len(bpy.data.scenes)
harness.tell(**facts)
