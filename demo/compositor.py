# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the avatar's passes from the compositor that "Set Up Compositing" has made. Runs inside Blender 4.2 to 5.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

FIVE = bpy.app.version >= (5, 0)


def write_passes(tree: Any, person: Any, folder: Path) -> None:
    """One multilayer EXR for each frame, with every pass that the avatar's engine has registered.

    person: the Render Layers node of the avatars.
    """
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
