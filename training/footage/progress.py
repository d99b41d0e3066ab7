# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells while it works: bars on a terminal, plain lines elsewhere (a log, a farm)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

#: Without a terminal, a line is due after so many seconds, or after this share of a stage.
_SECONDS, _SHARE = 15.0, 0.25


class Voice:
    """Speaks on stderr, and remembers the sentences for the report."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._bars = sys.stderr.isatty()

    def say(self, sentence: str) -> None:
        """A sentence that matters beyond this run; told once."""
        if sentence not in self.said:
            self.said.append(sentence)
            self.tell(sentence)

    def tell(self, sentence: str) -> None:
        """A sentence on this run alone."""
        tqdm.write(sentence, file=sys.stderr)
        sys.stderr.flush()

    def progress(self, title: str) -> Callable[[int, int], None]:
        """A bar, or lines, for a stage that reports (done, total)."""
        return self._bar(title) if self._bars else self._lines(title)

    def _bar(self, title: str) -> Callable[[int, int], None]:
        bar: list[tqdm[None]] = []

        def report(done: int, total: int) -> None:
            if not bar:
                bar.append(tqdm(desc=title, total=total, initial=done, unit="frame", leave=True))
            bar[0].total = total
            bar[0].update(done - bar[0].n)
            if done >= total:
                bar[0].close()

        return report

    def _lines(self, title: str) -> Callable[[int, int], None]:
        begun = told = time.monotonic()
        first, share, over = -1, 0.0, False

        def report(done: int, total: int) -> None:
            nonlocal first, told, share, over
            now, part = time.monotonic(), done / total if total else 1.0
            if first < 0:
                first, share = done, part
            if over or not (done >= total or now - told > _SECONDS or part >= share + _SHARE):
                return
            rate = (done - first) / max(now - begun, 1e-3)
            self.tell(f"{title}: {done}/{total}" + (f", {rate:.1f} a second" if done > first else ""))
            told, share, over = now, part, done >= total

        return report
