# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: an armature's settings through undo, duplicates, files, links, appends and overrides.
Arguments: avatar, folder."""

import os
import shutil
import sys
from pathlib import Path

import bpy
import harness

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import avatars, troubles  # noqa: E402

library, elsewhere = out / "library", out / "elsewhere" / "deep"
library.mkdir(), elsewhere.mkdir(parents=True)
shutil.copy(avatar, library / "person.avatar")
told: dict[str, object] = {}


def facts(obj: bpy.types.Object) -> list[object]:
    """All that must survive."""
    settings = obj.neural_avatar
    rows = [(r.joint, r.bone, r.end, [round(v, 4) for v in r.offset]) for r in settings.rows]
    return [settings.preset, settings.section, rows]


def found(obj: bpy.types.Object) -> bool:
    """Does its avatar lead to the one file?"""
    return os.path.samefile(avatars.absolute_path(obj), library / "person.avatar")


def save(path: Path, **options) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), **options)


scene = harness.new_scene()
save(library / "character.blend")
person = harness.add_person(str(library / "person.avatar"))
name = person.name
person.neural_avatar.avatar_path = "//person.avatar"
row = person.neural_avatar.rows["LKnee"]
row.bone, row.end, row.offset = "LAnkle", "HEAD", (0.01, 0.02, 0.03)
person.neural_avatar.section = "LEFT_HAND"
collection = bpy.data.collections.new("People")
scene.collection.children.link(collection)
collection.objects.link(person)
scene.collection.objects.unlink(person)
wanted = facts(person)

# Undo and redo.
bpy.context.view_layer.objects.active = person
bpy.ops.ed.undo_push(message="before")
bpy.ops.neural_avatar.detect_mapping(preset="AUTO")
person.neural_avatar.avatar_path = ""
bpy.ops.ed.undo_push(message="changed")
bpy.ops.ed.undo()
person = bpy.data.objects[name]
told["undo"] = facts(person) == wanted and person.neural_avatar.avatar_path == "//person.avatar"
bpy.ops.ed.redo()
told["redo"] = facts(bpy.data.objects[name]) != wanted
bpy.ops.ed.undo()
person = bpy.data.objects[name]

# Duplicates and scene copies, each with settings of its own.
copy = person.copy()
told["duplicate"] = facts(copy) == wanted
copy.neural_avatar.rows["LKnee"].bone = "RAnkle"
told["apart"] = facts(person) == wanted
bpy.data.objects.remove(copy)
bpy.ops.scene.new(type="FULL_COPY")
scene = person.users_scene[0]
full = next(s for s in bpy.data.scenes if s.name != scene.name)
told["scene copy"] = [facts(o) == wanted and found(o) for o in full.objects if o.type == "ARMATURE"]
bpy.data.scenes.remove(full)
for extra in [o for o in bpy.data.objects if not o.users_scene]:
    bpy.data.objects.remove(extra)

# Save, load, save elsewhere, save a copy elsewhere, move the whole folder.
save(library / "character.blend")
bpy.ops.wm.open_mainfile(filepath=str(library / "character.blend"))
person = bpy.data.objects[name]
told["load"] = facts(person) == wanted and found(person)
save(elsewhere / "copy.blend", copy=True)
told["after copy"] = person.neural_avatar.avatar_path
save(elsewhere / "moved.blend")
told["moved"] = [bpy.data.objects[name].neural_avatar.avatar_path, found(bpy.data.objects[name])]
for path in ("copy.blend", "moved.blend"):
    bpy.ops.wm.open_mainfile(filepath=str(elsewhere / path))
    told[path] = [bpy.data.objects[name].neural_avatar.avatar_path, found(bpy.data.objects[name])]
carried = out / "another place"
shutil.copytree(library, carried)
bpy.ops.wm.open_mainfile(filepath=str(carried / "character.blend"))
told["carried"] = os.path.samefile(avatars.absolute_path(bpy.data.objects[name]), carried / "person.avatar")


def fresh() -> None:
    """A new file in another folder than the library."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    save(elsewhere / "shot.blend")


# Append.
fresh()
with bpy.data.libraries.load(str(library / "character.blend"), link=False) as (_, target):
    target.objects = [name]
appended = target.objects[0]
bpy.context.collection.objects.link(appended)
told["append by script"] = [facts(appended) == wanted]
fresh()
bpy.ops.wm.append(
    filepath=str(library / "character.blend" / "Object" / name),
    directory=str(library / "character.blend" / "Object"),
    filename=name,
)
appended = bpy.data.objects[name]
told["append"] = [facts(appended) == wanted, found(appended)]
save(elsewhere / "shot.blend")
bpy.ops.wm.open_mainfile(filepath=str(elsewhere / "shot.blend"))
told["append, loaded"] = [facts(bpy.data.objects[name]) == wanted, found(bpy.data.objects[name])]

# Link: what cannot be changed is said, with a way out.
fresh()
bpy.ops.wm.link(
    filepath=str(library / "character.blend" / "Object" / name),
    directory=str(library / "character.blend" / "Object"),
    filename=name,
)
linked = bpy.data.objects[name]
told["link"] = [facts(linked) == wanted, found(linked)]
told["linked trouble"] = [[t.text, t.fix] for t in troubles.of_object(linked)]
bpy.context.view_layer.objects.active = linked
told["linked detect"] = bpy.ops.neural_avatar.detect_mapping.poll()
assert bpy.ops.neural_avatar.make_override() == {"FINISHED"}
override = bpy.context.view_layer.objects.active
told["override"] = [override.library is None, facts(override) == wanted, found(override)]
told["override trouble"] = [t.text for t in troubles.of_object(override)]
override.neural_avatar.rows["LKnee"].bone = "RKnee"
override.neural_avatar.rows["LKnee"].offset = (0.5, 0, 0)
save(elsewhere / "shot.blend")
bpy.ops.wm.open_mainfile(filepath=str(elsewhere / "shot.blend"))
override = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o.override_library)
knee = override.neural_avatar.rows["LKnee"]
told["override, loaded"] = [knee.bone, round(knee.offset[0], 3), found(override), len(override.neural_avatar.rows)]
bpy.context.view_layer.objects.active = override
bpy.ops.neural_avatar.detect_mapping(preset="AUTO")
save(elsewhere / "shot.blend")
bpy.ops.wm.open_mainfile(filepath=str(elsewhere / "shot.blend"))
override = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o.override_library)
knee = override.neural_avatar.rows["LKnee"]
told["override, detected"] = [knee.bone, knee.end, len(override.neural_avatar.rows)]
told["rows"] = len(wanted[2])


def followed(change, **options) -> bool:
    """Does the viewport learn that an operator has changed the active object?"""
    updated: list[bpy.types.ID] = []

    def note(_, depsgraph) -> None:
        updated.extend(u.id.original for u in depsgraph.updates)

    bpy.context.view_layer.update()
    bpy.app.handlers.depsgraph_update_post.append(note)
    assert change(**options) == {"FINISHED"}
    bpy.context.view_layer.update()
    bpy.app.handlers.depsgraph_update_post.remove(note)
    return bpy.context.object in updated


def mapping_followed(obj: bpy.types.Object) -> list[bool]:
    bpy.context.view_layer.objects.active = obj
    obj.data.bones.active = obj.data.bones["LAnkle"]
    operators = bpy.ops.neural_avatar
    return [followed(operators.pick_bone, joint="LKnee"), followed(operators.detect_mapping, preset="AUTO")]


# What is drawn follows the mapping.
told["override, followed"] = mapping_followed(override)
bpy.ops.wm.open_mainfile(filepath=str(library / "character.blend"))
told["followed"] = mapping_followed(bpy.data.objects[name])
harness.tell(**told)
