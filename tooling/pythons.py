# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Python 3.11 that `bpy` needs. This module and dev.py alone must run under any Python 3.8 or newer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Optional

WANTED = (3, 11)
_PROBE = "import sys, venv, ensurepip; print(sys.version_info[:2] == (3, 11) and sys.maxsize > 2**32, sys.executable)"


def find_python() -> str:
    """The path of a Python 3.11 that can make virtual environments. Raises LookupError with a sentence for the user."""
    if sys.version_info[:2] == WANTED and _probe([sys.executable]):
        return sys.executable
    for command in _candidates():
        if found := _probe(command):
            return found
    uv = shutil.which("uv")
    if uv:
        print("Python 3.11 is not here; uv brings it …", flush=True)
        subprocess.run([uv, "python", "install", "3.11"], check=False)
        try:
            answer = subprocess.run([uv, "python", "find", "3.11"], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            answer = None
        if answer and answer.returncode == 0 and (found := _probe([answer.stdout.strip()])):
            return found
    raise LookupError(
        "Neural Avatar needs Python 3.11 (the one inside Blender 4.2 to 5.0) with its venv module, and found none: "
        "install it (on Debian and Ubuntu the packages python3.11 and python3.11-venv; or uv, which then brings it), "
        "and run this command again."
    )


def _candidates() -> Iterator[List[str]]:
    for name in ("python3.11", "python3", "python"):
        if path := shutil.which(name):
            yield [path]
    if os.name == "nt" and (launcher := shutil.which("py")):
        yield [launcher, "-3.11"]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for folder in sorted(pyenv.glob("versions/3.11.*"), reverse=True):
        yield [str(folder / "bin" / "python3.11")]
    for folder in sorted(pyenv.glob("pyenv-win/versions/3.11.*"), reverse=True):
        yield [str(folder / "python.exe")]
    yield ["/opt/homebrew/bin/python3.11"]
    yield ["/Library/Frameworks/Python.framework/Versions/3.11/bin/python3.11"]


def _probe(command: List[str]) -> Optional[str]:
    """The interpreter's own path when it is a 64-bit Python 3.11 with venv, else None."""
    try:
        answer = subprocess.run([*command, "-I", "-c", _PROBE], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    verdict, _, path = answer.stdout.strip().partition(" ")
    return path if verdict == "True" else None
