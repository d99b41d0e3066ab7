# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that holds between processes, and that the system takes back however its owner ends."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path
from typing import IO


class Lock(enum.Enum):
    """What came of an attempt to lock a file. UNSUPPORTED: some network folders know no locks."""

    HELD = enum.auto()
    TAKEN = enum.auto()
    UNSUPPORTED = enum.auto()


def try_lock(descriptor: int) -> Lock:
    """Lock a file until its descriptor closes; TAKEN when another process, or another descriptor of this one, has
    it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)  # it locks what follows
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return Lock.TAKEN
    except OSError:
        return Lock.UNSUPPORTED
    return Lock.HELD


def take(path: Path) -> IO[bytes] | None:
    """Hold the lock of a file, until what is returned is closed; None while another process, or this one, holds it.

    Where the folder knows no locks, nobody can be kept out, and everybody is let in. Raises OSError where the file
    cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+b")  # noqa: SIM115  (stays open)
    if try_lock(file.fileno()) is Lock.TAKEN:
        file.close()
        return None
    return file
