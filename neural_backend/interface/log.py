# SPDX-License-Identifier: GPL-3.0-or-later
"""One log file for both processes, of bounded size, with its last lines at hand for error reports."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 2 << 20
_LINE = 8192


class Log:
    """Appends lines to a file; a full file becomes ``<name>.1`` and a new one begins.

    A log that cannot be written (read-only folder, full disk) never stops the work: its lines are still kept for
    :meth:`tail`. Thread-safe.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES, tail_lines: int = 60) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._tail: deque[str] = deque(maxlen=tail_lines)
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None

    def write(self, text: str, source: str = "client") -> None:
        """Append one line, with the time and who says it."""
        line = text.rstrip()[:_LINE]
        with self._lock:
            self._tail.append(line)
            data = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {source}: {line}\n".encode(errors="replace")
            try:
                self._open().write(data)
            except OSError:
                self._file = None

    def drain(self, stream: BinaryIO, source: str) -> None:
        """Write every line of a stream until it ends, so that whoever writes into it is never held up."""
        while line := stream.readline(_LINE):
            if text := line.decode(errors="replace").rstrip():
                self.write(text, source)

    def tail(self) -> str:
        """The last lines."""
        with self._lock:
            return "\n".join(self._tail)

    def close(self) -> None:
        """Close the file; a later :meth:`write` opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        if self._file is not None and self._file.tell() > self._max_bytes:
            self._file.close()
            self._file = None
            try:
                os.replace(self.path, self.path.with_name(self.path.name + ".1"))
            except OSError:  # another program holds it open (Windows): begin it anew
                os.truncate(self.path, 0)
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  (stays open)
        return self._file
