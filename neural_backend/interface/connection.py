# SPDX-License-Identifier: GPL-3.0-or-later
"""One life of the backend, from its start to its end: the greeting, the requests under way, and the frames they
fill.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from . import codec, frame_folder
from .frames import FramePool, frame_bytes
from .launch import START_SCRIPT, explain_exit
from .log import Log
from .messages import PROTOCOL, BackendError, RenderRequest
from .pending import PendingFrame
from .process import Process
from .wire import WireError


class Connection:
    """A backend process and everything that ends with it. Thread-safe."""

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        log: Log,
        start_timeout: float,
        script: str = str(START_SCRIPT),
    ) -> None:
        for folder in frame_folder.sweep():
            log.write(f"removed {folder}, left behind by a crash")
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.ready = threading.Event()
        self.info: dict[str, Any] = {}
        self.stage = "Starting backend…"
        self.error: BackendError | None = None
        self.ready_at = 0.0
        self._python, self._log, self._start_timeout = python, log, start_timeout
        self._started_at = time.monotonic()
        self._stopping = False
        self._pending: dict[int, PendingFrame] = {}
        self._next = 1
        self._process = Process(python, environment, log, self._receive, self._end, script)
        self.pid = self._process.pid
        self._pool = FramePool(self._process.send)
        log.write(f"started backend {self.pid}: {python}")
        self._process.send({"type": "hello", "protocol": PROTOCOL})
        self._process.run()

    @property
    def is_busy(self) -> bool:
        """Does a request wait for its frame?"""
        return bool(self._pending)

    def request(self, request: RenderRequest, client: str, interactive: bool) -> PendingFrame:
        """Send a request. Raises BackendError when the backend has ended, or there is no room for the frame."""
        width, height = request.camera.width, request.camera.height
        size = frame_bytes(width, height, request.planes)
        plain = codec.request_to_plain(request)
        with self.lock:
            if self.error is not None:
                raise self.error
            number = self._take_over(client, size) if interactive else None
            if number is None:
                number = self._pool.take(client, size)
            pending = PendingFrame(self, self._next, client, interactive, request, number, self._pool.buffer(number))
            self._next += 1
            message = {
                "type": "render",
                "id": pending.id,
                "client": client,
                "interactive": interactive,
                "buffer": number,
                "request": plain,
            }
            try:
                self._process.send(message)
            except WireError as error:
                self._pool.give_back(number)
                raise BackendError("bad-request", f"The request for this frame cannot be sent: {error}.") from error
            self._pending[pending.id] = pending
            return pending

    def _take_over(self, client: str, size: int) -> int | None:
        """The buffer of an older interactive request of this client, which is dropped.

        Safe although the backend may be writing into it: it draws one frame at a time, and nobody reads the older
        frame any more.
        """
        for old in list(self._pending.values()):
            if old.client == client and old.interactive and not old.abandoned:
                del self._pending[old.id]
                old.fail(BackendError("superseded", "A newer request took this frame's place."))
                if self._pool.fits(old.buffer_number, size):
                    return old.buffer_number
                self._pool.discard(old.buffer_number)
        return None

    def cancel(self, pending: PendingFrame) -> None:
        """Tell the backend to give a frame up; its buffer is free again with the backend's reply."""
        with self.lock:
            if pending.id in self._pending:
                self._process.send({"type": "cancel", "id": pending.id})

    def give_back(self, number: int) -> None:
        """A reader is done with a buffer."""
        with self.lock:
            self._pool.give_back(number)

    def drop_client(self, client: str) -> None:
        """Give up what a client has asked for, and the memory of its frames."""
        with self.lock:
            for pending in [p for p in self._pending.values() if p.client == client]:
                pending.cancel()
            self._pool.drop(client)

    def unload(self) -> None:
        """Give back the memory of frames that nobody has, and ask the backend for that of avatars and GPU; the next
        request takes it again."""
        with self.lock:
            self._pool.drop_free()
            self._process.send({"type": "unload"})

    def check_start(self) -> None:
        """End a backend that takes too long to greet."""
        if not self.ready.is_set() and time.monotonic() - self._started_at > self._start_timeout:
            self.break_off(
                "backend-start-timeout",
                f"The renderer did not start within {self._start_timeout:.0f} seconds and was stopped. A slow disk "
                "or a virus scanner may "
                "hold up PyTorch: try again.",
            )

    def break_off(self, code: str, message: str) -> None:
        """Kill a backend that does not do its duty, and fail whatever waits for it."""
        self._log.write(message)
        self._process.kill()
        self._fail(BackendError(code, message, self._log.tail()))

    def stop(self, timeout: float = 3.0) -> None:
        """End the backend and wait until it is gone."""
        with self.lock:
            self._stopping = True
        self._fail(BackendError("backend-stopped", "The renderer was stopped."))
        self._process.stop(timeout)
        self.ended.wait(timeout)
        with self.lock:
            self._pool.close()

    def _receive(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "starting":
                self.stage = str(message["stage"])
            case "hello":
                self._greet(message)
            case "frame" | "error" if int(message.get("id", 0)):
                with self.lock:
                    pending = self._pending.pop(int(message["id"]), None)
                if pending is not None:
                    pending.finish(message)
            case "error":
                error = codec.error_from_plain(message)
                self._log.write(f"[{error.code}] {error.message}")
                self._fail(error)
            case other:
                self._log.write(f"the backend said something unknown: {other!r}")

    def _greet(self, message: Mapping[str, Any]) -> None:
        if message.get("protocol") != PROTOCOL:
            self.break_off(
                "protocol-mismatch",
                f"The renderer speaks protocol {message.get('protocol')}, this add-on speaks {PROTOCOL}: after an "
                "update of the add-on, "
                "restart Blender.",
            )
            return
        self.info = {k: v for k, v in message.items() if k != "type"}
        self.stage = ""
        self.ready_at = time.monotonic()
        self._log.write(f"backend {self.pid} is ready: {self.info}")
        self.ready.set()

    def _end(self, code: int | None) -> None:
        if not self._stopping:
            self._log.write(f"backend {self.pid} has ended, exit code {code}")
        self._fail(explain_exit(code, self._python, self.ready.is_set(), self._log.path, self._log.tail()))
        with self.lock:
            self._pool.close()
        self.ended.set()

    def _fail(self, error: BackendError) -> None:
        """The first error stays: it says why, and the end of the process that follows it says no more."""
        with self.lock:
            self.error = self.error or error
            waiting, self._pending = list(self._pending.values()), {}
        for pending in waiting:
            pending.fail(self.error)
