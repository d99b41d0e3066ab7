# SPDX-License-Identifier: GPL-3.0-or-later
"""Where other programs are."""

from __future__ import annotations

import os
import shutil
import sys


def find(name: str) -> str:
    """A program of the search path, '' where there is none.

    Never one of the present folder, where Windows looks first: that is the folder of a blend file that was
    double-clicked, and what lies beside a file from a stranger must not be run.
    """
    file = f"{name}.exe" if sys.platform == "win32" else name
    places = (
        os.path.join(folder.strip('"'), file) for folder in os.get_exec_path() if os.path.isabs(folder.strip('"'))
    )
    return next(filter(None, map(shutil.which, places)), "")
