# SPDX-License-Identifier: GPL-3.0-or-later
"""One child process with a stream of messages each way; its stderr goes into the log. Knows nothing of what the
messages mean.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO, cast

from . import wire
from .launch import START_SCRIPT, spawn
from .log import Log

#: Seconds that a child which has closed its stream is given to exit.
_EXIT_GRACE = 5.0


class Process:
    """A running backend. Three threads serve its pipes, so that neither side is ever held up by the other.

    on_message is called from the reading thread for each message, and on_end, once, with the exit code when the
    process has ended (None when not even a kill helped), after its last line of stderr is in the log.
    """

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        log: Log,
        on_message: Callable[[wire.Message], None],
        on_end: Callable[[int | None], None],
        script: str = str(START_SCRIPT),
    ) -> None:
        self._on_message, self._on_end, self._log = on_message, on_end, log
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._child = spawn(python, script, environment)
        self.pid = self._child.pid
        self._threads = [
            threading.Thread(target=target, name=f"neural-avatar-{name}-{self.pid}", daemon=True)
            for name, target in (("log", self._drain), ("write", self._write), ("read", self._read))
        ]

    def run(self) -> None:
        """Start to listen; apart from the constructor so that the owner knows this object before its first message."""
        for thread in self._threads:
            thread.start()

    def send(self, message: Mapping[str, object]) -> None:
        """Queue a message; never blocks. What is sent to a process that has ended is dropped: on_end tells of it."""
        self._outbox.put(wire.pack(message))

    def kill(self) -> None:
        """End the process at once; on_end follows."""
        with contextlib.suppress(OSError):
            self._child.kill()

    def stop(self, timeout: float) -> None:
        """Ask the process to end and make sure that it does; returns when it is gone and its threads are done."""
        self._outbox.put(wire.pack({"type": "shutdown"}))
        self._outbox.put(None)
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            self._log.write(f"the backend did not stop within {timeout:.0f} s and is killed")
            self.kill()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(_EXIT_GRACE)

    def _drain(self) -> None:
        self._log.drain(cast(BinaryIO, self._child.stderr), f"backend {self.pid}")

    def _write(self) -> None:
        pipe = cast(BinaryIO, self._child.stdin)
        try:
            while (data := self._outbox.get()) is not None:
                pipe.write(data)
                pipe.flush()
        except (OSError, ValueError):
            pass  # the reading thread sees the end of the process and reports it
        finally:
            with contextlib.suppress(OSError):
                pipe.close()

    def _read(self) -> None:
        pipe = cast(BinaryIO, self._child.stdout)
        try:
            while (message := wire.read_message(pipe)) is not None:
                self._on_message(message)
        except (wire.WireError, OSError) as error:
            self._log.write(f"the backend's messages cannot be read: {error}")
            self.kill()
        except Exception as error:  # a fault of ours must not leave requests waiting
            self._log.write(f"a message of the backend was not understood: {type(error).__name__}: {error}")
            self.kill()
        self._finish()

    def _finish(self) -> None:
        code: int | None = None
        try:
            code = self._child.wait(_EXIT_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            try:
                code = self._child.wait(_EXIT_GRACE)
            except subprocess.TimeoutExpired:
                self._log.write(f"process {self.pid} cannot be killed")
        self._outbox.put(None)
        # A grandchild may hold stderr open for ever: the limit keeps this thread from waiting with it.
        self._threads[0].join(_EXIT_GRACE)
        self._on_end(code)
