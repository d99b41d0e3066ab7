# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives memory back when nothing has been asked for some time. Sleeps until then, and is gone when nothing is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence


class IdleWatch:
    """Calls each step when its time has passed since the last :meth:`touch`.

    steps: (seconds, what to call), seconds 0 for never; the shortest is called first. is_busy: while this is true, time
    does not count. A thread waits only between a touch and the last step.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._last = 0.0
        self._steps: list[tuple[float, Callable[[], None]]] = []
        self._ended = False

    def touch(self, steps: Sequence[tuple[float, Callable[[], None]]]) -> None:
        """Something was asked just now."""
        with self._changed:
            before, self._last = [s for s, _ in self._steps], time.monotonic()
            self._steps = sorted(((s, step) for s, step in steps if s > 0), key=lambda pair: pair[0])
            if [s for s, _ in self._steps] != before:
                self._changed.notify_all()  # the thread may be waiting for longer than is now wished
            if self._thread is None and self._steps and not self._ended:
                self._thread = threading.Thread(target=self._watch, name="neural-avatar-idle", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """No step is begun from now on. Waits for the thread: one that Python's end cuts off keeps alive what it
        knows, and Blender as a module crashes when it is not let go of in time."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def _watch(self) -> None:
        done = 0.0
        while True:
            with self._changed:
                if self._is_busy():
                    self._last = time.monotonic()
                idle = time.monotonic() - self._last
                # A touch since the last step: all of them are ahead again.
                done = done if idle >= done else 0.0
                ahead = [(s, step) for s, step in self._steps if s > done]
                if self._ended or not ahead:
                    self._thread = None
                    return
                seconds, step = ahead[0]
                if idle < seconds:
                    self._changed.wait(seconds - idle)
                    continue
            done = seconds
            step()
