# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: renders for the test to compare. Arguments: avatar, output folder."""

import os
import signal
import sys
from pathlib import Path

import bpy
import harness
import numpy as np

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import camera, session  # noqa: E402
from neural_avatar.addon import scene as ours  # noqa: E402
from neural_avatar.neural_backend.interface.client import BackendSession  # noqa: E402


def note(name: str) -> None:
    """Keep what the backend has to be asked for the same picture."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    render = depsgraph.scene_eval.render
    view = camera.convert(depsgraph.scene_eval.camera.evaluated_get(depsgraph), depsgraph, camera.render_region(render))
    people = ours.avatar_instances(depsgraph)
    np.savez(
        out / f"{name}.npz", K=view.K, R=view.R, t=view.t, size=(view.width, view.height),
        orthographic=view.orthographic, near=view.near,
        joints=[p.joints for p in people], confidence=[p.confidence for p in people],
    )  # fmt: skip


def picture(name: str, kind: str = "EXR") -> None:
    note(name)
    error = harness.render(scene, out / f"{name}.{kind.lower()}", kind)
    assert not error, error


scene = harness.new_scene()
person = harness.add_person(avatar)
picture("still")
picture("still_png", "PNG")

scene.camera.data.type = "ORTHO"
scene.camera.data.ortho_scale = 2.6
picture("orthographic")
scene.camera.data.type = "PERSP"

render = scene.render
render.use_border = True
render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.3, 0.77, 0.21, 0.9
picture("border")
render.use_crop_to_border = True
picture("border_crop")
render.use_border = render.use_crop_to_border = False

scene.camera.location.y = -1.6
picture("close")
scene.camera.location.y = -4.2

# Film colour and a plate behind the avatar.
render.film_transparent = False
scene.world = bpy.data.worlds.new("World")
scene.world.use_nodes = True
scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.05, 0.1, 0.2, 1)
scene.world.node_tree.nodes["Background"].inputs["Strength"].default_value = 2
picture("film")
render.film_transparent = True

# Two avatars, and the same again as a collection's instance; one hidden from renders.
other = harness.add_person(avatar, (0.35, 0.5, 0.0))
hidden = harness.add_person(avatar, (-0.5, 0.0, 0.0))
hidden.hide_render = True
collection = bpy.data.collections.new("Group")
collection.objects.link(other)
scene.collection.objects.unlink(other)
empty = bpy.data.objects.new("Instance", None)
empty.instance_type, empty.instance_collection, empty.location = "COLLECTION", collection, (0.1, 0.0, 0.0)
scene.collection.objects.link(empty)
hidden.hide_viewport = True  # what note() sees is the viewport's depsgraph
picture("several")
bpy.data.objects.remove(empty)
bpy.data.objects.remove(hidden)

# An animation.
bone = person.pose.bones["LElbow"]
bone.rotation_mode = "XYZ"
for frame, angle in ((1, 0.0), (3, 1.0)):
    bone.rotation_euler.z = angle
    bone.keyframe_insert("rotation_euler", frame=frame)
scene.frame_start, scene.frame_end = 1, 3
for frame in (1, 2, 3):
    scene.frame_set(frame)
    note(f"animation_{frame:04d}")
harness.save_as(scene, "EXR")
render.filepath = str(out / "animation_")
bpy.ops.render.render(animation=True)

# The backend dies in the middle of a frame: this frame and the next are right all the same.
pids = [session.session().info["pid"]]
genuine = BackendSession.request


def deadly(self, *args, **keywords):
    pending = genuine(self, *args, **keywords)
    BackendSession.request = genuine
    os.kill(self.info["pid"], signal.SIGKILL)
    return pending


BackendSession.request = deadly
picture("killed")
pids.append(session.session().info["pid"])
picture("after_kill")

# Disable and enable again.
sys.modules["neural_avatar"].unregister()
sys.modules["neural_avatar"].register()
scene.render.engine = "NEURAL_AVATAR"
picture("enabled_again")
pids.append(session.session().info["pid"])
harness.tell(pids=pids)
