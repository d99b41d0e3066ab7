# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: the shadow proxy. Arguments: avatar, BVH file ('' for none), output folder."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, motion, out = sys.argv[1], sys.argv[2], Path(sys.argv[3])
harness.enable()
from neural_avatar.addon import avatars, joints, shadow  # noqa: E402


def save(path):
    settings = scene.render.image_settings
    if bpy.app.version >= (5, 0):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def posed(person):
    """Vertices of the posed mesh and joints, in the world."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    (proxy,) = shadow.proxies_of(person)
    evaluated = proxy.evaluated_get(depsgraph)
    mesh = evaluated.to_mesh()
    vertices = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", vertices)
    world = np.array(evaluated.matrix_world)
    there = vertices.reshape(-1, 3) @ world[:3, :3].T + world[:3, 3]
    points, confidence = joints.world_joints(
        person.evaluated_get(depsgraph), avatars.header(avatars.absolute_path(person))
    )
    return there, points, confidence


scene = harness.new_scene()
person = harness.add_person(avatar)
arrays, facts = {}, {}
# The avatar is in another scene too, as in one that renders it for a set.
bpy.data.scenes.new("Another").collection.objects.link(person)
facts["first"] = person.users_collection[0].name_full
assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
(first,) = shadow.proxies_of(person)
facts["scenes"] = [s.name for s in first.users_scene] == [scene.name]
first.data.materials.clear()
assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
(again,) = shadow.proxies_of(person)
facts["same"] = again == first and len(again.data.materials) == 0
facts["meshes"] = len(bpy.data.meshes)
names = ("camera", "shadow", "glossy", "diffuse", "transmission")
facts["visible"] = {name: getattr(again, f"visible_{name}") for name in names}
person.location, person.rotation_euler = (0.3, 0.1, 0.0), (0, 0, 0.4)
bpy.context.view_layer.update()
arrays["own_vertices"], arrays["own_joints"], arrays["own_confidence"] = posed(person)

# Cycles: a shadow on the floor, nothing of the mesh; a mirror shows it.
person.location, person.rotation_euler = (0, 0, 0), (0, 0, 0)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 16, False, "CPU"
scene.render.film_transparent = True
bpy.ops.mesh.primitive_plane_add(size=8)
floor = bpy.context.object
material = bpy.data.materials.new("Floor")
material.use_nodes = True
floor.data.materials.append(material)
sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
sun.data.energy, sun.rotation_euler = 3.0, (0.35, 0.2, 0)
scene.collection.objects.link(sun)
save(out / "with.exr")
for name in ("hide_render", "hide_viewport"):
    for frame, hidden in ((1, False), (2, True)):
        setattr(person, name, hidden)
        person.keyframe_insert(name, frame=frame)
scene.frame_set(2)
save(out / "without.exr")
facts["hidden"] = [again.hide_render, again.hide_viewport]
scene.frame_set(1)
save(out / "shown.exr")
facts["shown"] = [again.hide_render, again.hide_viewport]
# Who has let go of it keeps it so.
again.driver_remove("hide_render")
again.hide_render, again.hide_viewport = True, False
bpy.context.view_layer.objects.active = person
assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
again.pop(shadow._HIDES_ALONG)  # a proxy of an older version
assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
facts["drivers"], facts["kept"] = [d.data_path for d in again.animation_data.drivers], again.hide_render
again.animation_data_clear()
again.hide_render = False
assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
facts["mended"] = len(again.animation_data.drivers)
person.animation_data_clear()
surface = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
surface.inputs["Metallic"].default_value, surface.inputs["Roughness"].default_value = 1.0, 0.05
scene.world = bpy.data.worlds.new("World")
scene.world.use_nodes = True
save(out / "mirror.exr")

# Another rig, in motion.
if motion:
    bpy.ops.import_anim.bvh(filepath=motion, global_scale=0.01)
    rig = bpy.context.object
    rig.neural_avatar.avatar_path = avatar
    assert bpy.ops.neural_avatar.shadow_proxy() == {"FINISHED"}
    for frame in (1, 40, 90):
        scene.frame_set(frame)
        arrays[f"bvh{frame}_vertices"], arrays[f"bvh{frame}_joints"], arrays[f"bvh{frame}_confidence"] = posed(rig)
np.savez(out / "shadow.npz", **arrays)
harness.tell(**facts)
