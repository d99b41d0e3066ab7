# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins the set and the avatar in Blender's compositor, and writes the avatar's passes. Runs inside Blender 4.2 to 5.0.

Which of the two is in front is decided per pixel by depth, as Z Combine does. The decision is kept as a matte of its
own, because the avatar's soft edges (alpha under a half, where Depth is empty) then take the depth of the person beside
them and stay soft, and because Alpha Over knows premultiplied colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

FIVE = bpy.app.version >= (5, 0)

#: How far (metres) the avatar's surface may lie behind the set's and still win: shoes on the floor, not in it.
BIAS = 0.06


def join_scenes(set_scene: bpy.types.Scene, avatar_scene: bpy.types.Scene, exr_folder: Path, size: float) -> None:
    """Make the compositing tree of `set_scene`. size: height of the person in metres, to which BIAS is relative."""
    tree = _tree(set_scene)
    nodes, links = tree.nodes, tree.links
    behind, person = nodes.new("CompositorNodeRLayers"), nodes.new("CompositorNodeRLayers")
    behind.scene, person.scene = set_scene, avatar_scene

    # The person's depth, grown outwards by two pixels: a minimum filter, as what is empty is far away.
    depth = nodes.new("CompositorNodeDilateErode")
    if FIVE:
        depth.inputs["Type"].default_value, depth.inputs["Size"].default_value = "Steps", -2
    else:
        depth.mode, depth.distance = "STEP", -2
    links.new(person.outputs["Depth"], depth.inputs[0])
    nearer = _math(tree, "SUBTRACT")
    links.new(depth.outputs[0], nearer.inputs[0])
    nearer.inputs[1].default_value = BIAS * size / 1.7
    wins = _math(tree, "LESS_THAN")
    links.new(nearer.outputs[0], wins.inputs[0])
    links.new(behind.outputs["Depth"], wins.inputs[1])
    soft = nodes.new("CompositorNodeAntiAliasing")
    links.new(wins.outputs[0], soft.inputs[0])

    over = nodes.new("CompositorNodeAlphaOver")
    background, foreground, factor = (0, 1, 2) if FIVE else (1, 2, 0)
    links.new(behind.outputs["Image"], over.inputs[background])
    links.new(person.outputs["Image"], over.inputs[foreground])
    links.new(soft.outputs[0], over.inputs[factor])
    _finish(tree, over.outputs[0])
    _write_passes(tree, person, exr_folder)


def _tree(scene: bpy.types.Scene) -> Any:
    if FIVE:
        tree = bpy.data.node_groups.new("Compositing", "CompositorNodeTree")
        scene.compositing_node_group = tree
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
    scene.render.use_compositing = True
    return tree


def _math(tree: Any, operation: str) -> Any:
    node = tree.nodes.new("ShaderNodeMath" if FIVE else "CompositorNodeMath")
    node.operation = operation
    return node


def _finish(tree: Any, picture: Any) -> None:
    if FIVE:
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        end = tree.nodes.new("NodeGroupOutput")
    else:
        end = tree.nodes.new("CompositorNodeComposite")
    tree.links.new(picture, end.inputs[0])


def _write_passes(tree: Any, person: Any, folder: Path) -> None:
    """One multilayer EXR for each frame, with every pass that the avatar's engine has registered."""
    passes = [output for output in person.outputs if output.enabled and output.name not in ("Alpha", "Deprecated")]
    names = ["Combined" if output.name == "Image" else output.name for output in passes]
    node = tree.nodes.new("CompositorNodeOutputFile")
    if FIVE:
        node.format.media_type = "MULTI_LAYER_IMAGE"
        node.directory, node.file_name = str(folder), "avatar_####"
    else:
        node.base_path = str(folder / "avatar_")
    node.format.file_format = "OPEN_EXR_MULTILAYER"
    node.format.color_depth = "32"  # Depth and Part keep their exact values
    node.format.exr_codec = "ZIP"
    kinds = {"RGBA": "RGBA", "VECTOR": "VECTOR", "VALUE": "FLOAT"}
    if FIVE:
        for name, output in zip(names, passes, strict=True):
            node.file_output_items.new(kinds[output.type], name)
    else:
        node.layer_slots.clear()
        for name in names:
            node.layer_slots.new(name)
    for k, output in enumerate(passes):
        tree.links.new(output, node.inputs[k])
