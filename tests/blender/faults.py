# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: the add-on amid faults, and files that are loaded while it is at work. Argument: avatar."""

import os
import sys
import threading
import time
from types import SimpleNamespace

import bpy
import harness

avatar = sys.argv[1]
harness.enable()
from neural_avatar.addon import session, viewport  # noqa: E402
from neural_avatar.addon.preview import Preview  # noqa: E402
from neural_avatar.addon.setup import operators  # noqa: E402
from neural_avatar.neural_backend.interface.messages import BackendError  # noqa: E402

# A fault of ours while the scene is read is an error like any other, told once for each change of the scene.
harness.new_scene()
person = harness.add_person(avatar)
depsgraph = bpy.context.evaluated_depsgraph_get()
asked = []


def broken(graph: object, faults: object) -> None:
    asked.append(graph)
    raise ValueError("no such thing")


whole, viewport.scene.shown_people = viewport.scene.shown_people, broken
codes = []
for _ in range(3):
    try:
        viewport.people_of(depsgraph)
    except BackendError as error:
        codes.append([error.code, "ValueError: no such thing" in error.message])
viewport.scene.shown_people = whole
harness.tell(codes=codes, asked=len(asked), logged="in broken" in session.log_path().read_text("utf-8"))

# A rig is fitted once, and again when its mapping or its bones have changed.
from neural_avatar.addon import scene as scenes  # noqa: E402


def joints() -> bytes:
    return scenes.avatar_instances(bpy.context.evaluated_depsgraph_get())[0].joints.tobytes()


seen = [joints(), joints()]
row = person.neural_avatar.rows["LKnee"]
row.offset = (0.1, 0.0, 0.0)
seen.append(joints())
row.offset = (0.0, 0.0, 0.0)
bpy.ops.object.mode_set(mode="EDIT")
for bone in person.data.edit_bones:
    bone.tail.x += 0.01
bpy.ops.object.mode_set(mode="OBJECT")
seen.append(joints())
harness.tell(fits=[seen[0] == seen[1], len(set(seen))])

# The views of a file are forgotten also where nobody says any more which Python is to be used.
session.session().wait_until_ready()
viewport._state.views[1] = viewport.Viewed("view", Preview(lambda request: None, viewport.cache))
python = os.environ.pop("NEURAL_AVATAR_PYTHON")
viewport.forget()
harness.tell(views=len(viewport._state.views), ready=session.is_ready())
session.stop()

# What frames have left for the next ones goes when there has been none for long.
os.environ["NEURAL_AVATAR_PYTHON"] = python
genuine, rests, never = session.preferences, [], {"unload_minutes": 0, "stop_minutes": 0}


def rest(**minutes: float) -> None:
    session.preferences = lambda: SimpleNamespace(**{**vars(genuine()), **never, **minutes})
    session.session()


rest()
for name, minutes in (("unload_minutes", 1e-3), ("stop_minutes", 2e-3)):
    session.room("backdrop", (4, 4, 4))
    rest(**{name: minutes})
    end = time.monotonic() + 60
    while session.kept() and time.monotonic() < end:
        time.sleep(0.01)
    rests.append(len(session.kept()))
session.preferences = genuine
session.stop()
del os.environ["NEURAL_AVATAR_PYTHON"]
harness.tell(rests=rests)

# A job of the set-up goes on while files are loaded, and its end is noticed.
end = threading.Event()
real, operators.bpy = bpy, SimpleNamespace(app=SimpleNamespace(background=False, timers=bpy.app.timers))
operators.begin("Test", lambda job: end.wait())
operators.register()
operators.bpy = real
bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
timers = (operators._watch, operators._sweep_later)
harness.tell(timers=[bpy.app.timers.is_registered(timer) for timer in timers])
end.set()
operators.state.job.wait()
operators._watch()
harness.tell(job=operators.state.job is None)

# What another add-on gets wrong in its own panels keeps nobody from starting.
package = sys.modules["neural_avatar"]
package.unregister()


class OTHER_PT_panel(bpy.types.Panel):
    bl_label, bl_space_type, bl_region_type = "Other", "PROPERTIES", "WINDOW"
    COMPAT_ENGINES = ("BLENDER_RENDER",)


# A start that fails leaves nothing behind, and can be tried again.
broken_class = type("BROKEN", (), {})
from neural_avatar.addon import overlay  # noqa: E402

overlay.CLASSES = (*overlay.CLASSES, broken_class)
try:
    package.register()
    harness.tell(refused=False)
except Exception as error:
    left = [name for name in dir(bpy.types) if name.upper().startswith("NEURAL_AVATAR")]
    harness.tell(
        refused=True, why=type(error).__name__, left=left, scene=hasattr(bpy.types.Scene, "neural_avatar_batch")
    )
overlay.CLASSES = overlay.CLASSES[:-1]
package.register()
harness.tell(again=hasattr(bpy.types.Scene, "neural_avatar_batch"))
bpy.app.handlers.render_pre.clear()
package.unregister()
package.unregister()
harness.tell(gone=not hasattr(bpy.types.Scene, "neural_avatar_batch"))
