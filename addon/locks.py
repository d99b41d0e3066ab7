# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that holds between processes, and that the system takes back however its owner ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO


def take(path: Path) -> IO[bytes] | None:
    """Hold the lock of a file, until what is returned is closed; None while another process, or this one, holds it.

    Raises OSError where the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a+b")  # noqa: SIM115  (stays open)
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    os.set_inheritable(file.fileno(), False)
    return file
