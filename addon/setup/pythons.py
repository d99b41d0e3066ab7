# SPDX-License-Identifier: GPL-3.0-or-later
"""A Python to make the environment from: uv's, the system's, or Blender's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...neural_backend.interface.launch import clean_environment
from ...neural_backend.interface.messages import BackendError
from . import programs

OLDEST, NEWEST = (3, 11), (3, 13)
#: What uv is asked to bring where the machine has none.
PREFERRED = "3.12"

_PROBE = """
import json, sys
facts = {"version": sys.version_info[:3], "path": getattr(sys, "_base_executable", None) or sys.executable}
facts["wide"] = sys.maxsize > 2 ** 32
try:
    import venv, ensurepip
    facts["venv"] = True
except Exception:
    facts["venv"] = False
print("@" + json.dumps(facts))
"""


@dataclass(frozen=True)
class Base:
    """path: the interpreter, '' when uv is to bring one. version: such as '3.11.9'. source: where it was found, for
    people. uv: path of uv, '' where the standard library's venv and pip do the work."""

    path: str
    version: str
    source: str
    uv: str = ""

    @property
    def brings_python(self) -> bool:
        """Must a Python be downloaded first?"""
        return not self.path


def find(blender_python: str = "", download: bool = True) -> Base:
    """The Python to use; takes up to a few seconds.

    blender_python: Blender's own, the last resort, as it goes with every update of Blender. download: may uv bring a
    Python? Raises BackendError 'setup-no-python'.
    """
    uv = programs.find("uv")
    seen: list[str] = []
    for source, command in _candidates(uv, blender_python):
        facts = probe(command)
        if facts is None:
            continue
        version, path, wide, with_venv = facts
        name = ".".join(map(str, version))
        if not OLDEST <= version[:2] <= NEWEST or not wide:
            seen.append(f"{source} is {name}{'' if wide else ', 32 bit'}")
        elif not (with_venv or uv):
            seen.append(f"{source} ({name}) lacks the modules venv and ensurepip")
        else:
            return Base(path, name, source, uv)
    if uv and download:
        return Base("", PREFERRED, "uv", uv)
    raise BackendError(
        "setup-no-python",
        "No Python 3.11 to 3.13 was found to make the environment from: install one from python.org "
        "(Debian, Ubuntu: the package python3-venv), or uv from astral.sh, which brings its own, and press Set Up "
        "again.",
        "; ".join(seen),
    )


def probe(command: list[str]) -> tuple[tuple[int, ...], str, bool, bool] | None:
    """Version, path, is it 64 bit, can it make environments; None for what is no Python that runs."""
    flags = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
    try:
        done = subprocess.run(
            [*command, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            env=clean_environment(),
            creationflags=flags,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.startswith("@"):
            facts = json.loads(line[1:])
            return tuple(facts["version"]), str(facts["path"]), bool(facts["wide"]), bool(facts["venv"])
    return None


def _candidates(uv: str, blender_python: str) -> Iterator[tuple[str, list[str]]]:
    if uv and (found := _uv_find(uv)):
        yield "Python found by uv", [found]
    names = [f"3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    if sys.platform == "win32":
        if launcher := programs.find("py"):
            yield from (("Python of the py launcher", [launcher, f"-{name}"]) for name in names)
    elif sys.platform == "darwin":
        frameworks = Path("/Library/Frameworks/Python.framework/Versions")
        homes = [Path("/opt/homebrew/bin"), Path("/usr/local/bin"), *(frameworks / name / "bin" for name in names)]
        for name in names:
            paths = [home / f"python{name}" for home in homes]
            yield from (("the system's Python", [os.fspath(p)]) for p in paths if p.exists())
    for name in (*(f"python{name}" for name in names), "python3", "python"):
        # Windows' own stub opens the Microsoft Store instead of running anything.
        if (found := programs.find(name)) and "WindowsApps" not in found:
            yield "the system's Python", [found]
    if blender_python:
        yield "Blender's own Python", [blender_python]


def _uv_find(uv: str) -> str:
    flags = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
    wanted = f">={'.'.join(map(str, OLDEST))},<{NEWEST[0]}.{NEWEST[1] + 1}"
    try:
        done = subprocess.run(
            [uv, "python", "find", "--no-project", "--no-python-downloads", "--system", wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            env=clean_environment(),
            creationflags=flags,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
