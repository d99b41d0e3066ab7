# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: our camera against Blender's own world_to_camera_view, and region arithmetic against what
Blender renders."""

import itertools

import bpy
import harness
import numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector

harness.load_package()
from neural_avatar.addon import camera as ours  # noqa: E402
from neural_avatar.neural_backend.interface.messages import BackendError  # noqa: E402

scene = bpy.context.scene
view, render = scene.camera, scene.render
view.location, view.rotation_euler, view.scale = (3, -6, 2), (1.3, 0.2, 0.5), (2, 2, 2)
view.data.sensor_width, view.data.sensor_height, view.data.ortho_scale = 36, 20, 5
points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
worst = worst_region = 0.0
for kind, fit, lens, shift, size, aspect, percentage in itertools.product(
    ("PERSP", "ORTHO"), ("AUTO", "HORIZONTAL", "VERTICAL"), (24, 85), ((0, 0), (0.3, -0.2)),
    ((640, 360), (360, 642)), ((1, 1), (2, 1), (1, 1.5)), (100, 50),
):  # fmt: skip
    data = view.data
    data.type, data.sensor_fit, data.lens, (data.shift_x, data.shift_y) = kind, fit, lens, shift
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, percentage
    render.pixel_aspect_x, render.pixel_aspect_y = aspect
    depsgraph = bpy.context.evaluated_depsgraph_get()
    evaluated = view.evaluated_get(depsgraph)
    width, height = ours.picture_size(render)
    pixels, depth = ours.convert(evaluated, depsgraph).project(points)
    region = ours.Region(7, 11, width // 3, height // 2)
    in_region, _ = ours.convert(evaluated, depsgraph, region).project(points)
    for point, pixel, z, inner in zip(points, pixels, depth, in_region, strict=True):
        x, y, d = world_to_camera_view(scene, view, Vector(point))
        expected = np.array([x * width, (1 - y) * height])
        worst = max(worst, *np.abs(expected - pixel), abs(d - z))
        corner = np.array([region.x, height - region.y - region.height])
        worst_region = max(worst_region, *np.abs(expected - corner - inner))

errors = {}
for name, change in (
    ("panoramic", lambda: setattr(view.data, "type", "PANO")),
    ("nowhere", lambda: setattr(view, "location", (np.nan, 0, 0))),
):
    change()
    depsgraph = bpy.context.evaluated_depsgraph_get()
    try:
        ours.convert(view.evaluated_get(depsgraph), depsgraph)
    except BackendError as error:
        errors[name] = error.code
    view.data.type = "PERSP"
harness.tell(worst=worst, worst_region=worst_region, errors=errors)
