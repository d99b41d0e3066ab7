# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: joints of rigs. Arguments: avatar, another with a face, output npz, BVH files."""

import sys

import bpy
import harness
import numpy as np

avatar, faced, out, *motions = sys.argv[1:]
harness.enable()
from neural_avatar.addon import avatars, joints  # noqa: E402
from neural_avatar.addon import scene as ours  # noqa: E402
from neural_avatar.neural_backend.interface.messages import BackendError  # noqa: E402

arrays = {}


def joints_of(obj):
    depsgraph = bpy.context.evaluated_depsgraph_get()
    return joints.world_joints(obj.evaluated_get(depsgraph), avatars.header(avatars.absolute_path(obj)))


# The avatar's own armature, moved, turned and scaled as an object.
scene = harness.new_scene()
bpy.ops.neural_avatar.add_person(filepath=avatar)
person = bpy.context.object
arrays["own_rest"], arrays["own_confidence"] = joints_of(person)
person.location, person.rotation_euler, person.scale = (1, 2, 3), (0, 0, np.pi / 2), (0.01, 0.01, 0.01)
arrays["own_moved"] = joints_of(person)[0]
person.scale = (1, 1, 1)
bpy.context.view_layer.update()

# A copy has settings of its own; undo and rename leave the mapping alone.
copy = person.copy()
copy.data = person.data.copy()
scene.collection.objects.link(copy)
copy.neural_avatar.rows[0].bone = ""
assert person.neural_avatar.rows[0].bone and copy.neural_avatar.avatar_path == person.neural_avatar.avatar_path
person.name = person.data.name = "Someone else"
joints_of(person)

# Errors are sentences that name the armature.
errors = {}
person.data.bones["LKnee"].name = "renamed"
row = next(r for r in person.neural_avatar.rows if r.joint == "LKnee")
for name, bone in (("unmapped", "gone"), ("empty", "")):
    row.bone = bone
    try:
        joints_of(person)
    except BackendError as error:
        errors[name] = [error.code, error.message]
row.bone = "renamed"
joints_of(person)
person.pose.bones["renamed"].rotation_mode = "XYZ"
person.pose.bones["renamed"].rotation_euler = (np.nan, 0, 0)
try:
    joints_of(person)
except BackendError as error:
    errors["nan"] = [error.code, error.message]

# Mirrored: the armature, an instance of it, and both, which is no mirror. One hand is not all there.
for obj in (person, copy):
    bpy.data.objects.remove(obj)
bpy.ops.neural_avatar.add_person(filepath=faced)
whole = bpy.context.object
for row in whole.neural_avatar.rows:
    if row.joint.startswith("LHand_HandPinky"):
        row.bone = ""
group = bpy.data.collections.new("Group")
group.objects.link(whole)
empty = bpy.data.objects.new("Mirrored", None)
empty.instance_type, empty.instance_collection = "COLLECTION", group
scene.collection.objects.link(empty)
scene.collection.objects.unlink(whole)
for name, own, instance in (("plain", 1, 1), ("mirrored", -1, 1), ("instance", 1, -1), ("twice", -1, -1)):
    whole.scale.x, empty.scale.x = own, instance
    bpy.context.view_layer.update()
    (one,) = ours.avatar_instances(bpy.context.evaluated_depsgraph_get())
    arrays[name], arrays[f"{name}_confidence"] = one.joints, one.confidence
for obj in (empty, whole):
    bpy.data.objects.remove(obj)

# Motion capture of another body.
presets = []
for i, motion in enumerate(motions):
    bpy.ops.import_anim.bvh(filepath=motion, global_scale=0.01)
    rig = bpy.context.object
    rig.neural_avatar.avatar_path = avatar
    presets.append(rig.neural_avatar.preset)
    frames = []
    for frame in range(1, 81, 8):
        scene.frame_set(frame)
        frames.append(joints_of(rig)[0])
    arrays[f"motion_{i}"] = np.array(frames)
np.savez(out, **arrays)
harness.tell(errors=errors, presets=presets)
