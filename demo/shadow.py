# SPDX-License-Identifier: GPL-3.0-or-later
"""What lets the person touch the ground: simple bodies along the bones that only cast shadow. Runs inside Blender.

The avatar is a picture and throws no shadow of its own; these ellipsoids follow its joints, hidden from the camera.
"""

from __future__ import annotations

from collections.abc import Mapping

import bpy
import numpy as np
import numpy.typing as npt
from mathutils import Vector

#: From joint, to joint, radius in body heights.
SEGMENTS: tuple[tuple[str, str, float], ...] = (
    ("MidHip", "Neck", 0.078), ("RHip", "LHip", 0.075), ("RShoulder", "LShoulder", 0.045), ("REar", "LEar", 0.062),
    *((s + a, s + b, r) for s in "LR" for a, b, r in (
        ("Hip", "Knee", 0.045), ("Knee", "Ankle", 0.032), ("Heel", "BigToe", 0.024), ("Shoulder", "Elbow", 0.028),
        ("Elbow", "Wrist", 0.024),
    )),
)  # fmt: skip


def add_shadow(
    scene: bpy.types.Scene, joints: npt.NDArray[np.float64], index: Mapping[str, int], height: float, first_frame: int
) -> None:
    """Add the casters, keyed at each frame. joints: (T, J, 3) world; height: of the person, in the same unit."""
    for a, b, radius in SEGMENTS:
        caster = _ellipsoid(f"Shadow {a} {b}")
        scene.collection.objects.link(caster)
        caster.visible_camera = caster.visible_glossy = caster.visible_transmission = False
        caster.rotation_mode = "QUATERNION"
        for k, (start, end) in enumerate(joints[:, [index[a], index[b]]]):
            direction = Vector(end - start)
            caster.location = (start + end) / 2
            caster.rotation_quaternion = direction.to_track_quat("Z", "Y")
            caster.scale = (radius * height, radius * height, direction.length / 2 + 0.6 * radius * height)
            for path in ("location", "rotation_quaternion", "scale"):
                caster.keyframe_insert(path, frame=first_frame + k)


def _ellipsoid(name: str) -> bpy.types.Object:
    """A unit sphere of 16 x 8 faces."""
    rings = [(np.sin(p), np.cos(p)) for p in np.linspace(0, np.pi, 9)]
    turns = [(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 16, endpoint=False)]
    vertices = [(r * x, r * y, z) for r, z in rings for x, y in turns]
    faces = [
        (16 * k + i, 16 * k + (i + 1) % 16, 16 * k + 16 + (i + 1) % 16, 16 * k + 16 + i)
        for k in range(8)
        for i in range(16)
    ]
    data = bpy.data.meshes.new(name)
    data.from_pydata(vertices, [], faces)
    data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
    return bpy.data.objects.new(name, data)
