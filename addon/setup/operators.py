# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up's operators. Work goes on in a job; a timer shows how far it is, and is gone when it is done.

Each takes ``wait``, for scripts: it then returns when all is done, with an error where it failed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import bpy

from ...neural_backend.interface.messages import BackendError
from .. import session
from ..preferences import preferences
from . import home

if TYPE_CHECKING:
    from .build import Plan
    from .job import Job

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

_ROOT = Path(__file__).resolve().parents[2]
#: Seconds between two looks at a job, and after Blender's start before leftovers are looked for.
_REDRAW, _SWEEP = 0.25, 10.0


@dataclass
class State:
    """What the preferences show. job: under way. plan: waits for the user's consent. target: where the plan's archive
    is to be made, None to set up. said: the last good news. error: the last bad news."""

    job: Job | None = None
    plan: Plan | None = None
    target: Path | None = None
    said: str = ""
    error: BackendError | None = None


#: A job outlives the operator that began it.
state = State()


def begin(title: str, work: Callable[[Job], Any]) -> None:
    """Set a job to work, and show it."""
    from .job import Job

    place = session.setup_home()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        state.error = BackendError("setup-locked", f"The folder {place} cannot be made: {error}.")
        return
    state.said, state.error, state.plan = "", None, None
    state.job = Job(title, work, place / home.LOG)
    if not bpy.app.background:
        # A file that is loaded meanwhile would take the timer along, and nobody would see the end.
        bpy.app.timers.register(_watch, first_interval=_REDRAW, persistent=True)


def finish() -> None:
    """Take what a finished job gave."""
    from .build import Plan

    job, state.job = state.job, None
    if job is None:
        return
    state.error = job.error
    if isinstance(job.result, Plan):
        state.plan = job.result
    elif job.error is None:
        state.said = str(job.result)


def _watch() -> float | None:
    job = state.job
    if job is not None and job.done.is_set():
        finish()
    _redraw()
    return _REDRAW if state.job is not None else None


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"PREFERENCES", "PROPERTIES", "VIEW_3D"}:
                area.tag_redraw()


class _SetupOperator:
    wait: bpy.props.BoolProperty(name="Wait", options={"HIDDEN", "SKIP_SAVE"})  # type: ignore[valid-type]
    report: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return state.job is None

    def begin(self, title: str, work: Callable[[Job], Any]) -> Outcome:
        begin(title, work)
        if self.wait and state.job is not None:
            state.job.wait()
            finish()
        if state.error is not None:
            self.report({"ERROR"}, state.error.message)
            return {"CANCELLED"}
        return {"FINISHED"}


def _look(target: Path | None = None, archive: Path | None = None) -> Callable[[Job], Any]:
    """Work that makes a plan. What is Blender's is read here, in its own thread."""
    chosen, place, online = preferences(), session.setup_home(), bool(bpy.app.online_access)
    wanted, index = chosen.wheels, chosen.torch_index
    state.target = target

    def work(job: Job) -> Plan:
        from .build import make_plan

        job.stage("Looking at this machine…")
        return make_plan(place, sys.executable, wanted, index, archive, online)

    return work


class NEURAL_AVATAR_OT_setup(_SetupOperator, bpy.types.Operator):
    """Look at this machine and say what would be installed and from where; nothing is done before you agree"""

    bl_idname = "neural_avatar.setup"
    bl_label = "Set Up…"

    def execute(self, context: Any) -> Outcome:
        return self.begin("Looking", _look())


class NEURAL_AVATAR_OT_setup_from_archive(_SetupOperator, bpy.types.Operator):
    """Set up without network, from a folder or zip that Make Offline Archive wrote on another machine"""

    bl_idname = "neural_avatar.setup_from_archive"
    bl_label = "Use Archive"

    filepath: bpy.props.StringProperty(name="Archive", subtype="FILE_PATH", options={"SKIP_SAVE"})  # type: ignore[valid-type]
    filter_glob: bpy.props.StringProperty(default="*.zip;*.whl", options={"HIDDEN"})  # type: ignore[valid-type]

    def invoke(self, context: Any, event: Any) -> Outcome:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> Outcome:
        path = Path(bpy.path.abspath(self.filepath))
        # In a folder of wheels, a wheel may be what was clicked on; with nothing clicked on, it is the folder.
        archive = path.parent if path.suffix == ".whl" or not path.name else path
        return self.begin("Looking", _look(archive=archive))


class NEURAL_AVATAR_OT_make_archive(_SetupOperator, bpy.types.Operator):
    """Download what this machine would install into a folder, for machines of the same kind without network"""

    bl_idname = "neural_avatar.make_archive"
    bl_label = "Make Archive Here"

    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH", options={"SKIP_SAVE"})  # type: ignore[valid-type]

    def invoke(self, context: Any, event: Any) -> Outcome:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Any) -> Outcome:
        return self.begin("Looking", _look(target=Path(bpy.path.abspath(self.directory))))


class NEURAL_AVATAR_OT_setup_agree(_SetupOperator, bpy.types.Operator):
    """Do what is described above"""

    bl_idname = "neural_avatar.setup_agree"
    bl_label = "Agree"

    @classmethod
    def poll(cls, context: Any) -> bool:
        return state.job is None and state.plan is not None

    def execute(self, context: Any) -> Outcome:
        plan, target, device = state.plan, state.target, session.device()
        avatar = next(iter(sorted((_ROOT / "assets").glob("*.avatar"))), None)
        assert plan is not None  # poll
        if plan.archive is None and not bpy.app.online_access:
            self.report({"ERROR"}, "Blender has been set to stay offline meanwhile: press Set Up again.")
            return {"CANCELLED"}

        def work(job: Job) -> str:
            from .build import build, make_archive

            return build(plan, job, device, avatar) if target is None else make_archive(plan, target, job)

        return self.begin("Set-up" if target is None else "Offline archive", work)


class NEURAL_AVATAR_OT_setup_cancel(bpy.types.Operator):
    """Stop; what was set up before stays as it is"""

    bl_idname = "neural_avatar.setup_cancel"
    bl_label = "Cancel"

    def execute(self, context: Any) -> Outcome:
        state.plan = None
        if state.job is not None:
            state.job.cancel()
        return {"FINISHED"}


class NEURAL_AVATAR_OT_setup_test(_SetupOperator, bpy.types.Operator):
    """Run the chosen Python: list its devices, and draw a tiny frame on the chosen one"""

    bl_idname = "neural_avatar.setup_test"
    bl_label = "Test"

    def execute(self, context: Any) -> Outcome:
        place, device = session.setup_home(), session.device()
        avatar = next(iter(sorted((_ROOT / "assets").glob("*.avatar"))), None)
        try:
            python = session.python()
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}

        def work(job: Job) -> str:
            from . import selftest

            job.stage("Testing…")
            try:
                test = selftest.run(python, device, place / home.LOG, job.cancelled, avatar)
            except BackendError as error:
                if error.code != "cancelled":
                    home.set_tested(place, home.Test(python, error=error.message))
                raise
            home.set_tested(place, test)
            drawn = f"; a frame on {test.device} took {1000 * test.seconds:.0f} ms" if test.device else ""
            return f"Python {test.python}, PyTorch {test.torch}, devices: {', '.join(test.devices)}{drawn}."

        return self.begin("Test", work)


class NEURAL_AVATAR_OT_setup_remove(_SetupOperator, bpy.types.Operator):
    """Delete the environment that was set up, and free its room on the disk"""

    bl_idname = "neural_avatar.setup_remove"
    bl_label = "Remove Environment"

    def invoke(self, context: Any, event: Any) -> Outcome:
        return set(context.window_manager.invoke_confirm(self, event))

    def execute(self, context: Any) -> Outcome:
        session.stop()
        place = session.setup_home()
        return self.begin("Removal", lambda job: home.remove(place))


class NEURAL_AVATAR_OT_copy_report(bpy.types.Operator):
    """Copy versions, system, GPU, the last error and the log's end, to paste into a question; no passwords in it"""

    bl_idname = "neural_avatar.copy_report"
    bl_label = "Copy Report"

    def execute(self, context: Any) -> Outcome:
        text = report_text()
        context.window_manager.clipboard = text
        if bpy.app.background:  # a Blender without a window has no clipboard
            print(text)
        self.report({"INFO"}, f"The report is on the clipboard ({len(text.splitlines())} lines)")
        return {"FINISHED"}


def report_text() -> str:
    """What Copy Report copies."""
    from ... import __version__
    from . import report

    place = session.setup_home()
    test, made = home.tested(place), home.current(place)
    try:
        python = session.python()
    except BackendError as error:
        python = f"none ({error.message})"
    facts = {
        "Neural Avatar": __version__,
        "Blender": f"{bpy.app.version_string}, {'offline' if not bpy.app.online_access else 'online'}",
        "Python of the renderer": python,
        "Environment": f"{made.folder}, Python {made.python}, PyTorch {made.torch}, {made.wheels}" if made else "none",
        "Device": session.device(),
        "Last test": (test.error or f"PyTorch {test.torch}, {', '.join(test.devices)}") if test else "none",
        "Renderer": session.status(),
        "Set-up": home.unfinished(place) or "finished",
        "Error": f"[{state.error.code}] {state.error.message}" if state.error else "",
    }
    return report.compose(facts, {"log": session.log_path(), "log of the set-up": place / home.LOG})


CLASSES = (
    NEURAL_AVATAR_OT_setup,
    NEURAL_AVATAR_OT_setup_from_archive,
    NEURAL_AVATAR_OT_make_archive,
    NEURAL_AVATAR_OT_setup_agree,
    NEURAL_AVATAR_OT_setup_cancel,
    NEURAL_AVATAR_OT_setup_test,
    NEURAL_AVATAR_OT_setup_remove,
    NEURAL_AVATAR_OT_copy_report,
)


def _sweep_later() -> None:
    """Delete what could not be deleted before, out of the way of Blender's start."""
    place = session.setup_home()

    def sweep() -> None:
        if home.leftovers(place):
            try:
                with home.lock(place):
                    home.sweep(place)
            except BackendError:
                pass  # another Blender is at it

    threading.Thread(target=sweep, name="neural-avatar-sweep", daemon=True).start()


def register() -> None:
    """Look for leftovers a little later."""
    if not bpy.app.background:
        bpy.app.timers.register(_sweep_later, first_interval=_SWEEP, persistent=True)


def unregister() -> None:
    """End what is under way."""
    for timer in (_watch, _sweep_later):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    if state.job is not None:
        state.job.cancel()
        state.job.wait(10)
    state.job = state.plan = None
