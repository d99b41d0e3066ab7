# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: a motion-captured rig moves an avatar of other build. Arguments: avatar, output folder, BVH."""

import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, out, motion = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
harness.enable()
from neural_avatar.addon import scene as ours  # noqa: E402

scene = harness.new_scene()
bpy.ops.import_anim.bvh(filepath=motion, global_scale=0.02)  # twice as tall as in life
rig = bpy.context.object
rig.neural_avatar.avatar_path = avatar
facts = {"preset": rig.neural_avatar.preset, "mapped": sum(bool(r.bone) for r in rig.neural_avatar.rows)}
assert bpy.ops.neural_avatar.fit_proportions() == {"FINISHED"}
fit = rig.neural_avatar_fit
arrays = {}
cases = {"rig": (False, 1, "AVATAR"), "fitted": (True, 1, "AVATAR"), "half": (True, 0.5, "AVATAR")}
for name, (use, amount, size) in {**cases, "same_size": (True, 1, "RIG")}.items():
    fit.use, fit.amount, fit.size = use, amount, size
    poses = []
    for frame in range(1, 81, 8):
        scene.frame_set(frame)
        (person,) = ours.avatar_instances(bpy.context.evaluated_depsgraph_get())
        poses.append(person.joints)
    arrays[name] = np.array(poses)
arrays["confidence"] = person.confidence
np.savez(out / "joints.npz", **arrays)

# The avatar is in the picture.
fit.use, fit.amount, fit.size = True, 1, "AVATAR"
scene.frame_set(41)
hips = arrays["fitted"][5][8]
scene.camera.location, scene.camera.rotation_euler = (hips[0], hips[1] - 4.5, 1.0), (np.pi / 2, 0, 0)
error = harness.render(scene, out / "picture.exr")
assert not error, error
harness.tell(**facts)
