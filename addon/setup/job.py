# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that goes on while Blender stays alive: a thread, what it is at, and a way to stop it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...neural_backend.interface.log import Log
from ...neural_backend.interface.messages import BackendError


class Job:
    """One piece of work in the background. It begins at once; ``result`` or ``error`` is there when it is ``done``.

    title: for people. work: called with this job; watches :attr:`cancelled`.
    """

    def __init__(self, title: str, work: Callable[[Job], Any], log_path: Path) -> None:
        self.title, self.now = title, ""
        self.cancelled, self.done = threading.Event(), threading.Event()
        self.result: Any = None
        self.error: BackendError | None = None
        self._work, self._log = work, Log(log_path)
        self._expected: tuple[Path, int, int] | None = None
        self._fraction = 0.0
        self._thread = threading.Thread(target=self._run, name="neural-avatar-setup", daemon=True)
        self._thread.start()

    def stage(self, text: str) -> None:
        """Say what comes now."""
        self.now = text
        self.log(text)

    def log(self, line: str) -> None:
        """A line into the log."""
        self._log.write(line, "setup")

    def tail(self) -> str:
        """The last lines of the log."""
        return self._log.tail()

    def expect(self, place: Path, megabytes: int) -> None:
        """From now on progress is what the disk has less of. pip and uv do not tell theirs to a program."""
        self._expected = place, megabytes, shutil.disk_usage(place).free

    @property
    def fraction(self) -> float:
        """About how far it is, 0..1; never goes back."""
        if self._expected is not None and not self.done.is_set():
            place, megabytes, free = self._expected
            used = free - shutil.disk_usage(place).free
            self._fraction = max(self._fraction, min(used / (megabytes * 1e6), 0.99))
        return self._fraction

    def cancel(self) -> None:
        """Stop soon."""
        self.cancelled.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Is it done, at last after so many seconds?"""
        return self.done.wait(timeout)

    def _run(self) -> None:
        try:
            self.result = self._work(self)
        except BackendError as error:
            self.error = error
        except Exception as error:
            import traceback

            self.error = BackendError(
                "setup-failed",
                f"{self.title} failed ({type(error).__name__}: {error}). Copy the report and send it to us.",
                traceback.format_exc(),
            )
        if self.error is not None:
            self.log(f"[{self.error.code}] {self.error.message}")
            if self.error.details and self.error.details not in self.tail():
                self.log(self.error.details)
        self._log.close()
        self.done.set()
