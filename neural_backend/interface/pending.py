# SPDX-License-Identifier: GPL-3.0-or-later
"""A frame that was asked for, and the frame itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .codec import error_from_plain
from .frames import FrameBuffer
from .messages import BackendError, RenderedFrame, RenderRequest

if TYPE_CHECKING:
    from .connection import Connection

#: Seconds that a backend which was told to give a frame up is given to do so before it counts as stuck.
CANCEL_GRACE = 5.0


@dataclass(frozen=True)
class SharedFrame(RenderedFrame):
    """A finished frame in shared memory. Its planes must not be looked at after :meth:`release`, which may be called
    twice.

    Use as a context manager, or call :meth:`release` in ``finally``.
    """

    release: Callable[[], None] = lambda: None

    def __enter__(self) -> SharedFrame:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class PendingFrame:
    """One request under way. Its methods may be called from any thread; forgetting it frees its frame."""

    def __init__(
        self,
        connection: Connection,
        number: int,
        client: str,
        interactive: bool,
        request: RenderRequest,
        buffer_number: int,
        buffer: FrameBuffer,
    ) -> None:
        self.id, self.client, self.interactive, self.buffer_number = number, client, interactive, buffer_number
        self.abandoned = False
        self._connection, self._request, self._buffer = connection, request, buffer
        self._done = threading.Event()
        self._reply: Mapping[str, Any] | None = None
        self._error: BackendError | None = None
        self._frame: SharedFrame | None = None
        self._owns_buffer = False
        self._asked_at = time.monotonic()

    def poll(self) -> bool:
        """Is there a result, good or bad? Then :meth:`wait` returns, or raises, at once."""
        self._connection.check_start()
        return self._done.is_set()

    def wait(
        self,
        timeout: float = 300.0,
        should_cancel: Callable[[], bool] | None = None,
        poll_interval: float = 0.02,
    ) -> SharedFrame:
        """The finished frame. should_cancel is asked every ``poll_interval`` seconds, in this thread.

        timeout: seconds for the drawing itself, counted from the request or from the end of the backend's start,
        whichever is later; the start has its own limit. A backend that does not even react to being cancelled then is
        killed.

        Raises BackendError: 'cancelled' (should_cancel said so, or :meth:`cancel`), 'superseded' (a newer interactive
        request of this client), 'backend-timeout', 'backend-died', 'backend-stopped', an error of the start, or
        whatever the renderer reports.
        """
        gave_up_at: float | None = None
        while not self._done.wait(poll_interval):
            if should_cancel is not None and should_cancel():
                self.cancel()
                break
            self._connection.check_start()
            now = time.monotonic()
            if gave_up_at is None:
                if self._connection.ready.is_set() and now - max(self._asked_at, self._connection.ready_at) > timeout:
                    gave_up_at = now
                    self._connection.cancel(self)
            elif now - gave_up_at > CANCEL_GRACE:
                self._connection.break_off(
                    "backend-timeout",
                    f"The renderer did not answer within {timeout:.0f} seconds and was stopped; the next frame "
                    "starts it again.",
                )
        with self._connection.lock:
            if self._error is None:
                return self._hand_out()
            if gave_up_at is not None and self._error.code == "cancelled":
                raise BackendError(
                    "backend-timeout", f"The frame was not finished within {timeout:.0f} seconds and was given up."
                )
            raise self._error

    def cancel(self) -> None:
        """Give the frame up. Does nothing to a frame that has been handed out."""
        with self._connection.lock:
            if self._frame is not None or self._error is not None:
                return
            self._error = BackendError("cancelled", "The frame was cancelled.")
            self.abandoned = True
            self._give_back()
            self._done.set()
            self._connection.cancel(self)

    def fail(self, error: BackendError) -> None:
        """Called by the connection: there will be no reply, and the buffer is not this frame's any more."""
        with self._connection.lock:
            self._error = self._error or error
            self._done.set()

    def finish(self, reply: Mapping[str, Any]) -> None:
        """Called by the connection: the backend has replied, so the buffer belongs to this side again."""
        with self._connection.lock:
            self._owns_buffer = True
            self._reply = reply
            if reply["type"] == "error":
                self._error = self._error or error_from_plain(reply)
            if self._error is not None:
                self._give_back()
            self._done.set()

    def _hand_out(self) -> SharedFrame:
        if self._frame is None:
            reply, camera = self._reply or {}, self._request.camera
            if not self._buffer.has_tag(self.id, camera.width, camera.height):
                self._give_back()
                self._error = BackendError(
                    "frame-mismatch", "The renderer delivered another frame than the one asked for: render again."
                )
                raise self._error
            self._frame = SharedFrame(
                self._buffer.planes(camera.width, camera.height, self._request.planes),
                tuple(str(sentence) for sentence in reply.get("warnings", ())),
                {str(stage): float(seconds) for stage, seconds in dict(reply.get("seconds", {})).items()},
                self._give_back,
            )
        return self._frame

    def _give_back(self) -> None:
        with self._connection.lock:
            if self._owns_buffer:
                self._owns_buffer = False
                self._connection.give_back(self.buffer_number)

    def __del__(self) -> None:
        # A frame that was handed out belongs to its reader, whose `release` keeps this object alive.
        if getattr(self, "_owns_buffer", False):
            self._give_back()
