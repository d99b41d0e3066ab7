# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's Python environments: where they lie, what is in them, how they are made.

One holds torch (backend, training, tests), one for each Blender holds `bpy` with the numpy that Blender has. They lie
in the user's cache folder, named by a hash of what is in them, so that all checkouts share them, a change of
requirements makes a new one, and nothing in them points at a checkout.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .pythons import find_python

ROOT = Path(__file__).resolve().parent.parent

#: The Blenders that the add-on is tested with, as Python modules.
BLENDERS = {"4.2": "4.2.23", "4.5": "4.5.15", "5.0": "5.0.1"}

#: One torch for everyone's tests: a looser pin may bring gigabytes. The code itself runs on 2.11 to 2.13.
TORCH = "torch==2.13.0"

#: Shared libraries that OpenCV or `bpy` open at import on Linux, and the Debian and Ubuntu packages that bring them.
SYSTEM_LIBRARIES = {
    "backend": {"GL": "libgl1", "glib-2.0": "libglib2.0-0"},
    "bpy": {
        "Xrender": "libxrender1", "Xxf86vm": "libxxf86vm1", "Xfixes": "libxfixes3", "Xi": "libxi6",
        "xkbcommon": "libxkbcommon0", "SM": "libsm6", "GL": "libgl1", "gomp": "libgomp1",
    },
}  # fmt: skip

#: Names of the environments' folders: nothing else in the cache folder is ever removed.
_FOLDER = re.compile(r"(backend|bpy-[0-9.]+)-[0-9a-f]{12}")


class SetupError(Exception):
    """Something is missing that only the user can bring. The message is one sentence that says what to do."""


def cache_folder() -> Path:
    """Where environments lie: NEURAL_AVATAR_CACHE, else the platform's cache folder of the user."""
    if chosen := os.environ.get("NEURAL_AVATAR_CACHE"):
        return Path(chosen).expanduser().resolve()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "neural-avatar" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "neural-avatar"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neural-avatar"


def requirements(name: str) -> list[str]:
    """What is installed in the environment `name`: 'backend', or 'bpy-4.2' and its sisters."""
    if name.startswith("bpy-"):
        return [f"bpy=={BLENDERS[name.removeprefix('bpy-')]}", "numpy>=1.26,<2"]
    import tomllib  # here, because dev.py must start under any Python 3

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = ("backend", "training", "footage", "logs", "evaluation", "exr", "dev")
    return [TORCH, *project["dependencies"], *(requirement for extra in wanted for requirement in extras[extra])]


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def folder_of(name: str) -> Path:
    """Where the environment `name` lies or would lie, by the present requirements."""
    system = [platform.python_version(), platform.platform(terse=True), platform.machine()]
    key = json.dumps([sorted(requirements(name)), *system])
    return cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def environment(name: str) -> Path:
    """The interpreter of the environment `name`, made first when it is not there. Raises SetupError with the remedy."""
    _check_system_libraries(name)
    folder, wanted = folder_of(name), requirements(name)
    complete = folder / "complete.json"
    if _is_whole(folder):
        os.utime(complete)
        return python_of(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(folder.name + ".lock")):
        if not _is_whole(folder):  # another process may have made it while this one waited
            _make(name, folder, wanted)
            complete.write_text(json.dumps({"requirements": wanted}, indent=1), "utf-8")
    return python_of(folder)


def _is_whole(folder: Path) -> bool:
    """Its making came to the end, and the Python that it was made from is still there."""
    return (folder / "complete.json").is_file() and python_of(folder).exists()


def prune() -> list[Path]:
    """Remove the environments that the present requirements do not use, and make none; returns their folders."""
    cache, current = cache_folder(), set(map(folder_of, names()))
    found = [p for p in cache.iterdir() if _FOLDER.fullmatch(p.name) and p.is_dir()] if cache.is_dir() else []
    old = [p for p in found if p not in current]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return old


def names() -> list[str]:
    """All environments of the project."""
    return ["backend", *(f"bpy-{version}" for version in BLENDERS)]


def _make(name: str, folder: Path, wanted: list[str]) -> None:
    """Build the environment. It cannot be moved once made, so a marker file, written last, says that it is whole."""
    started = time.monotonic()
    print(f"Making the environment '{name}' in {folder} (once; this takes some minutes) …", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([find_python(), "-m", "venv", str(folder)], check=True)
    install = [str(python_of(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    if subprocess.run(install, stdin=subprocess.DEVNULL).returncode:
        raise SetupError(
            f"pip could not install {', '.join(wanted)} (its reason stands above): mend that, often the network or the "
            f"free space in {folder.parent}, and run the command again."
        )
    print(f"  made in {time.monotonic() - started:.0f} s", flush=True)


def _check_system_libraries(name: str) -> None:
    if not sys.platform.startswith("linux"):
        return
    who, libraries = ("Blender", "bpy") if name.startswith("bpy-") else ("OpenCV", "backend")
    needed = SYSTEM_LIBRARIES[libraries].items()
    missing = [package for library, package in needed if ctypes.util.find_library(library) is None]
    if missing:
        raise SetupError(
            f"{who} needs system libraries that are not installed here; on Debian and Ubuntu: "
            f"sudo apt-get install {' '.join(missing)}"
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system drops with the process."""
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # after ten tries; whoever holds it is still installing
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
