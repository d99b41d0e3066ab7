# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: films that are rendered while Blender refuses all changes most of the time, as it does from 5.0
on while a window's panels are drawn. Arguments: avatar, folder with a film `moving_0001.png` and on, output folder."""

import queue
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import bpy
import harness

avatar, pictures, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
harness.enable()
from neural_avatar.addon import compositing, final, writing  # noqa: E402


class SlowToAnswer(bpy.types.Operator):
    """Blender takes no changes, from any thread, until it has answered."""

    bl_idname, bl_label = "test.slow_to_answer", "Slow"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        time.sleep(0.03)
        return True


bpy.utils.register_class(SlowToAnswer)
ended = threading.Event()
errors = []
tell = final.tell


def watch(engine: object, level: str, *text: str) -> None:
    if level == "ERROR":
        errors.append(text)
    tell(engine, level, *text)


final.tell = watch


def refuse() -> None:
    while not ended.is_set():
        bpy.ops.test.slow_to_answer.poll()
        time.sleep(0.003)


def begin(name: str) -> None:
    scene.frame_set(1)
    scene.render.filepath = str(out / f"{name}_")


scene = harness.new_scene(80, 60)
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
person = harness.add_person(avatar)
other = bpy.data.objects.new("Other", scene.camera.data)
other.matrix_world = scene.camera.matrix_world.copy()
other.location.x -= 0.4
scene.collection.objects.link(other)
first = scene.camera
bpy.ops.neural_avatar.setup_compositing()
people = compositing.scene_of_avatars(scene)
scene.timeline_markers.new("First", frame=1).camera = first
scene.timeline_markers.new("Cut", frame=2).camera = other
camera = first.data
camera.show_background_images = True
background = camera.background_images.new()
background.image = bpy.data.images.load(str(pictures / "moving_0001.png"))
background.image.source = "SEQUENCE"
background.image_user.frame_duration, background.image_user.frame_start = 3, 1
scene.view_settings.view_transform = "AgX"
scene.neural_avatar_render.keep_look = True
scene.frame_start, scene.frame_end = 1, 3
harness.save_as(scene, "PNG")
# The Composite pass of the scene of the avatars too, which shows the plate.
if bpy.app.version >= (5, 0):
    tree = scene.compositing_node_group
else:
    tree = scene.node_tree
node = next(n for n in tree.nodes if n.bl_idname == "CompositorNodeRLayers" and n.scene == people)
join = next(n for n in tree.nodes if n.bl_idname == "CompositorNodeGroup")
tree.links.new(node.outputs["Composite"], join.inputs["Image"])

refused, thread = False, threading.Thread(target=refuse)


def start(*_: object) -> None:
    """Called before the add-on is."""
    global refused
    thread.start()
    time.sleep(0.01)
    try:
        scene.frame_step = 1
    except AttributeError:
        refused = True


begin("refused")
# Older ones take changes at all times.
if recent := bpy.app.version >= (5, 0):
    bpy.app.handlers.render_init.insert(0, start)
try:
    bpy.ops.render.render(animation=True)
finally:
    ended.set()
    if recent:
        bpy.app.handlers.render_init.remove(start)
        thread.join()
begin("calm")
bpy.ops.render.render(animation=True)
bpy.utils.unregister_class(SlowToAnswer)

# In a window a render's thread has things done by Blender's first one; where that does not come, it does them itself.
asked = queue.Queue()
timers = SimpleNamespace(register=lambda answer, **_: asked.put(answer))
real, writing.bpy = bpy, SimpleNamespace(app=SimpleNamespace(background=False, timers=timers))
writing.PATIENCE = 0.2
done = {}


def ask(name: str, should_cancel=lambda: False) -> None:
    try:
        done[name] = writing.on_first_thread(threading.current_thread, should_cancel) is threading.main_thread()
    except writing.BackendError as error:
        done[name] = error.code


for name, arguments in (("answered", ()), ("forgotten", ()), ("cancelled", (lambda: True,))):
    job = threading.Thread(target=ask, args=(name, *arguments))
    job.start()
    answer = asked.get()
    if name != "answered":  # too late, which is not at all
        job.join()
    answer()
    job.join()
writing.bpy = real
harness.tell(**done)
harness.tell(refused=refused, recent=recent, errors=errors)
