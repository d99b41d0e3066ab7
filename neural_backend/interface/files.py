# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are whole or not there: written under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path, alone: bool = False) -> Iterator[Path]:
    """Gives a name beside ``path`` to write to; it becomes ``path`` where the block ends well. Where it fails, what was
    written is removed, and an older file of that name stays as it was.

    Of several writers at once one has the last word. alone: there is never but one; what a kill leaves under the
    temporary name then goes with the next attempt, as the name is the same. Close the file inside the block: Windows
    renames none that is open.
    """
    temporary = path.with_name(f"{path.name}.tmp" if alone else f"{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what people must know
            temporary.unlink()
        raise
