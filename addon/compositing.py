# SPDX-License-Identifier: GPL-3.0-or-later
"""Set Up Compositing: a second scene renders the avatars, and the scene's own compositor puts them into its set.

The second scene is the add-on's. It holds the same armatures and the same camera, and takes camera, frame range,
resolution and the like from the first one whenever that is rendered or saved, so that nothing has to be kept in step by
hand. Only the first scene writes files.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import bpy
from bpy.app.handlers import persistent

from ..neural_backend.interface.messages import BackendError
from . import avatars, carriers, compositor, scene_rigs
from .engine import NeuralAvatarEngine
from .handlers import listen, unlisten
from .render_settings import displayed_as, settings
from .writing import on_first_thread, put, write

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

#: How far (metres) an adult's surface may lie behind the set's and still be in front: shoes on the floor, not in it.
TOLERANCE = 0.06
#: Custom property of a scene: the engine that it had before it became a set.
_ENGINE_BEFORE = "neural_avatar_engine_before"
#: Custom property of the collection in a scene of avatars that holds what it has from the set, and nothing else.
_OURS = "neural_avatar_from_set"
#: The same in files made before there was such a collection: of the scene, the full names of these objects.
_LINKED = "neural_avatar_linked"

#: What the scene of the avatars takes from the scene of the set.
#: Blender itself gives it the frame, but not the share of one where a render stands between two.
_SCENE = ("frame_start", "frame_end", "frame_step", "frame_subframe")
_RENDER = (
    "resolution_x", "resolution_y", "resolution_percentage", "pixel_aspect_x", "pixel_aspect_y", "use_border",
    "border_min_x", "border_max_x", "border_min_y", "border_max_y", "use_crop_to_border", "fps", "fps_base",
    "frame_map_old", "frame_map_new", "use_motion_blur", "motion_blur_shutter", "motion_blur_position", "use_multiview",
)  # fmt: skip
_SETTINGS = ("quality", "samples", "keep_look")


def scene_of_avatars(scene: Any) -> Any:
    """The scene that renders the avatars of a scene with compositing set up; None where there is none."""
    nodes = compositor.marked(compositor.tree_of(scene), "person")
    return next((node.scene for node in nodes if node.scene not in (None, scene)), None)


def follow(scene: Any, people: Any) -> None:
    """Bring the scene of the avatars into step with the scene of the set. Changes only what differs."""
    for target, source, names in (
        (people, scene, _SCENE), (people.render, scene.render, _RENDER),
        (people.unit_settings, scene.unit_settings, ("scale_length",)),
        (settings(people), settings(scene), _SETTINGS),
    ):  # fmt: skip
        for name in names:
            put(target, name, getattr(source, name))
    scene_rigs.bring_properties(scene, people)
    put(people, "camera", camera_of(scene))
    put(settings(people), "set_scene", scene)
    put(people.render, "engine", NeuralAvatarEngine.bl_idname)
    put(people.render, "film_transparent", True)
    for name in ("use_compositing", "use_sequencer"):
        put(people.render, name, False)
    put(people.view_layers[0], "use_pass_z", True)
    # Every camera of the timeline is there from the start: a cut changes nothing but which one is looked through.
    wanted = {*carriers.carriers(scene), *(cut.camera for cut in _cuts(scene))}
    if people.camera is not None:
        wanted.add(people.camera)
    ours = _ours(people)
    if ours is None or set(ours.objects) != wanted or _LINKED in people:
        on_first_thread(lambda: _bring(people, wanted))


def _ours(people: Any) -> Any:
    """The collection of what a scene of avatars has from the set. What a user has put beside it stays: it may be
    nowhere else."""
    return next((one for one in people.collection.children_recursive if one.get(_OURS)), None)


def _bring(people: Any, wanted: set[Any]) -> None:
    """Let a scene of avatars have these objects from the set, and no others."""
    ours = _ours(people)
    if ours is None:
        made = ours = bpy.data.collections.new("From the Set")
        write(lambda: made.__setitem__(_OURS, True))
        people.collection.children.link(ours)
    if _LINKED in people:
        names = set(json.loads(people[_LINKED]))
        for obj in [one for one in people.collection.objects if one.name_full in names]:
            people.collection.objects.unlink(obj)
        write(lambda: people.__delitem__(_LINKED))
    there = set(ours.objects)
    for obj in there - wanted:
        ours.objects.unlink(obj)
    for obj in sorted(wanted - there, key=lambda one: one.name):
        ours.objects.link(obj)


def camera_of(scene: Any) -> Any:
    """The camera that a scene is rendered by at its frame, None where it has none.

    Markers decide by Blender's rule. Blender itself goes by it only when those who listen for a frame have been called,
    so that until then ``scene.camera`` is the frame's before.
    """
    cuts = _cuts(scene)
    if not cuts:
        return scene.camera
    past = [cut for cut in cuts if cut.frame <= scene.frame_current]
    # Of several markers at one frame the first counts.
    return (max(past, key=lambda cut: cut.frame) if past else min(cuts, key=lambda cut: cut.frame)).camera


def _cuts(scene: Any) -> list[Any]:
    """The markers that change a scene's camera."""
    return [marker for marker in scene.timeline_markers if marker.camera is not None and not marker.camera.hide_render]


class NEURAL_AVATAR_OT_setup_compositing(bpy.types.Operator):
    """Let this scene's avatars stand in its set: a second scene renders them, and the compositor puts them in front of
    and behind things by depth. Run again to mend it"""

    bl_idname = "neural_avatar.setup_compositing"
    bl_label = "Set Up Compositing"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    place: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Place",
        description="Where the avatars come into a picture that has compositing nodes already",
        items=(
            ("END", "Before the Output", "Your own nodes work on the set alone"),
            ("START", "After the Render Layer", "Your own nodes work on set and avatars together"),
        ),
    )

    def execute(self, context: Any) -> Outcome:
        scene = displayed_as(context.scene)
        if not scene.is_editable:
            self.report({"ERROR"}, f"Scene '{scene.name}' is linked from another file: set up compositing there.")
            return {"CANCELLED"}
        if not carriers.anybody(scene):
            self.report(
                {"ERROR"},
                f"No armature that scene '{scene.name}' renders carries an avatar: choose an avatar file in an "
                "armature's data properties.",
            )
            return {"CANCELLED"}
        if camera_of(scene) is None:
            self.report({"WARNING"}, f"Scene '{scene.name}' has no camera yet: add one before you render.")
        if scene.render.engine == NeuralAvatarEngine.bl_idname:
            scene[_ENGINE_BEFORE] = scene.render.engine
            scene.render.engine = _engine_for_sets()
            self.report(
                {"INFO"}, f"Scene '{scene.name}' now renders its set with {scene.render.engine.title()}; choose any."
            )
        people = scene_of_avatars(scene)
        if people is None:
            for lost in [one for one in bpy.data.collections if one.get(_OURS) and not one.users]:
                bpy.data.collections.remove(lost)
            people = bpy.data.scenes.new(f"{scene.name} (Avatars)")
            people.view_layers[0].use_pass_cryptomatte_object = True
        follow(scene, people)
        compositor.join(scene, people, self._tolerance(scene), self.place == "START")
        if apart := scene_rigs.posed_apart(scene, people):
            names = ", ".join(f"'{name}'" for name in apart[:3]) + (f" and {len(apart) - 3} more" * (len(apart) > 3))
            self.report(
                {"WARNING"},
                f"{names}: the pose depends on the scene, by rigid bodies or drivers, and the avatar will not follow "
                "it. Bake the motion to keyframes, then press Mend.",
            )
        return {"FINISHED"}

    def _tolerance(self, scene: Any) -> float:
        """In scene units, for the smallest person of the scene."""
        import numpy as np

        from ..neural_backend.interface.body import body_scale
        from . import scene as ours

        layer = next((one for one in scene.view_layers if one.use), scene.view_layers[0])
        try:
            people = ours.avatar_instances(layer.depsgraph) if layer.depsgraph else ()
            scales = [
                float(body_scale(p.joints[None], p.confidence[None], np.asarray(avatars.header(p.path).rest_joints))[0])
                for p in people
            ]
        except BackendError as error:
            self.report({"WARNING"}, error.message)
            scales = []
        return TOLERANCE * min(scales, default=1 / (scene.unit_settings.scale_length or 1.0))


def _engine_for_sets() -> str:
    """The engine for a set whose scene rendered with ours."""
    if "cycles" in bpy.context.preferences.addons:
        return "CYCLES"
    return "BLENDER_EEVEE" if compositor.FIVE else "BLENDER_EEVEE_NEXT"


class NEURAL_AVATAR_OT_remove_compositing(bpy.types.Operator):
    """Take the avatars out of this scene's compositor, and remove the scene that rendered them. Your own nodes stay"""

    bl_idname = "neural_avatar.remove_compositing"
    bl_label = "Remove Compositing"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: Any) -> bool:
        tree = compositor.tree_of(displayed_as(context.scene))
        return bool(compositor.marked(tree, "join") or compositor.marked(tree, "person"))

    def execute(self, context: Any) -> Outcome:
        scene = displayed_as(context.scene)
        people = scene_of_avatars(scene)
        compositor.leave(scene)
        if before := scene.pop(_ENGINE_BEFORE, None):
            scene.render.engine = before
        # A copy of the scene may still use it.
        if people is not None and not any(scene_of_avatars(other) == people for other in bpy.data.scenes):
            if context.window is not None and context.window.scene == people:
                context.window.scene = scene
            ours = _ours(people)
            users = [one for one in (people.collection, *people.collection.children_recursive) if one != ours]
            for obj in {obj for one in users for obj in one.objects}:
                if tuple(obj.users_scene) == (people,):
                    scene.collection.objects.link(obj)
            bpy.data.scenes.remove(people)
            if ours is not None:
                bpy.data.collections.remove(ours)
        return {"FINISHED"}


class NEURAL_AVATAR_PT_compositing(bpy.types.Panel):
    bl_label = "Neural Avatar in Set"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "output"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return avatars.anybody(context.scene) or carriers.anybody(context.scene)

    def draw(self, context: Any) -> None:
        draw_setup(self.layout, context.scene)


def draw_setup(layout: Any, scene: Any) -> None:
    """The state of a scene's compositing, and the operators."""
    scene = displayed_as(scene)
    people = scene_of_avatars(scene)
    if people is None:
        layout.operator(NEURAL_AVATAR_OT_setup_compositing.bl_idname, icon="NODE_COMPOSITING")
        return
    layout.label(text=f"Avatars are rendered by scene '{people.name}'", icon="CHECKMARK")
    row = layout.row(align=True)
    row.operator(NEURAL_AVATAR_OT_setup_compositing.bl_idname, text="Mend")
    row.operator(NEURAL_AVATAR_OT_remove_compositing.bl_idname, text="Remove")


@persistent  # type: ignore[untyped-decorator]
def before_render(scene: Any, *_: object) -> None:
    """Frame range, camera and the rest may have changed since; at each frame, as markers change the camera."""
    people = scene_of_avatars(scene)
    if people is not None and people.is_editable:
        follow(scene, people)


@persistent  # type: ignore[untyped-decorator]
def before_save(*_: object) -> None:
    """What is in the file is in step too."""
    for scene in bpy.data.scenes:
        if scene.is_editable:
            before_render(scene)


CLASSES = (NEURAL_AVATAR_OT_setup_compositing, NEURAL_AVATAR_OT_remove_compositing, NEURAL_AVATAR_PT_compositing)

_HANDLERS = (("render_init", before_render), ("render_pre", before_render), ("save_pre", before_save))


def register() -> None:
    """Listen for renders and saves."""
    listen(_HANDLERS)


def unregister() -> None:
    """Listen no more."""
    unlisten(_HANDLERS)
