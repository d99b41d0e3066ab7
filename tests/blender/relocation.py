# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: the paths of avatars as other systems, drives, libraries and failed saves leave them. Arguments:
avatar, folder."""

import ntpath
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import bpy
import harness
import recorder

avatar, out = sys.argv[1], Path(sys.argv[2])
harness.enable()
from neural_avatar.addon import avatars, relocation, sidebar  # noqa: E402

library, shots, elsewhere = (out / name for name in ("library", "shots", "elsewhere"))
for folder in (library, shots, elsewhere):
    folder.mkdir()
ada = library / "ada.avatar"
shutil.copy(avatar, ada)
told: dict[str, object] = {}


def save(path: Path, **options) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), **options)


def load(path: Path, overriding: bool = False) -> bpy.types.Object:
    """An armature of a file."""
    bpy.ops.wm.open_mainfile(filepath=str(path))
    return next(o for o in bpy.data.objects if o.type == "ARMATURE" and bool(o.override_library) == overriding)


def bring(action, name: str, source: Path = library / "character.blend") -> bpy.types.Object:
    """A person out of a file into a new one, linked or appended."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    save(shots / "shot.blend")
    folder = str(source / "Object")
    action(filepath=os.path.join(folder, name), directory=folder, filename=name)
    person = next(o for o in bpy.data.objects if o.name == name and (not o.library or o.library.name == source.name))
    bpy.context.view_layer.objects.active = person
    return person


harness.new_scene()
save(library / "character.blend")
person = harness.add_person(str(ada))
name = person.name
told["added"] = person.neural_avatar.avatar_path
save(library / "character.blend")

# Written with the separators that every system reads, and as they are where no relative path leads there.
windows = SimpleNamespace(path=ntpath, sep=ntpath.sep)
with mock.patch.object(avatars, "os", windows):
    told["windows"] = [
        avatars.relative(path, r"C:\project\shots")
        for path in (r"C:\project\avatars\ada.avatar", r"D:\ada.avatar", r"\\server\share\ada.avatar")
    ]
told["appends are watched"] = hasattr(bpy.app.handlers, "blend_import_post")
with mock.patch.object(os.path, "relpath", side_effect=ValueError("path is on mount 'D:', start on mount 'C:'")):
    person = bring(bpy.ops.wm.append, name)
told["append, another drive"] = [person.neural_avatar.avatar_path, avatars.absolute_path(person)]

# Saved by Windows. A file of such a name is what is meant where there is one.
person = bring(bpy.ops.wm.append, name)
settings = person.neural_avatar
settings.avatar_path, settings.known_at = "//..\\library\\ada.avatar", ""
told["backslashes"] = avatars.absolute_path(person)
odd = f"{shots}/..\\library\\ada.avatar"
if os.sep == "/":
    shutil.copy(ada, odd)
told["name with backslashes"] = os.path.samefile(avatars.absolute_path(person), odd)
if os.sep == "/":
    os.remove(odd)
save(shots / "shot.blend")
told["saved"] = settings.avatar_path
settings.avatar_path = "//..\\library\\ada.avatar"
save(elsewhere / "copy.blend", copy=True)
told["after copy"] = settings.avatar_path
bundled = f"C:\\Users\\ada\\neural_avatar\\assets\\{os.path.basename(avatar)}"
settings.avatar_path = bundled
told["bundled elsewhere"] = avatars.absolute_path(person) == os.path.abspath(avatar)
# What is found in another way than by the path may yet come: the path stays.
settings.avatar_path, settings.known_at = "//nowhere.avatar", str(ada)
save(shots / "shot.blend")
told["nowhere"] = settings.avatar_path
# A linked character's path is relative to its own file.
person = load(library / "character.blend")
relocation.unregister()
person.neural_avatar.avatar_path = "//..\\library\\ada.avatar"
save(library / "character.blend")
relocation.register()
person = bring(bpy.ops.wm.link, name)
told["linked"] = [person.neural_avatar.avatar_path, avatars.absolute_path(person)]
load(library / "character.blend")
save(library / "character.blend")

# An override follows its library in what it does not set itself, wherever the shot is saved.
bring(bpy.ops.wm.link, name)
assert bpy.ops.neural_avatar.make_override() == {"FINISHED"}
override = bpy.context.view_layer.objects.active
save(elsewhere / "shot.blend")
told["override"] = override.neural_avatar.avatar_path
shutil.copy(ada, shots / "bob.avatar")
override.neural_avatar.avatar_path = "//../shots/bob.avatar"
save(shots / "own.blend")
told["override of its own"] = [override.neural_avatar.avatar_path]
save(elsewhere / "own.blend")
told["override of its own"].append(override.neural_avatar.avatar_path)
person = load(library / "character.blend")
shutil.copy(ada, library / "eve.avatar")
person.neural_avatar.avatar_path = "//eve.avatar"
save(library / "character.blend")
override = load(elsewhere / "shot.blend", overriding=True)
told["override, library changed"] = [override.neural_avatar.avatar_path, avatars.absolute_path(override)]
person = load(library / "character.blend")
person.neural_avatar.avatar_path = "//ada.avatar"
save(library / "character.blend")
# A file between library and shot overrides the character and is linked in turn, or overridden once more.
bring(bpy.ops.wm.link, name)
assert bpy.ops.neural_avatar.make_override() == {"FINISHED"}
override_name = bpy.context.view_layer.objects.active.name
save(elsewhere / "between.blend")
person = bring(bpy.ops.wm.link, override_name, elsewhere / "between.blend")
assert person.override_library
told["linked override"] = [person.neural_avatar.avatar_path, avatars.absolute_path(person)]
assert bpy.ops.neural_avatar.make_override() == {"FINISHED"}
save(out / "shot.blend")
override = bpy.context.view_layer.objects.active
told["override of an override"] = [override.neural_avatar.avatar_path, avatars.absolute_path(override)]

# A save that fails leaves the open file's paths as they were.
person = load(library / "character.blend")
try:
    save(out / "no such folder" / "deep" / "character.blend")
except RuntimeError:
    told["failed"] = [person.neural_avatar.avatar_path, avatars.absolute_path(person)]

# A linked or appended character's own armature comes from the file that the character finds.
told["own armature"] = []
for action in (bpy.ops.wm.link, bpy.ops.wm.append):
    bring(action, name)
    button = recorder.options(sidebar.NEURAL_AVATAR_PT_tools, "Import Its Own Armature")
    assert bpy.ops.neural_avatar.add_person(**button) == {"FINISHED"}
    own = bpy.context.object
    told["own armature"].append([own.neural_avatar.avatar_path, avatars.absolute_path(own)])
harness.tell(**told)
