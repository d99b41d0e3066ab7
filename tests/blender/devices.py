# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: whose device is used where several scenes name one. Arguments: avatar, folder."""

import os
import sys
from pathlib import Path

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
os.environ.pop("NEURAL_AVATAR_DEVICE")
harness.enable()
from neural_avatar.addon import compositing, render_job, session  # noqa: E402

NOWHERE = "cuda:99"
scene = harness.new_scene(40, 30)
person = harness.add_person(avatar)
other = bpy.data.scenes.new("Another")
other.render.engine, other.camera = scene.render.engine, scene.camera
other.render.resolution_x, other.render.resolution_y = 40, 30
for obj in (person, scene.camera):
    other.collection.objects.link(obj)


def attempt(name: str, rendered: bpy.types.Scene, **devices: str) -> str:
    """Render a scene where scenes name devices; returns what went wrong."""
    for each in bpy.data.scenes:
        each.neural_avatar_batch.device = devices.get(each.name.split()[-1].strip("()"), "")
    said = harness.render(rendered, out / f"{name}.png", "PNG")
    said += (recorder.draw(render_job.NEURAL_AVATAR_PT_last_render) or "").replace("\n", " ")
    session.stop()
    return said


facts = {
    "alone": attempt("alone", scene, Scene=NOWHERE),
    "another's": attempt("anothers", scene, Another=NOWHERE),
    "another": attempt("another", other, Scene=NOWHERE, Another="cpu"),
    "not open": attempt("not_open", other, Scene=NOWHERE),
}
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
facts["set's"] = attempt("sets", scene, Scene=NOWHERE, Another="cpu")
facts["avatars'"] = attempt("avatars", scene, Scene=NOWHERE, Avatars="cpu")
people = compositing.scene_of_avatars(scene)
# Views and the render of a set go by the same: the renderer is not started anew between them.
facts["view"] = [session.device()]
with bpy.context.temp_override(scene=people, view_layer=people.view_layers[0]):
    facts["view"].append(session.device())
harness.tell(**facts)
