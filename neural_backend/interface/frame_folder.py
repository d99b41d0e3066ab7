# SPDX-License-Identifier: GPL-3.0-or-later
"""Private folders for the files of shared frames, and the removal of what a crash of both processes left behind.

A folder belongs to one life of the backend. It holds a file that its owner keeps locked for as long as it lives; a
folder whose lock is free is nobody's, and the next start removes it. (A process id would not do: ids are given out
again, and differ between containers.)
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

from .locks import Lock, try_lock

PREFIX = "neural-avatar-frames-"
_LOCK = "owner"
#: A folder younger than this many seconds may be one whose owner is about to lock it.
_YOUNG = 60.0


def bases() -> list[Path]:
    """Folders to put frames in, best first: memory where the system offers it, then the temporary folder.

    The environment variable NEURAL_AVATAR_FRAMES names another folder, for systems where both are too small.
    """
    if chosen := os.environ.get("NEURAL_AVATAR_FRAMES"):
        return [Path(chosen)]
    memory = Path("/dev/shm")
    found = [memory] if sys.platform == "linux" and os.access(memory, os.W_OK | os.X_OK) else []
    return [*found, Path(tempfile.gettempdir())]


class FrameFolder:
    """A folder, mode 0700, that is removed with :meth:`close`."""

    def __init__(self, base: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._lock: int | None = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try_lock(self._lock)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        remove(self.path)


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove a folder that :class:`FrameFolder` made, as far as the system permits; any other path is left alone."""
    path = Path(folder)
    try:
        ours = path.name.startswith(PREFIX) and stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return
    if ours:
        shutil.rmtree(path, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove this user's folders whose owner has died; returns them."""
    removed = []
    for base in bases():
        for folder in base.glob(PREFIX + "*"):
            if _abandoned(folder):
                remove(folder)
                removed.append(folder)
    return removed


def _abandoned(folder: Path) -> bool:
    try:
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or (hasattr(os, "getuid") and info.st_uid != os.getuid()):
            return False
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            return time.time() - info.st_mtime > _YOUNG
        try:
            return try_lock(lock) is Lock.HELD
        finally:
            os.close(lock)
    except OSError:
        return False
