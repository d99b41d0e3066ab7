# SPDX-License-Identifier: GPL-3.0-or-later
"""The one backend session of this Blender: which Python, which device, which log. The package's only global state."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import bpy

from ..neural_backend.interface.client import BackendSession
from ..neural_backend.interface.messages import BackendError
from .preferences import PACKAGE, preferences

PYTHON_VARIABLE = "NEURAL_AVATAR_PYTHON"
DEVICE_VARIABLE = "NEURAL_AVATAR_DEVICE"

#: The session and what it was made for.
_current: tuple[tuple[str, str], BackendSession] | None = None


def session() -> BackendSession:
    """The session; made on first use, and made anew when another Python or device has been chosen.

    Raises BackendError 'backend-no-python' when nobody has said which Python has PyTorch.
    """
    global _current
    wanted = python(), device()
    if _current is None or _current[0] != wanted:
        stop()
        environment = {DEVICE_VARIABLE: wanted[1]}
        _current = wanted, BackendSession(wanted[0], log_path(), environment=environment)
    return _current[1]


def stop() -> None:
    """End the backend, if there is one; the next frame starts it again."""
    global _current
    ended, _current = _current, None
    if ended is not None:
        ended[1].close()


def status() -> str:
    """One line for the user interface; starts nothing."""
    return "The renderer is not running" if _current is None else _current[1].status


def is_ready() -> bool:
    """Does the backend run and answer?"""
    return _current is not None and _current[1].is_ready


def python() -> str:
    """The Python that runs the backend: the environment variable's, so that farm nodes need no preferences, then the
    preferences'."""
    chosen = os.environ.get(PYTHON_VARIABLE, "").strip() or preferences().python.strip()
    if not chosen:
        raise BackendError(
            "backend-no-python",
            "No Python for the renderer is chosen: set one that has PyTorch in the Neural Avatar preferences, or in "
            f"the environment variable {PYTHON_VARIABLE}.",
        )
    return os.path.abspath(os.path.expanduser(bpy.path.abspath(chosen)))


def device() -> str:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'…"""
    return os.environ.get(DEVICE_VARIABLE, "").strip() or preferences().device.strip() or "auto"


def log_path() -> Path:
    """The log of both processes, in the extension's own folder; beside temporary files where the add-on is no
    extension."""
    try:
        folder = bpy.utils.extension_path_user(PACKAGE, create=True)
    except ValueError:
        folder = os.path.join(tempfile.gettempdir(), "neural_avatar")
    return Path(folder) / "neural_avatar.log"


def log(text: str) -> None:
    """Write a line into the log, also when no backend could be started."""
    from ..neural_backend.interface.log import Log

    if _current is not None:
        _current[1].log.write(text, "blender")
        return
    writer = Log(log_path())
    writer.write(text, "blender")
    writer.close()
