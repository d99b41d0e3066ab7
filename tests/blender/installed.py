# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: the built zip, installed as a user does it. Arguments: zip, avatar, picture to write."""

import sys

import bpy
import harness

archive, avatar, picture = sys.argv[1:]
bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
module = "bl_ext.user_default.neural_avatar"
bpy.ops.preferences.addon_enable(module=module)
assert module in bpy.context.preferences.addons
assert "neural_avatar" not in sys.modules and "torch" not in sys.modules
scene = bpy.context.scene
scene.render.engine = "NEURAL_AVATAR"
scene.render.resolution_x, scene.render.resolution_y, scene.render.film_transparent = 96, 96, True
person = harness.add_person(avatar)
scene.camera.location, scene.camera.rotation_euler = (0, -4.5, 1), (1.57, 0, 0)
error = harness.render(scene, picture)
assert not error, error
assert bpy.context.preferences.addons[module].preferences.device == "auto"
log = sys.modules[module + ".addon.session"].log_path()
bpy.ops.preferences.addon_disable(module=module)
assert not hasattr(bpy.types.Object, "neural_avatar")
bpy.ops.preferences.addon_enable(module=module)
assert person.neural_avatar.avatar_path == avatar
harness.tell(log=str(log), written=log.exists())
