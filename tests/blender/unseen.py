# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: people whom no camera sees directly, and holdouts. Arguments: avatar, folder."""

import os
import sys
from pathlib import Path

import bpy
import harness
import numpy as np
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import render_job  # noqa: E402

scene = harness.new_scene(80, 60)
well, odd = harness.add_person(avatar), harness.add_person(avatar)
well.name, odd.name = "Well", "Odd"
well.location.x, odd.location.x = 0.6, -0.6
apart = bpy.data.collections.new("Apart")
scene.collection.children.link(apart)
scene.collection.objects.unlink(odd)
apart.objects.link(odd)
layer = scene.view_layers[0].layer_collection.children["Apart"]
number = 0


def attempt() -> list:
    """Who is seen in a render, left and right, and what went wrong."""
    global number
    number += 1
    path = out / f"{number}.png"
    error = harness.render(scene, path, "PNG")
    error += (recorder.draw(render_job.NEURAL_AVATAR_PT_last_render) or "").replace("\n", " ")
    if not path.exists():
        return [None, None, error]
    image = bpy.data.images.load(str(path))
    picture = np.array(image.pixels).reshape(60, 80, 4)
    return [*(bool(half[..., 3].max() > 0.9) for half in (picture[:, :38], picture[:, 44:])), error]


def bake() -> str:
    """What baking the odd one says."""
    bpy.ops.object.select_all(action="DESELECT")
    odd.select_set(True)
    bpy.context.view_layer.objects.active = odd
    try:
        bpy.ops.neural_avatar.bake_clip(filepath=os.fspath(out / f"{number}.npz"), frame_end=1)
        return ""
    except RuntimeError as error:
        return str(error).strip()


def cases() -> dict:
    facts = {"both": attempt()}
    odd.visible_camera = False
    facts["camera off"] = [*attempt(), bake()]
    odd.visible_camera = True
    odd.keyframe_insert("visible_camera", frame=1)
    odd.visible_camera = False
    odd.keyframe_insert("visible_camera", frame=2)
    scene.frame_set(2)
    facts["animated"] = attempt()
    scene.frame_set(1)
    odd.animation_data_clear()
    layer.indirect_only = True
    facts["indirect"] = [*attempt(), bake()]
    layer.indirect_only = False
    odd.is_holdout = True
    facts["holdout"] = attempt()
    odd.hide_render = True
    facts["hidden holdout"] = attempt()
    odd.hide_render = odd.is_holdout = False
    layer.holdout = True
    facts["collection"] = attempt()
    layer.holdout = False
    return facts


facts = {"alone": cases()}
# Whoever is instanced is seen as what makes the instances is.
empty = bpy.data.objects.new("Instance", None)
empty.instance_type, empty.instance_collection = "COLLECTION", apart
scene.collection.objects.link(empty)
layer.exclude = True
facts["instanced"] = attempt()
empty.visible_camera = False
facts["instance off"] = attempt()
bpy.data.objects.remove(empty)
layer.exclude = False

scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
facts["set"] = cases()
# In another view layer the same person is no holdout: a set in layers.
layer.holdout = True
scene.view_layers.new("Second")
facts["layers"] = attempt()
harness.tell(**facts)
