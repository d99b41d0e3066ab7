# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the environment lies, which one is in use, and how it goes away.

``environment.json`` names the one that is in use and is written last, in one step: an environment that is half made is
never used, and one in use is never changed. A new one is made beside it and takes its place; what is left of others
goes when nobody holds its files any more.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ...neural_backend.interface import locks
from ...neural_backend.interface.files import whole
from ...neural_backend.interface.messages import BackendError

MARKER, UNFINISHED, TESTED, LOG = "environment.json", "unfinished.json", "tested.json", "setup.log"
#: Short, as Windows counts the letters of a path and PyTorch's are long.
_FOLDER = "env"
_CACHE = "cache"


@dataclass(frozen=True)
class Environment:
    """folder: its name in the home. python: version. wheels: kind of build. torch: version."""

    folder: str
    python: str
    wheels: str
    torch: str


@dataclass(frozen=True)
class Test:
    """The last self-test. executable: of which Python. devices: names, the fastest first. device: on which the frame
    was drawn. seconds: of that frame. error: '' for none."""

    executable: str
    python: str = ""
    torch: str = ""
    devices: tuple[str, ...] = ()
    device: str = ""
    seconds: float = 0.0
    error: str = ""


def interpreter(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def current(home: Path) -> Environment | None:
    """The environment in use, None when there is none."""
    found = _read(home / MARKER)
    with contextlib.suppress(TypeError, KeyError):
        return Environment(**{k: str(found[k]) for k in Environment.__dataclass_fields__}) if found else None
    return None


def python(home: Path) -> str:
    """The Python of the environment in use, '' when there is none."""
    environment = current(home)
    return str(interpreter(home / environment.folder)) if environment is not None else ""


def is_whole(home: Path) -> bool:
    """Is there an environment whose Python can be found? A Python that it was made from may have gone with an
    update."""
    found = python(home)
    return bool(found) and os.path.exists(found)


def adopt(home: Path, environment: Environment) -> None:
    """Take an environment into use."""
    write(home / MARKER, asdict(environment))
    (home / UNFINISHED).unlink(missing_ok=True)


def unfinished(home: Path) -> str:
    """Why the last set-up did not finish, '' when it did."""
    found = _read(home / UNFINISHED)
    return str(found.get("why", "")) if found else ""


def set_unfinished(home: Path, why: str) -> None:
    """Remember that a set-up has not finished, for the time after a restart of Blender too."""
    write(home / UNFINISHED, {"why": why})


def tested(home: Path) -> Test | None:
    """The last self-test."""
    found = _read(home / TESTED)
    if not found:
        return None
    with contextlib.suppress(TypeError, ValueError):
        return Test(**{**found, "devices": tuple(map(str, found.get("devices", ())))})
    return None


def set_tested(home: Path, test: Test) -> None:
    """Remember a self-test."""
    write(home / TESTED, asdict(test))


def lock(home: Path) -> IO[bytes]:
    """Hold the home for changing it. Raises BackendError 'setup-busy', and those of a folder that cannot be
    written."""
    try:
        held = locks.take(home / "setup.lock")
    except OSError as error:
        raise BackendError(
            "setup-locked",
            f"The folder {home} cannot be written: give yourself the right to, then try again.",
            str(error),
        ) from error
    if held is None:
        raise BackendError("setup-busy", "Another Blender is setting up the renderer: wait until it has finished.")
    return held


def new_folder(home: Path) -> Path:
    """A place for a new environment; nothing is there yet."""
    number = 1
    while (home / f"{_FOLDER}{number}").exists():
        number += 1
    return home / f"{_FOLDER}{number}"


def cache(home: Path) -> Path:
    """What was downloaded is kept here until an environment is whole."""
    return home / _CACHE


def leftovers(home: Path) -> list[Path]:
    """What no longer belongs to anything. Look at it only while :func:`lock` is held."""
    if not home.is_dir():
        return []
    environment = current(home)
    kept = {environment.folder} if environment is not None else set()
    if unfinished(home):
        kept.add(_CACHE)
    return [p for p in home.iterdir() if p.is_dir() and p.name.startswith((_FOLDER, _CACHE)) and p.name not in kept]


def sweep(home: Path) -> list[Path]:
    """Delete leftovers; returns those that another program still holds, which the next start tries again."""
    import shutil

    for folder in leftovers(home):
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in leftovers(home) if folder.exists()]


def remove(home: Path) -> str:
    """Remove the environment and all that belongs to it; returns a sentence.

    It is out of use at once, also where some of its files are held and can only be deleted later.
    """
    with lock(home):
        for name in (MARKER, UNFINISHED, TESTED):
            (home / name).unlink(missing_ok=True)
        held = sweep(home)
    if held:
        return (
            "The environment is out of use. Another program (a virus scanner, or another Blender) still holds some of "
            "its files; they are deleted when Blender starts next."
        )
    return "The environment was removed."


def check_space(home: Path, megabytes: int, free: int | None = None) -> None:
    """Raises BackendError 'setup-no-space' when a disk has less room. free: bytes, None to ask the disk."""
    import shutil

    place = home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free if free is None else free
    if free < megabytes * 1_000_000:
        raise BackendError(
            "setup-no-space",
            f"The set-up needs {megabytes / 1000:.1f} GB and the disk of {home} has {free / 1e9:.1f} GB left: free "
            "some space, or choose the wheels for CPU, which are smaller.",
        )


def write(path: Path, facts: dict[str, Any]) -> None:
    """A small file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
