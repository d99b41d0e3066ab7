# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: panels say what is wrong, and the operators they offer put it right. Arguments:
avatar, folder."""

import os
import shutil
import sys
from pathlib import Path

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import batch, compositing, session, sidebar, troubles, ui  # noqa: E402
from neural_avatar.addon.setup import operators, panel  # noqa: E402

scene = harness.new_scene()
told = {"no armature": recorder.draw(sidebar.NEURAL_AVATAR_PT_sidebar)}
mine = out / "mine.avatar"
shutil.copy(avatar, mine)
person = harness.add_person(str(mine))
settings = person.neural_avatar
panels = (
    ui.NEURAL_AVATAR_PT_avatar,
    ui.NEURAL_AVATAR_PT_joints,
    ui.NEURAL_AVATAR_PT_render,
    ui.NEURAL_AVATAR_PT_plate,
    sidebar.NEURAL_AVATAR_PT_sidebar,
    sidebar.NEURAL_AVATAR_PT_tools,
)
context = bpy.context.copy()
told["good"] = {p.__name__: recorder.draw(p) for p in panels if p is not ui.NEURAL_AVATAR_PT_render}
told["render"] = recorder.draw(ui.NEURAL_AVATAR_PT_render)


def troubled() -> list:
    return [[t.text, t.fix] for t in (*troubles.of_object(person), *troubles.of_scene(scene))]


def fix(found: list, **options) -> None:
    """Press the first trouble's button."""
    group, _, name = found[0][1].partition(".")
    assert getattr(getattr(bpy.ops, group), name)(**options) == {"FINISHED"}


steps = {"none": troubled()}
# Moved while in use, and found again.
moved = out / "moved away" / "person.avatar"
moved.parent.mkdir()
os.replace(mine, moved)
steps["moved"] = troubled()
told["moved panel"] = recorder.draw(ui.NEURAL_AVATAR_PT_avatar)
fix(steps["moved"], filepath=str(moved))
steps["found"] = troubled()
# A bone renamed; chosen anew by clicking on it.
person.data.bones["LKnee"].name = "knie"
steps["renamed"] = troubled()
told["renamed panel"] = recorder.draw(ui.NEURAL_AVATAR_PT_avatar)
person.data.bones.active = person.data.bones["knie"]
assert bpy.ops.neural_avatar.pick_bone(joint="LKnee") == {"FINISHED"}
steps["picked"] = troubled()
person.data.bones["knie"].name = "LKnee"
fix(troubled(), preset="AUTO")
steps["detected"] = troubled()
# A joint without a bone, two joints in one point, no camera, no bones.
settings.rows["RElbow"].bone = ""
steps["missing"] = troubled()
settings.rows["RElbow"].bone = "RWrist"
steps["twice"] = troubled()
bpy.ops.neural_avatar.detect_mapping(preset="AUTO")
scene.camera = None
steps["no camera"] = troubled()
told["no camera panel"] = recorder.draw(ui.NEURAL_AVATAR_PT_render)
fix(steps["no camera"])
steps["camera"] = troubled()
told["mask"] = harness.render(scene, out / "seen.exr")
bare = bpy.data.objects.new("Bare", bpy.data.armatures.new("Bare"))
scene.collection.objects.link(bare)
steps["bare"] = [[t.text, t.fix] for t in troubles.of_mapping(bare)]
told["steps"] = steps

# In a set's scene the engine is another, and the same settings are within reach; the avatars' own scene shows them too.
rendered = (
    ui.NEURAL_AVATAR_PT_render, ui.NEURAL_AVATAR_PT_motion_blur, ui.NEURAL_AVATAR_PT_plate, batch.NEURAL_AVATAR_PT_batch
)  # fmt: skip


def drawn() -> dict:
    return {p.bl_label: recorder.draw(p) for p in rendered}


seen = {"alone": drawn()}
scene.render.engine = "CYCLES"
seen["another engine"] = drawn()
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
seen["set"] = drawn()
scene.render.use_motion_blur = True
seen["set, blurred"] = drawn()
people = compositing.scene_of_avatars(scene)
with bpy.context.temp_override(scene=people, view_layer=people.view_layers[0]):
    seen["avatars"] = drawn()
assert bpy.ops.neural_avatar.remove_compositing() == {"FINISHED"}
empty = bpy.data.scenes.new("Nobody")
empty.render.engine = "CYCLES"
with bpy.context.temp_override(scene=empty, view_layer=empty.view_layers[0]):
    seen["nobody"] = drawn()
bpy.data.scenes.remove(empty)
scene.render.engine, scene.render.use_motion_blur = "NEURAL_AVATAR", False
told["rendered"] = seen

# The avatar of an installation that is no more: the one of this installation is it.
settings.avatar_path = "/an/older/installation/assets/" + os.path.basename(avatar)
told["other installation"] = troubled()
settings.avatar_path = "/an/older/installation/assets/unknown.avatar"
told["unknown"] = troubled()

# Without a Python, and the preferences in each of their states.
os.environ.pop(session.PYTHON_VARIABLE)
told["no python"] = recorder.draw(sidebar.NEURAL_AVATAR_PT_sidebar)


class Preferences:
    bl_rna = None


from neural_avatar.addon.preferences import NeuralAvatarPreferences  # noqa: E402

Preferences.bl_rna = NeuralAvatarPreferences.bl_rna
Preferences.wheels, Preferences.torch_index = "CPU", ""
Preferences.layout = recorder.Layout()
panel.draw_preferences(Preferences)
told["preferences"] = "\n".join(Preferences.layout.said)
told["report"] = operators.report_text()
harness.tell(**told)
