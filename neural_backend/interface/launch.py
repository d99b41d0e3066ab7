# SPDX-License-Identifier: GPL-3.0-or-later
"""How the backend's Python is started, and a probe of what a given Python holds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import exit_codes
from .messages import BackendError

#: The script that runs in the backend's Python.
START_SCRIPT = Path(__file__).resolve().parents[1] / "start.py"

#: Isolated from PYTHON* variables, the user's site-packages and the folder of the script; writes no bytecode into an
#: extension's folder.
_FLAGS = ("-I", "-B", "-X", "utf8")

#: Variables that Blender sets for itself and that change or break another Python or its libraries.
_FOREIGN = ("PYTHON", "BLENDER_", "__PYVENV_LAUNCHER__", "OCIO")

_NO_WINDOW = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))

_PROBE = """
import json, sys
found = {"executable": sys.executable, "python": sys.version.split()[0], "torch": None, "numpy": None}
found |= {"devices": [], "error": None}
try:
    import numpy
    found["numpy"] = numpy.__version__
    import torch
    found["torch"] = torch.__version__
    import safetensors.torch
    found["devices"] = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found["devices"].append("mps")
    found["devices"].append("cpu")
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"
print("\\n@found " + json.dumps(found))
"""


def command(python: str | os.PathLike[str], script: str | os.PathLike[str] = START_SCRIPT) -> list[str]:
    """The command line that starts the backend."""
    return [os.fspath(python), *_FLAGS, os.fspath(script)]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what is meant for this process's Python alone, plus ``extra``."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(_FOREIGN)}
    return {**kept, **(extra or {})}


def spawn(python: str, script: str | os.PathLike[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a backend with pipes on its three streams. Raises BackendError 'backend-no-python'."""
    try:
        return subprocess.Popen(
            command(python, script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=os.path.expanduser("~") if os.path.isdir(os.path.expanduser("~")) else None,
            creationflags=_NO_WINDOW,
        )
    except (OSError, ValueError) as error:
        raise no_python(python, error) from error


def no_python(python: str, error: Exception) -> BackendError:
    """The error for a Python that cannot be run."""
    return BackendError(
        "backend-no-python",
        f"The renderer's Python cannot be run: '{python}' ({_reason(error)}). Choose a Python that has PyTorch in "
        "the add-on's preferences.",
        f"{type(error).__name__}: {error}",
    )


def explain_exit(code: int | None, python: str, greeted: bool, log_path: Path, tail: str) -> BackendError:
    """Why a backend has ended on its own, in a sentence. greeted: it had started completely before."""
    if code == exit_codes.OLD_PYTHON:
        return BackendError(
            "backend-old-python",
            f"The renderer needs Python 3.11 or newer, and '{python}' is older. Choose another Python in the "
            "add-on's preferences.",
            tail,
        )
    if code == exit_codes.MISSING_PACKAGE:
        return BackendError(
            "backend-no-torch",
            f"The Python '{python}' cannot load PyTorch, numpy or safetensors. Install torch, numpy and safetensors "
            "there, or choose a Python "
            "that has them in the add-on's preferences.",
            tail,
        )
    if code == exit_codes.DEVICE_FAILED and greeted:
        return BackendError(
            "backend-died",
            "The device that draws has failed, and the renderer's process ended. It is started again with the next "
            f"frame; {log_path} says more.",
            tail,
        )
    how = "stopped unexpectedly" if greeted else "could not start"
    ended = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
    return BackendError(
        "backend-died" if greeted else "backend-no-start",
        f"The renderer's process {how}{ended}. It is started again with the next frame; {log_path} says more.",
        tail,
    )


def probe_python(python: str | os.PathLike[str], timeout: float = 90.0) -> dict[str, Any]:
    """Run a Python, isolated as the backend would be, and say what it holds.

    Returns executable, python, torch, numpy (versions, None where absent), devices (names, fastest first) and error
    (None, or why torch cannot be used). Raises BackendError: 'backend-no-python' when it cannot be run,
    'backend-start-timeout' after ``timeout`` seconds.
    """
    name = os.fspath(python)
    try:
        done = subprocess.run(
            [name, *_FLAGS, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_environment(),
            timeout=timeout,
            creationflags=_NO_WINDOW,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            "backend-start-timeout", f"'{name}' did not answer within {timeout:.0f} seconds while it loaded PyTorch."
        ) from error
    except (OSError, ValueError) as error:
        raise no_python(name, error) from error
    for line in reversed(done.stdout.decode(errors="replace").splitlines()):
        if line.startswith("@found "):
            found: dict[str, Any] = json.loads(line.removeprefix("@found "))
            return found
    said = done.stderr.decode(errors="replace")[-4000:]
    raise BackendError("backend-no-python", f"'{name}' is no Python that works (exit code {done.returncode}).", said)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    return str(getattr(error, "strerror", None) or error)
