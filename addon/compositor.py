# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's compositor, 4.2 to 5.x: the nodes that put avatars into a set by depth, and how they come and go.

Which of the two is in front is decided per pixel by depth, as Z Combine does. The decision is kept as a matte of its
own, because Alpha Over knows premultiplied colours. An avatar's depth is here the pass EdgeDepth, which goes as far as
its soft edge does: Depth is empty where alpha is under a half, and how many pixels of a soft edge that is grows with
the picture.

Our nodes carry a mark. Nothing else is ever removed: what was linked is linked again when they go.
"""

from __future__ import annotations

from typing import Any

import bpy

FIVE = bpy.app.version >= (5, 0)

#: Custom property of our nodes: what each is for.
MARK = "neural_avatar"
#: Custom property of a tree: what was off, or not there, before we came.
MADE = "neural_avatar_made"
GROUP = "Neural Avatar in Set"
#: The avatars' pass that says how far away they are, soft edges included.
EDGE_DEPTH = "EdgeDepth"
_GROUP_VERSION = 2


def tree_of(scene: Any) -> Any:
    """A scene's compositing tree, None where it has none or does not use it."""
    if FIVE:
        return scene.compositing_node_group
    return scene.node_tree if scene.use_nodes else None


def marked(tree: Any, role: str) -> list[Any]:
    """Our nodes of a role in a tree."""
    return [node for node in tree.nodes if node.get(MARK) == role] if tree is not None else []


def join(scene: Any, people: Any, tolerance: float, at_start: bool) -> None:
    """Let ``scene``'s compositor put the avatars of the scene ``people`` into its own picture; mends what is there.

    tolerance: how far (scene units) an avatar's surface may lie behind the set's and still be in front, for shoes on a
    floor. at_start: before the user's own nodes, which then work on both, else after them.
    """
    tree = _made_tree(scene)
    sources = _sources(tree, scene)
    frame = _only(tree, "frame", "NodeFrame")
    frame.label, frame.shrink = "Neural Avatar", True
    person = _only(tree, "person", "CompositorNodeRLayers")
    person.scene, person.label = people, "Avatars"
    fresh = not marked(tree, "join")
    node = _only(tree, "join", "CompositorNodeGroup")
    node.node_tree, node.label = _group(), "Avatars in Set, by Depth"
    node.width = 220
    _sweep()
    if fresh:
        node.inputs["Tolerance"].default_value = tolerance
    if not (node.inputs["Image"].is_linked and node.outputs["Image"].is_linked):
        _insert(tree, node, sources[0].outputs["Image"], at_start)
    _link(tree, person.outputs["Image"], node.inputs["Avatar"])
    _link(tree, person.outputs[EDGE_DEPTH], node.inputs["Avatar Depth"])
    _link(tree, _nearest(tree, sources), node.inputs["Depth"])
    if fresh:
        end = node.outputs["Image"].links[0].to_node
        x, y = end.location
        node.location, person.location = (x - 260, y - 80), (x - 560, y - 320)
        end.location.x += 40
    for one in (node, person, *marked(tree, "nearer")):
        one.parent = frame


def leave(scene: Any) -> None:
    """Take our nodes out of a scene's compositor, and link again what they had come between."""
    tree = tree_of(scene)
    if tree is None:
        return
    for node in marked(tree, "join"):
        before = [link.from_socket for link in node.inputs["Image"].links] if node.node_tree else []
        after = [link.to_socket for link in node.outputs["Image"].links] if node.node_tree else []
        for target in after if before else []:
            tree.links.new(before[0], target)
    for role in ("join", "person", "nearer", "frame"):
        for node in marked(tree, role):
            tree.nodes.remove(node)
    _sweep()
    if tree.get(MADE) and all(node.get(MARK) for node in tree.nodes):
        if FIVE:
            scene.compositing_node_group = None
            if not tree.users:
                bpy.data.node_groups.remove(tree)
        else:
            tree.nodes.clear()
            del tree[MADE]
            scene.use_nodes = False
        return
    if MADE in tree:
        if not FIVE:  # it was turned off, with the user's nodes in it
            scene.use_nodes = False
        del tree[MADE]
    for node in tree.nodes:
        if MARK in node:
            del node[MARK]


def _made_tree(scene: Any) -> Any:
    scene.render.use_compositing = True
    tree = tree_of(scene)
    if tree is not None:
        return tree
    if FIVE:
        tree = scene.compositing_node_group = _new_tree("Compositing")
        tree[MADE] = True
        return tree
    was_empty = scene.node_tree is None or not scene.node_tree.nodes
    scene.use_nodes = True
    tree = scene.node_tree
    tree[MADE] = was_empty
    if was_empty:
        for node in tree.nodes:  # Blender's own first nodes
            node[MARK] = "first"
    return tree


def _only(tree: Any, role: str, kind: str) -> Any:
    """Our one node of a role, made where there is none."""
    there = [n for n in marked(tree, role) if n.bl_idname == kind]
    for extra in there[1:]:
        tree.nodes.remove(extra)
    return there[0] if there else _new(tree, role, kind)


def _new_tree(name: str) -> Any:
    trees: Any = bpy.data.node_groups
    return trees.new(name, "CompositorNodeTree")


def _new(tree: Any, role: str, kind: str) -> Any:
    node = tree.nodes.new(kind)
    node[MARK] = role
    return node


def _sources(tree: Any, scene: Any) -> list[Any]:
    """The nodes that bring the scene's own picture, one for each view layer in use; depth is turned on for them."""
    found: dict[str, Any] = {}
    for node in tree.nodes:
        if node.bl_idname == "CompositorNodeRLayers" and node.get(MARK) != "person" and node.scene in (scene, None):
            node.scene = node.scene or scene
            if any(output.is_linked for output in node.outputs):
                found.setdefault(node.layer, node)
            else:
                found.setdefault("", node)
    if len(found) > 1:
        found.pop("", None)
    if not found:
        node = _new(tree, "first", "CompositorNodeRLayers")
        node.scene = scene
        node.layer = next((layer.name for layer in scene.view_layers if layer.use), scene.view_layers[0].name)
        found[node.layer] = node
    for node in found.values():
        scene.view_layers[node.layer].use_pass_z = True
    return list(found.values())


def _insert(tree: Any, node: Any, picture: Any, at_start: bool) -> None:
    """Put our node into the way of the picture: right after the set's layer, or right before the output."""
    end = _output(tree)
    targets = [link.to_socket for link in picture.links if link.to_node != node] if at_start else []
    if not targets:
        targets = [end]
        picture = next((link.from_socket for link in end.links if link.from_node != node), picture)
    tree.links.new(picture, node.inputs["Image"])
    for target in targets:
        tree.links.new(node.outputs["Image"], target)


def _output(tree: Any) -> Any:
    """The socket that is the tree's picture."""
    kind = "NodeGroupOutput" if FIVE else "CompositorNodeComposite"
    ends = [node for node in tree.nodes if node.bl_idname == kind and not node.mute]
    if FIVE and not any(item.item_type == "SOCKET" and item.in_out == "OUTPUT" for item in tree.interface.items_tree):
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    if not ends:
        ends = [_new(tree, "first", kind)]
        ends[0].location.x = 600
    active = [node for node in ends if getattr(node, "is_active_output", True)]
    return (active or ends)[0].inputs[0]


def _nearest(tree: Any, sources: list[Any]) -> Any:
    """The nearest depth of several view layers."""
    for node in marked(tree, "nearer"):
        tree.nodes.remove(node)
    depth = sources[0].outputs["Depth"]
    for more in sources[1:]:
        node = _math(tree, "MINIMUM")
        node[MARK] = "nearer"
        node.location = (more.location.x + 320, more.location.y)
        tree.links.new(depth, node.inputs[0])
        tree.links.new(more.outputs["Depth"], node.inputs[1])
        depth = node.outputs[0]
    return depth


def _link(tree: Any, source: Any, target: Any) -> None:
    if not any(link.from_socket == source for link in target.links):
        tree.links.new(source, target)


def _math(tree: Any, operation: str) -> Any:
    node = tree.nodes.new("ShaderNodeMath" if FIVE else "CompositorNodeMath")
    node.operation = operation
    return node


def _groups() -> list[Any]:
    """Our node groups of this file; an older one stays as long as a scene that has not been mended uses it."""
    trees: list[Any] = list(bpy.data.node_groups)
    return [t for t in trees if t.name.startswith(GROUP) and t.bl_idname == "CompositorNodeTree" and MADE in t]


def _sweep() -> None:
    for tree in _groups():
        if not tree.users:
            bpy.data.node_groups.remove(tree)


def _group() -> Any:
    """The node group that decides and joins; made where it is not there or is an older one."""
    tree: Any = next((t for t in _groups() if t[MADE] == _GROUP_VERSION and t.library is None), None)
    if tree is not None:
        return tree
    tree = _new_tree(GROUP)
    tree[MADE] = _GROUP_VERSION
    sockets = tree.interface.new_socket
    for name, kind in (
        ("Image", "Color"), ("Depth", "Float"), ("Avatar", "Color"), ("Avatar Depth", "Float"), ("Tolerance", "Float"),
    ):  # fmt: skip
        sockets(name, in_out="INPUT", socket_type=f"NodeSocket{kind}")
    for name, kind in (("Image", "Color"), ("Matte", "Float")):
        sockets(name, in_out="OUTPUT", socket_type=f"NodeSocket{kind}")
    begin, end = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    links = tree.links

    nearer = _math(tree, "SUBTRACT")
    links.new(begin.outputs["Avatar Depth"], nearer.inputs[0])
    links.new(begin.outputs["Tolerance"], nearer.inputs[1])
    wins = _math(tree, "LESS_THAN")
    links.new(nearer.outputs[0], wins.inputs[0])
    links.new(begin.outputs["Depth"], wins.inputs[1])
    soft = tree.nodes.new("CompositorNodeAntiAliasing")
    links.new(wins.outputs[0], soft.inputs[0])

    over = tree.nodes.new("CompositorNodeAlphaOver")
    background, foreground, factor = (0, 1, 2) if FIVE else (1, 2, 0)
    links.new(begin.outputs["Image"], over.inputs[background])
    links.new(begin.outputs["Avatar"], over.inputs[foreground])
    links.new(soft.outputs[0], over.inputs[factor])
    links.new(over.outputs[0], end.inputs["Image"])
    alpha = tree.nodes.new("CompositorNodeSeparateColor")
    links.new(begin.outputs["Avatar"], alpha.inputs[0])
    matte = _math(tree, "MULTIPLY")
    links.new(alpha.outputs["Alpha"], matte.inputs[0])
    links.new(soft.outputs[0], matte.inputs[1])
    links.new(matte.outputs[0], end.inputs["Matte"])
    for node, place in (
        (begin, (-500, 0)), (nearer, (-280, -160)), (wins, (-80, -160)), (soft, (120, -160)),
        (over, (320, 60)), (alpha, (120, -320)), (matte, (320, -240)), (end, (540, 0)),
    ):  # fmt: skip
        node.location = place
    return tree
