# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Blender window: the pictures of docs/images that show one. `python3 -m tooling.screenshots` starts it.

Two windows, two sizes: the tall one is for the armature's panel, the other one for the views.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import bpy
from mathutils import Matrix

sys.path.insert(0, str(Path(__file__).parent))
import stage
from shows import fresh

sys.path.insert(0, str(stage.HERE.parents[1] / "demo"))
import rig
import walk

#: Things of the set: name, middle, size, colour. The crate stands before a leg, the pillar behind an arm.
SET = (
    ("Floor", (0.0, 0.6, -0.05), (9.0, 7.0, 0.1), (0.30, 0.29, 0.28)),
    ("Wall", (0.9, 1.9, 1.5), (7.2, 0.1, 3.0), (0.42, 0.47, 0.50)),
    ("Pillar", (-0.46, 0.75, 0.72), (0.42, 0.42, 1.44), (0.20, 0.33, 0.48)),
    ("Crate", (0.41, -0.62, 0.21), (0.46, 0.42, 0.42), (0.62, 0.33, 0.12)),
    ("Box", (0.50, -0.60, 0.60), (0.32, 0.30, 0.36), (0.42, 0.46, 0.22)),
)


def new_scene():
    """The bundled person, walking, beside a file that has been saved: so the avatar's path is relative."""
    folder = stage.OUT / "scene"
    folder.mkdir()
    avatar = Path(shutil.copy(stage.AVATAR, folder / "demo.avatar"))
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "demo.blend"))
    scene, person = stage.new_scene(str(avatar))
    assert person.neural_avatar.avatar_path == "//demo.avatar"
    header = stage.module("addon.avatars").header(str(avatar))
    index = stage.module("neural_backend.interface.skeleton").INDEX
    # The moment when the left foot strikes the floor, brought to the origin.
    style = walk.Style(arm_swing=9, arm_out=33, elbow=16)
    joints = walk.walk(header.rest_joints, index, [0.81], heading=0.4, style=style)
    joints[..., :2] -= joints[:, index["MidHip"], :2]
    person.matrix_world = Matrix.Identity(4)
    rig.pose_to_joints(person, joints, index, 1)
    scene.world.node_tree.nodes["Background"].inputs["Color"].default_value = (0.15, 0.18, 0.23, 1)
    scene.camera.location, scene.camera.rotation_euler = (0.35, -4.6, 1.05), (1.535, 0.0, 0.076)
    scene.camera.data.lens = 44
    scene.render.dither_intensity = 0
    space = stage.window()[1].spaces.active
    space.overlay.show_cursor = space.show_region_toolbar = space.show_region_tool_header = False
    return scene, person


def build_set():
    for name, place, size, color in SET:
        bpy.ops.mesh.primitive_cube_add(size=1, location=place)
        thing = bpy.context.object
        thing.name, thing.scale = name, size
        material = bpy.data.materials.new(name)
        material.use_nodes, material.diffuse_color = True, (*color, 1)
        material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*color, 1)
        material.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.9
        thing.data.materials.append(material)


def posing(person, bone):
    """Choose a bone in Pose Mode."""
    bpy.ops.object.select_all(action="DESELECT")
    person.select_set(True)
    bpy.context.view_layer.objects.active = person
    bpy.ops.object.mode_set(mode="POSE")
    bpy.ops.pose.select_all(action="DESELECT")
    person.data.bones.active = person.data.bones[bone]
    (person.pose if bpy.app.version >= (5, 0) else person.data).bones[bone].select = True


def look(zoom, side=0.0):
    """How large the camera's frame is in the view, and how far it is moved to the left."""
    region = stage.window()[1].spaces.active.region_3d
    region.view_camera_zoom, region.view_camera_offset = zoom, (side, 0.0)


def settled():
    """The avatar at full quality, and all else that the view refines, such as Material Preview's light."""
    yield fresh()
    yield stage.finished
    for _ in range(24):
        yield fresh()


def keep(name):
    subprocess.run(["mogrify", "-strip", "+dither", "-colors", "256", str(stage.picture(name))], check=True)


def views():
    scene, person = new_scene()
    space, preview = stage.window()[1].spaces.active, scene.neural_avatar_preview
    engine = scene.render.engine  # Blender's own
    look(26)
    stage.shade("RENDERED")
    overlay = space.overlay
    # The floor's lines would be drawn over the person: in this view nothing has depth.
    overlay.show_floor = overlay.show_axis_x = overlay.show_axis_y = False
    overlay.show_bones = preview.show_bones = False
    yield from settled()
    keep("viewport_rendered")

    build_set()
    posing(person, "RElbow")
    stage.shade("SOLID", engine)
    space.shading.color_type, space.shading.show_shadows = "MATERIAL", True
    overlay.show_bones = preview.show_bones = True
    yield from settled()
    keep("viewport_overlay")

    # In Object Mode all buttons can be pressed; without the timeline the sidebar has room for all three panels.
    bpy.ops.object.mode_set(mode="OBJECT")
    timeline = next(a for a in bpy.context.screen.areas if a.type == "DOPESHEET_EDITOR")
    with bpy.context.temp_override(window=stage.window()[0], area=timeline):
        bpy.ops.screen.area_close()
    yield
    area = stage.window()[1]  # not the one before
    area.spaces.active.show_region_ui = preview.show_rate = True
    yield
    yield
    next(r for r in area.regions if r.type == "UI").active_panel_category = "Neural Avatar"
    look(18, 0.12)
    stage.shade("MATERIAL", engine)
    yield from settled()
    keep("viewport_panels")


def panel():
    scene, person = new_scene()
    # The panel of joints begins closed, and a script cannot open it.
    joints = stage.module("addon.ui").NEURAL_AVATAR_PT_joints
    bpy.utils.unregister_class(joints)
    joints.bl_options = set()
    bpy.utils.register_class(joints)
    # Large properties; the view in the place of the small ones.
    small = next(a for a in bpy.context.screen.areas if a.type == "PROPERTIES")
    large = stage.window()[1]
    small.type, large.type = "VIEW_3D", "PROPERTIES"
    yield
    yield
    large.spaces.active.context = "DATA"
    space = small.spaces.active
    space.show_region_header = space.show_region_tool_header = space.show_region_toolbar = space.show_gizmo = False
    space.overlay.show_text = space.overlay.show_cursor = space.overlay.show_extras = False
    view = space.region_3d
    view.view_perspective, view.view_location, view.view_distance = "PERSP", (0.0, 0.0, 0.85), 3.3
    view.view_rotation = scene.camera.rotation_euler.to_quaternion()
    posing(person, "RElbow")
    yield from settled()
    properties = next(r for r in large.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=stage.window()[0], area=large, region=properties):
        bpy.ops.view2d.pan(deltay=-330)
    yield from settled()
    keep("panel")


if __name__ == "__main__":
    stage.play(panel if stage.window()[0].height > 800 else views)
