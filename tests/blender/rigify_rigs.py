# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: joints of Rigify's own rigs, at rest and posed by their controls. Arguments: avatar, output."""

import os
import sys

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1:]
harness.enable()
from neural_avatar.addon import avatars, joints  # noqa: E402
from neural_avatar.neural_backend.interface.skeleton import INDEX  # noqa: E402

harness.new_scene()
bpy.ops.preferences.addon_enable(module="rigify")
arrays, presets, missing = {}, {}, {}


def look(name: str, rig) -> None:
    rig.neural_avatar.avatar_path = avatar
    presets[name] = rig.neural_avatar.preset
    evaluated = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
    arrays[name], arrays[f"{name}_confidence"] = joints.world_joints(evaluated, avatars.header(avatar))


def ends(rig, **bones: str) -> dict[str, list[float]]:
    posed = rig.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    return {joint: list(rig.matrix_world @ posed[bone].head) for joint, bone in bones.items()}


bpy.ops.object.armature_human_metarig_add()
meta = bpy.context.object
look("meta", meta)
heads = {"meta": ends(meta, LWrist="hand.L", RAnkle="foot.R", LElbow="forearm.L", RHand_HandIndex2="f_index.02.R")}

# Every row can be edited, and what the user chose holds.
row = next(r for r in meta.neural_avatar.rows if r.joint == "LWrist")
row.bone, row.end, row.offset = "forearm.L", "TAIL", (0, 0.1, 0)
look("edited", meta)
tail = meta.pose.bones["forearm.L"].tail + 0.1 * meta.pose.bones["forearm.L"].vector.normalized()
heads["edited"] = {"LWrist": list(meta.matrix_world @ tail)}
chosen = [r.joint for r in meta.neural_avatar.rows if r.bone and r.joint not in INDEX]
for editable in meta.neural_avatar.rows:
    before = editable.bone, editable.end, tuple(editable.offset)
    editable.bone, editable.end, editable.offset = "hand.R", "TAIL", (1, 2, 3)
    assert (editable.bone, editable.end, tuple(editable.offset)) == ("hand.R", "TAIL", (1, 2, 3))
    editable.bone, editable.end, editable.offset = before

bpy.ops.pose.rigify_generate()
rig = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o is not meta)
look("generated", rig)
heads["generated"] = ends(
    rig, LWrist="DEF-hand.L", RAnkle="DEF-foot.R", LElbow="DEF-forearm.L", RHand_HandIndex2="DEF-f_index.02.R"
)
rig.pose.bones["hand_ik.L"].location = (0.1, 0.2, 0.3)
rig.pose.bones["torso"].location = (0.0, 0.0, 0.05)
bpy.context.view_layer.update()
look("posed", rig)
heads["posed"] = ends(rig, LWrist="DEF-hand.L", RAnkle="DEF-foot.R", LElbow="DEF-forearm.L")

# What is no person is refused in a sentence.
others = {}
for animal in ("horse", "shark"):
    getattr(bpy.ops.object, f"armature_{animal}_metarig_add")()
    try:
        look(animal, bpy.context.object)
    except Exception as error:
        others[animal] = [type(error).__name__, str(error), bpy.context.object.name]
np.savez(out, **arrays)
harness.tell(presets=presets, heads=heads, others=others, guides=chosen)
sys.modules["neural_avatar"].unregister()
# A Blender in which Rigify has generated a rig crashes when its Python ends, with or without this add-on.
os._exit(0)
