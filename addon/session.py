# SPDX-License-Identifier: GPL-3.0-or-later
"""The one backend session of this Blender: which Python, which device, which log. The package's only global state."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import bpy

from ..neural_backend.interface import locks
from ..neural_backend.interface.messages import BackendError
from . import batch
from .idle import IdleWatch
from .preferences import PACKAGE, preferences
from .setup import home

if TYPE_CHECKING:  # Blender's start must not wait for these
    import numpy as np
    import numpy.typing as npt

    from ..neural_backend.interface.client import BackendSession

PYTHON_VARIABLE = "NEURAL_AVATAR_PYTHON"
DEVICE_VARIABLE = "NEURAL_AVATAR_DEVICE"


@dataclass(frozen=True)
class _Current:
    """wanted: the Python and the device that the backend was made for. idle: gives its memory back. kept: see
    :func:`kept`."""

    wanted: tuple[str, str]
    backend: BackendSession
    idle: IdleWatch
    kept: dict[Any, Any] = field(default_factory=dict)

    def unload(self) -> None:
        """Give memory back that the next frame takes again."""
        self.backend.unload()
        self.kept.clear()

    def stop(self) -> None:
        """End the backend's process as well."""
        self.backend.stop()
        self.kept.clear()


_current: _Current | None = None

#: What else is to go when the session ends; see :func:`at_stop`.
_leavings: list[Callable[[bool], None]] = []

#: A render's thread and Blender's own may ask for the session at once: only one may make it.
_making = threading.Lock()

#: The log file of this Blender and the lock that makes it its own.
_log: tuple[Path, IO[bytes] | None] | None = None


def session() -> BackendSession:
    """The session; made on first use, and made anew when another Python or device has been chosen.

    Raises BackendError 'backend-no-python' when nobody has said which Python has PyTorch.
    """
    from ..neural_backend.interface.client import BackendSession

    global _current
    wanted = python(), device()
    with _making:
        if _current is None or _current.wanted != wanted:
            _end()
            environment = {DEVICE_VARIABLE: wanted[1]}
            made = BackendSession(wanted[0], log_path(), environment=environment)
            _current = _Current(wanted, made, IdleWatch(lambda: made.is_busy))
        current = _current
    chosen = preferences()
    # Not this module's stop(): what it forgets belongs to Blender's own thread.
    current.idle.touch(((60.0 * chosen.unload_minutes, current.unload), (60.0 * chosen.stop_minutes, current.stop)))
    return current.backend


def kept() -> dict[Any, Any]:
    """Room for what is worth keeping from one frame to the next; it is forgotten when the backend gives its memory back
    or is stopped, perhaps in the middle of a frame."""
    return {} if _current is None else _current.kept


def room(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An array for one frame's work, the same memory in every frame: fresh memory of a picture's size costs the system
    far more than what is done with it. Holds anything at all."""
    import numpy as np

    held = kept()
    array: npt.NDArray[np.float32] | None = held.get(name)
    if array is None or array.shape != shape:
        array = held[name] = np.empty(shape, np.float32)
    return array


def at_stop(leave: Callable[[bool], None]) -> None:
    """Have something called once, when the session is ended from Blender's own thread: what listens to Blender goes
    then, and if it is told True, data of ours that lies in the open file."""
    if leave not in _leavings:
        _leavings.append(leave)


def stop(with_data: bool = True) -> None:
    """End the backend, if there is one; the next frame starts it again.

    with_data: leave no data in the open file either; not at Blender's own end, when there may be none any more.
    """
    _end()
    leavings = list(_leavings)
    _leavings.clear()
    for leave in leavings:
        leave(with_data)


def _end() -> None:
    global _current
    ended, _current = _current, None
    if ended is not None:
        ended.idle.end()
        ended.backend.close()


def status() -> str:
    """One line for the user interface; starts nothing."""
    return "The renderer is not running" if _current is None else _current.backend.status


def is_ready() -> bool:
    """Does the backend run and answer?"""
    return _current is not None and _current.backend.is_ready


def drop_client(client: str) -> None:
    """Free what a client of the backend holds, if there is a backend; never makes another one."""
    if _current is not None:
        _current.backend.drop_client(client)


def python() -> str:
    """The Python that runs the backend: the environment variable's, so that farm nodes need no preferences, then the
    file's where files may run programs, then the preferences', then that of the environment which was set up.

    Raises BackendError 'backend-no-python', 'setup-broken'.
    """
    chosen = os.environ.get(PYTHON_VARIABLE, "").strip() or batch.python() or preferences().python.strip()
    if chosen:
        return os.path.abspath(os.path.expanduser(bpy.path.abspath(chosen)))
    made = home.python(setup_home())
    if not made:
        raise BackendError(
            "backend-no-python",
            "No Python for the renderer is chosen: press Set Up in the Neural Avatar preferences, choose one that has "
            f"PyTorch there, or set the environment variable {PYTHON_VARIABLE}." + batch.hint(),
        )
    if not os.path.exists(made):
        raise BackendError(
            "setup-broken",
            "The renderer's environment is broken, perhaps since the Python it was made from was updated or removed: "
            "press Repair in the Neural Avatar preferences.",
        )
    return made


def device() -> str:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'…"""
    return os.environ.get(DEVICE_VARIABLE, "").strip() or batch.device() or preferences().device.strip() or "auto"


def folder() -> Path:
    """The extension's own folder; where the add-on is no extension, one among the user's settings.

    Programs that are run lie here: it must be no place where others could have put theirs before.
    """
    try:
        place = bpy.utils.extension_path_user(PACKAGE)
    except ValueError:  # no extension
        place = bpy.utils.user_resource("CONFIG", path="neural_avatar")
    try:
        # Not by Blender's own `create`, which fails where another Blender makes the folder at the same moment.
        os.makedirs(place, exist_ok=True)
    except OSError:
        # Where nothing can be written, Blender still has a folder of its own for as long as it runs.
        return Path(bpy.app.tempdir)
    return Path(place)


def setup_home() -> Path:
    """Where the environment is that was set up."""
    return folder() / "backend"


def log_path() -> Path:
    """The log of both processes. Each Blender that runs at the same time has one of its own, by number."""
    global _log
    if _log is None or _log[0].parent != folder():
        _log = _free_log(folder())
    return _log[0]


def _free_log(place: Path) -> tuple[Path, IO[bytes] | None]:
    for number in range(1, 100):
        name = "neural_avatar" if number == 1 else f"neural_avatar-{number}"
        try:
            held = locks.take(place / f"{name}.lock")
        except OSError:
            break
        if held is not None:
            return place / f"{name}.log", held
    return place / "neural_avatar.log", None


def log(text: str) -> None:
    """Write a line into the log, also when no backend could be started."""
    from ..neural_backend.interface.log import Log

    if _current is not None:
        _current.backend.log.write(text, "blender")
        return
    writer = Log(log_path())
    writer.write(text, "blender")
    writer.close()
