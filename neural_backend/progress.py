# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a long job is: a line that renews itself in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

#: Seconds between two lines in a terminal, and in a log.
_TERMINAL, _LOG = 0.2, 10.0


class Progress:
    """Counts ``total`` pieces of work on stderr, with pieces per second and the time left."""

    def __init__(self, what: str, total: int, unit: str = "frames") -> None:
        self._what, self._total, self._unit = what, total, unit
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()
        self.done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self.done:
            self._show("\n")

    def add(self, count: int = 1) -> None:
        """Some more is done."""
        self.done += count
        now = time.monotonic()
        if now - self._shown >= (_TERMINAL if self._terminal else _LOG) or self.done == self._total:
            self._shown = now
            self._show("" if self._terminal else "\n")

    def say(self, sentence: str) -> None:
        """A line of its own."""
        print(("\r\033[K" if self._terminal else "") + sentence, file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Pieces per second."""
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def _show(self, end: str) -> None:
        left = duration((self._total - self.done) / max(self.rate, 1e-9))
        line = f"{self._what}: {self.done} of {self._total} {self._unit}, {self.rate:.2f} per second, {left} left"
        print(("\r\033[K" if self._terminal else "") + line, end=end, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """'7 s', '3:05', '1:02:03'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours = whole // 60 % 60, whole // 3600
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
