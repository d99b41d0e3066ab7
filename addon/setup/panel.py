# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences."""

from __future__ import annotations

import os
from typing import Any

import bpy

from ...neural_backend.interface.messages import BackendError
from .. import session
from ..widgets import draw_session, letters, lines, warn
from . import home
from .operators import state


def draw_preferences(preferences: Any) -> None:
    """Draw all of it."""
    layout = preferences.layout
    width = letters()
    python_known = True
    try:
        session.python()
    except BackendError:
        python_known = False  # the environment's box says what to do
    _draw_environment(layout.box(), preferences, width)
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    row = column.row(align=True)
    row.prop(preferences, "python")
    row.operator("neural_avatar.setup_test", text="", icon="VIEWZOOM")
    column.prop(preferences, "device")
    for variable in (session.PYTHON_VARIABLE, session.DEVICE_VARIABLE):
        if os.environ.get(variable):
            lines(column, f"{variable} is set to {os.environ[variable]} and goes first", "INFO", width)
    column.separator()
    column.prop(preferences, "unload_minutes", text="Give GPU Memory Back After (min)")
    column.prop(preferences, "stop_minutes", text="Stop Renderer After (min)")
    if python_known:
        draw_session(layout, width)
    else:
        layout.operator("neural_avatar.open_log")


def _draw_environment(box: Any, preferences: Any, width: int) -> None:
    place = session.setup_home()
    if state.job is not None:
        _draw_job(box, state.job, width)
        return
    if state.plan is not None:
        _draw_consent(box, width)
        return
    made, whole, unfinished = home.current(place), home.is_whole(place), home.unfinished(place)
    test = home.tested(place)
    failed = test.error if test is not None and test.executable == home.python(place) else ""
    if made is not None and whole and not failed:
        lines(box, f"Backend is set up: PyTorch {made.torch}, Python {made.python}", "CHECKMARK", width)
        if test is not None and test.devices:
            lines(box, f"Devices: {', '.join(test.devices)}", "BLANK1", width)
    elif made is not None:
        warn(box, failed or "The environment is broken: the Python that it was made from has gone.", width)
    elif not unfinished:
        lines(box, "The renderer needs PyTorch, which Blender does not bring. Set Up puts it into a folder of its own.",
              "INFO", width)  # fmt: skip
    if state.error is not None:
        warn(box, state.error.message, width)
    elif unfinished:
        warn(box, f"The last set-up did not finish: {unfinished}", width)
    elif state.said:
        lines(box, state.said, "INFO", width)
    if not bpy.app.online_access:
        text = "Blender stays offline: allow online access under System › Network, or use an archive."
        lines(box, text, "INTERNET_OFFLINE", width)
    options = box.column()
    options.use_property_split = True
    options.use_property_decorate = False
    options.prop(preferences, "wheels")
    if preferences.torch_index or preferences.wheels != "AUTO":
        options.prop(preferences, "torch_index")
    row = box.row(align=True)
    main = row.row(align=True)
    main.enabled = bool(bpy.app.online_access)
    repair = made is not None or bool(unfinished)
    main.operator("neural_avatar.setup", text="Repair…" if repair else "Set Up Backend…", icon="IMPORT")
    row.operator("neural_avatar.setup_from_archive", text="From Archive…")
    if made is not None:
        row.operator("neural_avatar.setup_test", text="Test")
        row.operator("neural_avatar.setup_remove", text="Remove")
    row = box.row(align=True)
    archive = row.row(align=True)
    archive.enabled = bool(bpy.app.online_access)
    archive.operator("neural_avatar.make_archive", text="Make Offline Archive…")
    row.operator("neural_avatar.copy_report", icon="COPYDOWN")


def _draw_job(box: Any, job: Any, width: int) -> None:
    lines(box, job.title if not job.now else f"{job.title}: {job.now}", "SORTTIME", width)
    row = box.row(align=True)
    row.progress(factor=job.fraction, text=f"{100 * job.fraction:.0f} %", type="BAR")
    row.operator("neural_avatar.setup_cancel", text="", icon="X")


def _draw_consent(box: Any, width: int) -> None:
    plan, target = state.plan, state.target
    assert plan is not None
    lines(
        box,
        "This is what will be done:" if target is None else f"An archive will be made in {target}:",
        "QUESTION",
        width,
    )
    for sentence in plan.sentences():
        lines(box, sentence, "DOT", width)
    row = box.row(align=True)
    what = "Make Archive" if target else "Install" if plan.archive else "Download and Install"
    row.operator("neural_avatar.setup_agree", text=what, icon="CHECKMARK")
    row.operator("neural_avatar.setup_cancel", text="Cancel")
