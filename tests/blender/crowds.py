# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: crowds of instances in a set, by geometry nodes, particles and a background set. Arguments:
avatar, output folder."""

import sys
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import compositing  # noqa: E402


def tree_of_instances(name, node_name, thing):
    """A node group that puts an instance on each point; what it instances is its input, or named in the node."""
    tree = bpy.data.node_groups.new(name, "GeometryNodeTree")
    sockets, new = tree.interface.new_socket, tree.nodes.new
    sockets("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    sockets("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    begin, end = new("NodeGroupInput"), new("NodeGroupOutput")
    place, info = new("GeometryNodeInstanceOnPoints"), new(node_name)
    kind = "Object" if node_name.endswith("ObjectInfo") else "Collection"
    if thing is None:
        sockets(kind, in_out="INPUT", socket_type=f"NodeSocket{kind}")
        tree.links.new(begin.outputs[kind], info.inputs[kind])
    else:
        info.inputs[kind].default_value = thing
    if kind == "Object":
        info.inputs["As Instance"].default_value = True
    tree.links.new(begin.outputs["Geometry"], place.inputs["Points"])
    tree.links.new(next(s for s in info.outputs if s.name in {"Geometry", "Instances"}), place.inputs["Instance"])
    tree.links.new(place.outputs["Instances"], end.inputs["Geometry"])
    return tree


def wrapped(tree):
    """The node group inside another."""
    outer = bpy.data.node_groups.new("Outer", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        outer.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    begin, inner, end = (outer.nodes.new(n) for n in ("NodeGroupInput", "GeometryNodeGroup", "NodeGroupOutput"))
    inner.node_tree = tree
    outer.links.new(begin.outputs[0], inner.inputs[0])
    outer.links.new(inner.outputs[0], end.inputs[0])
    return outer


def points(name, *places):
    """An object whose vertices are points."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(places, [], [])
    return bpy.data.objects.new(name, mesh)


def scattered(name, tree, **inputs):
    thing = points(name, (-0.4, 0, 0), (0.4, 0, 0))
    modifier = thing.modifiers.new("Crowd", "NODES")
    modifier.node_group = tree
    for item in tree.interface.items_tree:
        if item.name in inputs:
            modifier[item.identifier] = inputs[item.name]
    return thing


def save(name):
    """Render the set; returns what the avatars' scene holds."""
    settings = scene.render.image_settings
    if bpy.app.version >= (5, 0):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"
    scene.render.filepath = str(out / name)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    people = compositing.scene_of_avatars(scene)
    return sorted(obj.name for obj in people.objects) if people is not None else []


scene = harness.new_scene(80, 60)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
harness.glowing_box("Back", (0, 1.5, 1), (6, 0.1, 4), (0, 0, 1))
person = harness.add_person(avatar)
cast = bpy.data.collections.new("Cast")
cast.objects.link(person)
scene.collection.children.link(cast)
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
# Who is instanced stands nowhere himself.
scene.collection.objects.unlink(person)
scene.view_layers[0].layer_collection.children["Cast"].exclude = True
facts = {"none": save("none.exr")}

info, many = "GeometryNodeObjectInfo", "GeometryNodeCollectionInfo"
inner = tree_of_instances("Named", info, person)
inside = scattered("Inside", inner)  # its instances are instanced in turn
cases = {
    "named": scattered("named", inner),
    "nested": scattered("nested", wrapped(inner)),
    "object": scattered("object", tree_of_instances("Object", info, None), Object=person),
    "collection": scattered("collection", tree_of_instances("Collection", many, None), Collection=cast),
    "again": scattered("again", tree_of_instances("Again", info, inside)),
}
for name in ("particle", "particles"):
    bpy.ops.mesh.primitive_plane_add(size=0.5)
    ground = cases[name] = bpy.context.object
    ground.name = name
    scene.collection.objects.unlink(ground)
    ground.modifiers.new("Crowd", "PARTICLE_SYSTEM")
    how = ground.particle_systems[0].settings
    how.count, how.frame_start, how.frame_end, how.lifetime, how.physics_type = 2, 1, 1, 99, "NO"
    how.particle_size, how.use_rotation_instance = 1.0, True
    if name == "particle":
        how.render_type, how.instance_object = "OBJECT", person
    else:
        how.render_type, how.instance_collection, how.use_whole_collection = "COLLECTION", cast, True
empty = cases["empty"] = bpy.data.objects.new("empty", None)
empty.instance_type, empty.instance_collection = "COLLECTION", cast
for name, thing in cases.items():
    scene.collection.objects.link(thing)
    facts[name] = save(f"{name}.exr")
    scene.collection.objects.unlink(thing)

# Instances on vertices: of who hangs on the object, also by another.
verts, between, guest = points("verts", (-0.4, 0, 0), (0.4, 0, 0)), bpy.data.objects.new("between", None), person.copy()
guest.name = "guest"
verts.instance_type, between.parent, guest.parent = "VERTS", verts, between
group = bpy.data.collections.new("Group")
for thing in (verts, between, guest):
    group.objects.link(thing)
scene.collection.children.link(group)
facts["verts"] = save("verts.exr")
bpy.data.collections.remove(group)

# What is excluded says nothing of its children.
child = bpy.data.collections.new("Child")
child.objects.link(person)
cast.children.link(child)
scene.view_layers[0].layer_collection.children["Cast"].children["Child"].exclude = False
facts["child"] = save("child.exr")
bpy.data.collections.remove(child)

# What makes no instances of people is not evaluated twice.
grass = scattered("grass", tree_of_instances("Grass", info, bpy.data.objects["Back"]))
scene.collection.objects.link(grass)
facts["grass"] = save("grass.exr")
scene.collection.objects.unlink(grass)

# People of the set behind the set.
behind = bpy.data.scenes.new("Behind")
behind.collection.objects.link(person)
scene.background_set = behind
facts["set"] = save("set.exr")
person.hide_render = True
save("hidden.exr")
person.hide_render = False
scene.background_set = None
facts["gone"] = save("gone.exr")

# A crowd alone is reason enough.
bpy.ops.neural_avatar.remove_compositing()
scene.collection.objects.link(cases["named"])
facts["panel"] = bpy.types.NEURAL_AVATAR_PT_compositing.poll(bpy.context)
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
facts["alone"] = sorted(obj.name for obj in compositing.scene_of_avatars(scene).objects)
facts["person"] = person.name
harness.tell(**facts)
