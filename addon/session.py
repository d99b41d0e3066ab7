# SPDX-License-Identifier: GPL-3.0-or-later
"""The one backend session of this Blender: which Python, which device, which log. The package's only global state."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.client import BackendSession
from ..neural_backend.interface.messages import BackendError
from . import batch
from .preferences import PACKAGE, preferences

PYTHON_VARIABLE = "NEURAL_AVATAR_PYTHON"
DEVICE_VARIABLE = "NEURAL_AVATAR_DEVICE"


@dataclass(frozen=True)
class _Current:
    """wanted: the Python and the device that the backend was made for. kept: see :func:`kept`."""

    wanted: tuple[str, str]
    backend: BackendSession
    kept: dict[Any, Any] = field(default_factory=dict)


_current: _Current | None = None


def session() -> BackendSession:
    """The session; made on first use, and made anew when another Python or device has been chosen.

    Raises BackendError 'backend-no-python' when nobody has said which Python has PyTorch.
    """
    global _current
    wanted = python(), device()
    if _current is None or _current.wanted != wanted:
        stop()
        environment = {DEVICE_VARIABLE: wanted[1]}
        _current = _Current(wanted, BackendSession(wanted[0], log_path(), environment=environment))
    return _current.backend


def kept() -> dict[Any, Any]:
    """Room for what is worth keeping from one frame to the next; it is forgotten when the backend is stopped."""
    return {} if _current is None else _current.kept


def room(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array for one frame's work, the same memory in every frame: fresh memory of a picture's size costs the system
    far more than what is done with it. Holds anything at all."""
    held = kept()
    array: npt.NDArray[np.float32] | None = held.get(name)
    if array is None or array.shape != shape:
        array = held[name] = np.empty(shape, np.float32)
    return array


def stop() -> None:
    """End the backend, if there is one; the next frame starts it again."""
    global _current
    ended, _current = _current, None
    if ended is not None:
        ended.backend.close()


def status() -> str:
    """One line for the user interface; starts nothing."""
    return "The renderer is not running" if _current is None else _current.backend.status


def is_ready() -> bool:
    """Does the backend run and answer?"""
    return _current is not None and _current.backend.is_ready


def python() -> str:
    """The Python that runs the backend: the environment variable's, so that farm nodes need no preferences, then the
    file's where files may run programs, then the preferences'."""
    chosen = os.environ.get(PYTHON_VARIABLE, "").strip() or batch.python() or preferences().python.strip()
    if not chosen:
        raise BackendError(
            "backend-no-python",
            "No Python for the renderer is chosen: set one that has PyTorch in the Neural Avatar preferences, or in "
            f"the environment variable {PYTHON_VARIABLE}." + batch.hint(),
        )
    return os.path.abspath(os.path.expanduser(bpy.path.abspath(chosen)))


def device() -> str:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'…"""
    return os.environ.get(DEVICE_VARIABLE, "").strip() or batch.device() or preferences().device.strip() or "auto"


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
        _current.backend.log.write(text, "blender")
        return
    writer = Log(log_path())
    writer.write(text, "blender")
    writer.close()
