# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time in a working folder: a second one would throw away or mix up what the first is writing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from ...neural_backend.interface.locks import take
from ...neural_backend.interface.messages import BackendError


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold FOLDER.lock, beside the folder. A killed run's lock is free, the file that it leaves means nothing.

    Raises BackendError 'footage-busy' where another run has it.
    """
    path = folder.with_name(folder.name + ".lock")
    held = take(path)
    if held is None:
        raise BackendError(
            "footage-busy", f"Another run is at work in {folder}; wait for it or stop it, or give another -o."
        )
    try:
        yield
    finally:
        if sys.platform != "win32":  # which removes no file that is open
            path.unlink(missing_ok=True)
        held.close()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):  # another run may have opened it since
                path.unlink()
