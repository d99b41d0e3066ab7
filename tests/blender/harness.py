# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scripts that run inside Blender share: the add-on from the checkout, a scene, and reports as JSON lines."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import bpy

ROOT = Path(__file__).resolve().parents[2]


def load_package() -> None:
    """Make the checkout importable as `neural_avatar`, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "neural_avatar", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["neural_avatar"] = module
    spec.loader.exec_module(module)


def enable() -> None:
    """Register the add-on of the checkout."""
    load_package()
    sys.modules["neural_avatar"].register()


def tell(**facts) -> None:
    """One line for the test to read."""
    print("@" + json.dumps(facts), flush=True)


def new_scene(width: int = 160, height: int = 120) -> bpy.types.Scene:
    """An empty scene with a camera two bodies away from the origin, our engine, the Standard view and no dithering."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "NEURAL_AVATAR"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.view_settings.view_transform = "Standard"
    scene.render.dither_intensity = 0
    scene.render.film_transparent = True
    bpy.context.view_layer.use_pass_z = True
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0.6, -4.2, 1.3), (1.5, 0.05, 0.13)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def add_person(path: str, location=(0.0, 0.0, 0.0)) -> bpy.types.Object:
    """The avatar's own armature, in a pose."""
    bpy.context.scene.cursor.location = location
    assert bpy.ops.neural_avatar.add_person(filepath=path) == {"FINISHED"}
    person = bpy.context.object
    for name, angles in (
        ("RElbow", (0.4, 0.2, 0.1)),
        ("LKnee", (-0.5, 0.0, 0.1)),
        ("LWrist", (0.3, 0.1, 0.0)),
        ("Nose", (0.1, 0.3, 0.0)),
    ):
        bone = person.pose.bones[name]
        bone.rotation_mode = "XYZ"
        bone.rotation_euler = angles
    return person


def glowing_box(name: str, place, size, color) -> bpy.types.Object:
    """A box of one plain colour, whatever the light."""
    bpy.ops.mesh.primitive_cube_add(size=1, location=place)
    thing = bpy.context.object
    thing.name, thing.scale = name, size
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    emission, end = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
    emission.inputs["Color"].default_value = (*color, 1)
    material.node_tree.links.new(emission.outputs[0], end.inputs["Surface"])
    thing.data.materials.append(material)
    return thing


def compositor(scene: bpy.types.Scene, name: str):
    """A scene's compositor, empty: its tree, and the node whose first input is the picture."""
    if bpy.app.version >= (5, 0):
        tree = scene.compositing_node_group = bpy.data.node_groups.new(name, "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        return tree, tree.nodes.new("NodeGroupOutput")
    scene.use_nodes = True
    scene.node_tree.nodes.clear()
    return scene.node_tree, scene.node_tree.nodes.new("CompositorNodeComposite")


def save_as(scene: bpy.types.Scene, kind: str) -> None:
    """Set the output format: 'EXR' (multilayer, 32 bit) or 'PNG'."""
    settings = scene.render.image_settings
    recent = bpy.app.version >= (5, 0)
    if kind == "EXR":
        if recent:
            settings.media_type = "MULTI_LAYER_IMAGE"
        settings.file_format = "OPEN_EXR_MULTILAYER"
        settings.color_depth = "32"
        if recent:
            settings.use_exr_interleave = True
    else:
        if recent:
            settings.media_type = "IMAGE"
        settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"


def render(scene: bpy.types.Scene, path: str | os.PathLike[str], kind: str = "EXR") -> str:
    """Render a still into a file; returns the error, '' for none."""
    save_as(scene, kind)
    scene.render.filepath = str(path)
    try:
        bpy.ops.render.render(write_still=True, scene=scene.name)
    except RuntimeError as error:
        return str(error).strip()
    return ""
