# SPDX-License-Identifier: GPL-3.0-or-later
"""The client: starts the backend when it is first needed, asks it for frames, and starts it again when it dies.

session = BackendSession("/path/to/python-with-torch", "backend.log")
with session.request(request, client="final").wait(timeout=300, should_cancel=...) as frame:
    use(frame.planes["color"])
session.stop()
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .connection import Connection
from .launch import START_SCRIPT, clean_environment, probe_python
from .log import Log
from .messages import BackendError, RenderRequest
from .pending import PendingFrame, SharedFrame

__all__ = ["BackendSession", "PendingFrame", "SharedFrame", "probe_python"]

#: So many ends of the backend within so many seconds, and it is not started again by itself.
MAX_DEATHS = 3
DEATH_WINDOW = 60.0


class BackendSession:
    """The one connection of a program to its backend. Thread-safe; nothing here waits unless it says so.

    python: the Python that has torch. log_path: file that takes what both processes say. environment: variables for
    the backend on top of this process's own (which is cleaned of what belongs to Blender's Python), such as
    NEURAL_AVATAR_DEVICE. start_timeout: seconds that the backend may take to load torch and greet. script: what the
    Python runs.
    """

    def __init__(
        self,
        python: str | os.PathLike[str],
        log_path: str | os.PathLike[str],
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 180.0,
        script: str | os.PathLike[str] = START_SCRIPT,
    ) -> None:
        self.python = os.fspath(python)
        self.log = Log(log_path)
        self._environment, self._start_timeout, self._script = dict(environment or {}), start_timeout, os.fspath(script)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._deaths: deque[tuple[float, BackendError]] = deque(maxlen=MAX_DEATHS)
        # The exit handler must not keep alive a session that its owner has forgotten.
        me = weakref.ref(self)
        self._at_exit: Callable[[], None] = lambda: session.stop() if (session := me()) is not None else None
        atexit.register(self._at_exit)

    @property
    def log_path(self) -> Path:
        return self.log.path

    @property
    def is_ready(self) -> bool:
        """Has the backend greeted, and does it still run?"""
        c = self._connection
        return c is not None and c.ready.is_set() and c.error is None

    @property
    def is_busy(self) -> bool:
        """Does a request wait for its frame?"""
        c = self._connection
        return c is not None and c.error is None and c.is_busy

    @property
    def status(self) -> str:
        """One line for the user interface."""
        c = self._connection
        if c is None:
            return "The renderer is not running"
        if c.error is not None:
            return c.error.message
        return f"Renderer ready on {c.info.get('device', 'its device')}" if c.ready.is_set() else c.stage

    @property
    def info(self) -> dict[str, Any]:
        """What the backend said of itself: protocol, version, python, torch, device (in use), devices, pid. Empty
        until it is ready.
        """
        c = self._connection
        return dict(c.info) if c is not None else {}

    def start(self) -> None:
        """Start the backend unless it runs; returns at once.

        Raises BackendError: 'backend-no-python', or 'backend-broken' after too many deaths in a short time.
        """
        self._living()

    def wait_until_ready(
        self, timeout: float | None = None, should_cancel: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Start the backend and wait for its greeting; returns :attr:`info`.

        Raises BackendError: 'cancelled', 'backend-start-timeout', or why it could not start.
        """
        connection = self._living()
        end = time.monotonic() + (self._start_timeout if timeout is None else timeout)
        while not connection.ready.wait(0.02) and connection.error is None:
            if should_cancel is not None and should_cancel():
                raise BackendError("cancelled", "Waiting for the renderer was cancelled.")
            if time.monotonic() > end:
                raise BackendError("backend-start-timeout", "The renderer has not started yet.", self.log.tail())
            connection.check_start()
        if connection.error is not None:
            raise connection.error
        return dict(connection.info)

    def request(self, request: RenderRequest, client: str, interactive: bool = False) -> PendingFrame:
        """Ask for a frame; starts the backend when it does not run.

        client: who asks, a name that stays the same from frame to frame so that memory is used again. interactive: a
        newer request of the same client takes this one's place; without it the frame is drawn whatever comes later.

        Raises BackendError: as :meth:`start`, 'no-space', 'frame-too-large', 'frames-held'.
        """
        return self._living().request(request, client, interactive)

    def drop_client(self, client: str) -> None:
        """Give up what a client has asked for and free its frames' memory; for a viewport that closes."""
        if (c := self._connection) is not None and c.error is None:
            c.drop_client(client)

    def unload(self) -> None:
        """Give back the memory of avatars, also on the GPU, and of frames that nobody has; the next request takes it
        again."""
        if (c := self._connection) is not None and c.error is None:
            c.unload()

    def reset(self) -> None:
        """Forget earlier deaths: the next request tries again."""
        with self._lock:
            self._deaths.clear()

    def stop(self) -> None:
        """End the backend and remove everything of it; waits a few seconds at most. A later request starts a new
        one.
        """
        with self._lock:
            connection, self._connection = self._connection, None
            self._deaths.clear()
        if connection is not None:
            connection.stop()
        self.log.close()

    def close(self) -> None:
        """:meth:`stop`, for good: nothing is left to do at exit."""
        self.stop()
        atexit.unregister(self._at_exit)

    def _living(self) -> Connection:
        with self._lock:
            old = self._connection
            if old is not None and old.error is None:
                return old
            if old is not None and old.error is not None:
                self._deaths.append((time.monotonic(), old.error))
                self._connection = None
                old.stop(0.5)
            self._refuse_if_broken()
            try:
                self._connection = Connection(
                    self.python, clean_environment(self._environment), self.log, self._start_timeout, self._script
                )
            except BackendError as error:
                self.log.write(f"[{error.code}] {error.message}")
                raise
            return self._connection

    def _refuse_if_broken(self) -> None:
        if len(self._deaths) == MAX_DEATHS and time.monotonic() - self._deaths[0][0] < DEATH_WINDOW:
            last = self._deaths[-1][1]
            raise BackendError(
                "backend-broken",
                f"The renderer has stopped {MAX_DEATHS} times in a row and is not started again for a minute. The "
                f"last time: {last.message}",
                last.details,
            )
