# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to Blender's data on behalf of a render.

With a window, Blender renders in a thread of its own while its first thread goes on drawing. From 5.0 on, while any
panel or poll function is at work, Blender refuses every thread's changes, whoever makes them. And what adds or removes
data is safe in the first thread only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import bpy

from ..neural_backend.interface.messages import BackendError

T = TypeVar("T")

#: The error by which Blender refuses a change, and how long (seconds) one is tried again: drawing takes milliseconds.
_REFUSED = "Writing to ID classes in this context is not allowed"
PATIENCE = 5.0
_PAUSE = 0.002


def write(change: Callable[[], T]) -> T:
    """Make a change, as often as Blender refuses it for the moment. It must be one that may be made again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return change()
        except AttributeError as error:
            if _REFUSED not in str(error) or time.monotonic() > end:
                raise
        time.sleep(_PAUSE)


def put(target: Any, name: str, value: Any) -> None:
    """Set a property that has another value."""
    if getattr(target, name) != value:
        write(lambda: setattr(target, name, value))


def on_first_thread(action: Callable[[], T], should_cancel: Callable[[], bool] = lambda: False) -> T:
    """What an action returns or raises, done in Blender's first thread between two drawings.

    Where that thread does not come for :data:`PATIENCE` seconds, perhaps because it waits for this one, the action is
    done here. Raises BackendError 'cancelled'.
    """
    if bpy.app.background or threading.current_thread() is threading.main_thread():
        return action()
    from concurrent.futures import Future

    asked: Future[T] = Future()

    def answer() -> None:
        if asked.set_running_or_notify_cancel():
            try:
                asked.set_result(action())
            except BaseException as error:
                asked.set_exception(error)

    bpy.app.timers.register(answer, first_interval=0.0, persistent=True)
    end = time.monotonic() + PATIENCE
    while not asked.done():
        time.sleep(_PAUSE)
        stop = should_cancel()
        if (stop or time.monotonic() > end) and asked.cancel():
            if stop:
                raise BackendError("cancelled", "The frame was cancelled.")
            return action()
    return asked.result()
