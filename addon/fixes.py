# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators behind the buttons beside a trouble."""

from __future__ import annotations

from typing import Any, Literal

import bpy

from .preferences import PACKAGE

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]


class NEURAL_AVATAR_OT_pick_bone(bpy.types.Operator):
    """Take the active bone for this joint"""

    bl_idname = "neural_avatar.pick_bone"
    bl_label = "Use Active Bone"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    joint: bpy.props.StringProperty(name="Joint", options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and context.object.type == "ARMATURE" and context.object.library is None

    def execute(self, context: Any) -> Outcome:
        obj = context.object
        bone = obj.data.edit_bones.active if obj.mode == "EDIT" else obj.data.bones.active
        if bone is None:
            self.report({"WARNING"}, "No bone is active: click on one in pose mode first.")
            return {"CANCELLED"}
        row = next((r for r in obj.neural_avatar.rows if r.joint == self.joint), None)
        if row is None:
            self.report({"WARNING"}, "The mapping is empty: press Map Joints first.")
            return {"CANCELLED"}
        row.bone = bone.name
        obj.update_tag()  # a row tells Blender nothing: without this views would go on showing the old bone
        return {"FINISHED"}


class NEURAL_AVATAR_OT_make_override(bpy.types.Operator):
    """Make a library override of the linked character, so that its avatar and pose can be changed in this file"""

    bl_idname = "neural_avatar.make_override"
    bl_label = "Make Override"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and context.object.library is not None

    def execute(self, context: Any) -> Outcome:
        linked = context.object
        made = linked.override_hierarchy_create(context.scene, context.view_layer, do_fully_editable=True)
        if made is None:
            self.report(
                {"ERROR"}, f"'{linked.name}' cannot be overridden: open its file and change it there, or append it."
            )
            return {"CANCELLED"}
        context.view_layer.objects.active = made
        made.select_set(True)
        return {"FINISHED"}


class NEURAL_AVATAR_OT_add_camera(bpy.types.Operator):
    """Add a camera that sees the avatar from the front, and render through it"""

    bl_idname = "neural_avatar.add_camera"
    bl_label = "Add Camera"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    def execute(self, context: Any) -> Outcome:
        from mathutils import Vector

        scene = context.scene
        people = [o for o in scene.objects if o.type == "ARMATURE" and o.neural_avatar.avatar_path]
        person = context.object if context.object in people else people[0] if people else None
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        (context.collection or scene.collection).objects.link(camera)
        low, high = Vector((-0.5, -0.5, 0)), Vector((0.5, 0.5, 1.8))
        if person is not None:
            corners = [person.matrix_world @ Vector(corner) for corner in person.bound_box]
            low, high = (Vector([f(c[i] for c in corners) for i in range(3)]) for f in (min, max))
        middle, size = (low + high) / 2, high - low
        render = scene.render
        aspect = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
        lens = camera.data.lens / camera.data.sensor_width
        # Half as much again as the armature, for hair, shoes and arms.
        distance = 1.5 * lens * max(size.x * max(1, 1 / aspect), size.z * max(1, aspect), 0.1)
        camera.location = middle + Vector((0, low.y - middle.y - distance, 0))
        camera.rotation_euler = (1.5707963, 0, 0)
        scene.camera = camera
        return {"FINISHED"}


class NEURAL_AVATAR_OT_open_preferences(bpy.types.Operator):
    """Show the add-on's preferences"""

    bl_idname = "neural_avatar.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, context: Any) -> Outcome:
        bpy.ops.preferences.addon_show(module=PACKAGE)
        return {"FINISHED"}


CLASSES = (
    NEURAL_AVATAR_OT_pick_bone,
    NEURAL_AVATAR_OT_make_override,
    NEURAL_AVATAR_OT_add_camera,
    NEURAL_AVATAR_OT_open_preferences,
)
