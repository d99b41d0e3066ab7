# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time in a working folder: a second one would throw away or mix up what the first is writing."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ...neural_backend.interface.messages import BackendError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold FOLDER.lock, beside the folder. A killed run's lock is free, the file that it leaves means nothing.

    Raises BackendError 'footage-busy' where another run has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(folder.name + ".lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError) as error:
            raise BackendError(
                "footage-busy", f"Another run is at work in {folder}; wait for it or stop it, or give another -o."
            ) from error
        try:
            yield
        finally:
            if sys.platform != "win32":  # which removes no file that is open
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
        if sys.platform == "win32":
            with contextlib.suppress(OSError):  # another run may have opened it since
                path.unlink()


def _lock(descriptor: int) -> None:
    """Lock a file until its descriptor closes; BlockingIOError or PermissionError where another process has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import errno
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network folders know no locks; there, nothing guards a run.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise
