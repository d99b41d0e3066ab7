# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a set whose people cannot be drawn in some frames. Arguments: avatar, output folder."""

import contextlib
import io
import math
import sys
from pathlib import Path

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import compositor, render_job  # noqa: E402

scene = harness.new_scene(40, 30)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
person = harness.add_person(avatar)
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
knee = person.pose.bones["LKnee"]
for frame, angle in ((1, 0.0), (2, math.nan), (3, math.nan), (4, 0.0)):
    knee.rotation_euler.x = angle
    knee.keyframe_insert("rotation_euler", frame=frame)


def film(first: int, last: int, movie: bool = False) -> dict:
    """Render; what the operator gives, what the panel says, and what is printed."""
    scene.frame_start, scene.frame_end = first, last
    scene.frame_set(first)
    if movie:
        if compositor.FIVE:
            scene.render.image_settings.media_type = "VIDEO"
        scene.render.image_settings.file_format = "FFMPEG"
    else:
        harness.save_as(scene, "PNG")
    scene.render.filepath = str(out / "film_")
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        outcome = bpy.ops.render.render(animation=True)
    return {
        "outcome": sorted(outcome),
        "panel": recorder.draw(render_job.NEURAL_AVATAR_PT_last_render),
        "printed": [line for line in printed.getvalue().splitlines() if line.startswith("Neural Avatar: scene")],
    }


tree = compositor.tree_of(scene)
join = compositor.marked(tree, "join")[0]


def output_node(where, folder: str, name: str, names: tuple[str, ...], source, one_file: bool) -> None:
    """A File Output node."""
    node = where.nodes.new("CompositorNodeOutputFile")
    if compositor.FIVE:
        node.directory, node.file_name = str(out / folder), name
        node.format.media_type = "MULTI_LAYER_IMAGE" if one_file else "IMAGE"
        node.file_output_items.clear()
        for each in names:
            node.file_output_items.new("RGBA", each)
    else:
        node.base_path = str(out / folder / name) if one_file else str(out / folder)
        node.file_slots.clear()
        for each in names:
            node.file_slots.new(each if one_file else name + each)
    node.format.file_format = "OPEN_EXR_MULTILAYER" if one_file else "PNG"
    for each in names:
        where.links.new(source, next(s for s in node.inputs if s.name.endswith(each)))


output_node(tree, "single [1]", "", ("plain_", "at_##_of"), join.outputs["Image"], False)
output_node(tree, "layers", "all_", ("one", "two"), join.outputs["Image"], True)
group = bpy.data.node_groups.new("Outputs", "CompositorNodeTree")
group.interface.new_socket("Image", in_out="INPUT", socket_type="NodeSocketColor")
begin = group.nodes.new("NodeGroupInput")
output_node(group, "grouped", "deep_", ("x",), begin.outputs[0], False)
node = tree.nodes.new("CompositorNodeGroup")
node.node_tree = group
tree.links.new(join.outputs["Image"], node.inputs[0])
# Another machine has just written other frames into the same folder.
theirs = ("plain_0012.png", "plain_00021.png", "plain_0002b.png", "at_12_of.png")
others = [out / "single [1]" / name for name in theirs]
others[0].parent.mkdir()
for path in others:
    path.write_bytes(b"theirs")


def files(folder: str) -> list[str]:
    return sorted(path.name for path in (out / folder).iterdir())


harness.tell(before=recorder.draw(render_job.NEURAL_AVATAR_PT_last_render))
harness.tell(failed=film(1, 4))
harness.tell(files={name: files(name) for name in ("single [1]", "layers", "grouped")}, others=[p.name for p in others])
harness.tell(well=film(4, 4))
knee.id_data.location.x = 60
harness.tell(outside=film(4, 4))
knee.id_data.location.x = 0
harness.tell(movie=film(1, 4, movie=True))
