# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: a film of an avatar in a set, rendered in Blender's own job as Ctrl-F12 does, while the
window goes on drawing; and the same film once more, in Blender's first thread."""

import sys
import threading
from pathlib import Path

import bpy

sys.path.insert(0, str(Path(__file__).parent))
import stage

threads = {"handler": set(), "table": set(), "link": set()}


def noted(name, genuine):
    """A function that notes whether Blender's first thread calls it."""

    def call(*arguments, **keywords):
        threads[name].add(threading.current_thread() is threading.main_thread())
        return genuine(*arguments, **keywords)

    return call


def story():
    compositing, display, final = (stage.module(f"addon.{n}") for n in ("compositing", "display", "final"))
    scene, _ = stage.new_scene()
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 1, False, "CPU"
    scene.render.resolution_x, scene.render.resolution_y = 160, 90
    assert bpy.ops.neural_avatar.setup_compositing() == {"FINISHED"}
    people = compositing.scene_of_avatars(scene)
    other = bpy.data.objects.new("Other", scene.camera.data)
    other.matrix_world = scene.camera.matrix_world.copy()
    other.location.x -= 0.5
    scene.collection.objects.link(other)
    scene.timeline_markers.new("First", frame=1).camera = scene.camera
    scene.timeline_markers.new("Cut", frame=2).camera = other
    for number in (1, 2, 3):
        image = bpy.data.images.new("Plate", 16, 9)
        image.pixels.foreach_set([0.3 * number, 0.2, 1 - 0.3 * number, 1.0] * 144)
        image.filepath_raw, image.file_format = str(stage.OUT / f"plate_{number:04d}.png"), "PNG"
        image.save()
        bpy.data.images.remove(image)
    camera = scene.camera.data
    camera.show_background_images = True
    background = camera.background_images.new()
    background.image = bpy.data.images.load(str(stage.OUT / "plate_0001.png"))
    background.image.source = "SEQUENCE"
    background.image_user.frame_duration, background.image_user.frame_start = 3, 1
    tree = scene.compositing_node_group if bpy.app.version >= (5, 0) else scene.node_tree
    node = next(n for n in tree.nodes if n.bl_idname == "CompositorNodeRLayers" and n.scene == people)
    join = next(n for n in tree.nodes if n.bl_idname == "CompositorNodeGroup")
    tree.links.new(node.outputs["Composite"], join.inputs["Image"])
    scene.view_settings.view_transform, scene.neural_avatar_render.keep_look = "AgX", True
    scene.frame_start, scene.frame_end = 1, 3
    stage.harness.save_as(scene, "PNG")
    display.showing = noted("table", display.showing)
    compositing._bring = noted("link", compositing._bring)
    errors, ended = [], []
    tell = final.tell

    def told(engine, level, *text):
        if level == "ERROR":
            errors.append(text)
        tell(engine, level, *text)

    final.tell = told
    bpy.app.handlers.render_pre.append(noted("handler", lambda *_: None))
    bpy.app.handlers.render_complete.append(lambda *_: ended.append("complete"))
    bpy.app.handlers.render_cancel.append(lambda *_: ended.append("cancelled"))
    scene.render.filepath = str(stage.OUT / "job_")
    with stage.override():
        bpy.ops.render.render("INVOKE_DEFAULT", animation=True)
    yield lambda: bool(ended)
    yield lambda: not bpy.app.is_job_running("RENDER")
    stage.tell(ended=ended, threads={name: sorted(seen) for name, seen in threads.items()})
    scene.render.filepath = str(stage.OUT / "first_")
    scene.frame_set(1)
    bpy.ops.render.render(animation=True)
    stage.tell(errors=errors)


stage.play(story)
