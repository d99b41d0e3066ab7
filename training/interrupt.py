# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C, the polite kill and a terminal that closes, answered between two steps."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any


class Interrupt:
    """Notes Ctrl-C (and the polite kill, and a terminal that closes, unless that is ignored, as under nohup) instead of
    stopping in mid-step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGINT, signal.SIGTERM]
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # Windows has none
                numbers.append(signal.SIGHUP)
            for number in numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if number == getattr(signal, "SIGHUP", None):  # of a terminal that closes shell and system both tell
                return
            raise KeyboardInterrupt
        self.asked = True
        with suppress(OSError):  # Ctrl-C reaches whoever reads it (`2>&1 | tee log`) too, and ends them first
            # Not through the stream, which the main thread may be in the middle of writing to.
            os.write(2, b"\nStops after this stage; once more stops at once.\n")
