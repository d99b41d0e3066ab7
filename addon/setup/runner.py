# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one program of the set-up: its lines go into the log, it can be stopped, and its failure becomes a sentence."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...neural_backend.interface.launch import clean_environment
from ...neural_backend.interface.messages import BackendError
from . import programs

#: A user's settings for pip that would send packages past the environment.
_MISLEADING = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_NO_DEPS",
    "PIP_REQUIRE_VIRTUALENV",
    "VIRTUAL_ENV",
)

#: What pip, uv and Python say: a code for it, and the sentence with the remedy.
_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28\b|Errno 122\b|WinError 112\b|not enough space",
        "setup-no-space",
        "The disk is full: free some space on the disk of {place} and press Repair.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification|invalid peer certificate",
        "setup-certificate",
        "The download's certificate was not accepted, as happens behind a company's proxy: set PIP_CERT (uv: "
        "SSL_CERT_FILE) to the proxy's certificate and restart Blender, or use an offline archive.",
    ),
    (
        r"name resolution|NameResolutionError|Failed to establish a new connection|getaddrinfo|Network is unreachable|"
        r"ProxyError|ConnectTimeout|ReadTimeout|Read timed out|dns error|error sending request|Connection refused|"
        r"Connection reset|ConnectionError|Could not connect|client error \(Connect\)|HTTP error 5\d\d|"
        r"IncompleteRead|Connection broken",
        "setup-no-network",
        "The download failed because the network does not answer: check the connection (and proxy), then press Repair; "
        "what has arrived is kept. Without network, use an offline archive.",
    ),
    (
        r"WinError 206\b|Long Path|path too long|File name too long",
        "setup-long-path",
        "Windows refuses paths as long as PyTorch's: turn on long paths (Group Policy › Enable Win32 long paths, or "
        "LongPathsEnabled=1 in the registry), or make an environment elsewhere and choose its Python.",
    ),
    (
        r"PermissionError|WinError (5|32)\b|Access is denied|being used by another process|Permission denied|"
        r"os error (5|32)\)",
        "setup-locked",
        "A file could not be written because another program holds it or the folder is read-only: close other "
        "Blenders, let the virus scanner leave {place} alone, then press Repair.",
    ),
    (
        r"DO NOT MATCH THE HASHES|[Hh]ash mismatch|BadZipFile|is not a zip file|has an invalid wheel|InvalidWheel|"
        r"Invalid (zip|wheel)|invalid Zip|failed to extract|unexpected end of file",
        "setup-damaged",
        "A downloaded package is damaged: press Repair to get it again; from an offline archive, make the archive "
        "anew.",
    ),
    (
        r"No matching distribution found|Could not find a version that satisfies|No solution found|not found in the "
        r"(package registry|provided package locations)|no wheels with a matching",
        "setup-no-wheel",
        "No package for this machine and Python was found at {source}: choose other wheels or another archive, or make "
        "an environment yourself and choose its Python.",
    ),
)  # fmt: skip


def run(
    command: Sequence[str],
    log: Callable[[str], None],
    cancelled: threading.Event,
    place: Path,
    source: str = "",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end.

    log: takes its lines. place, source: the folder that it fills and where it gets packages, for the sentences.
    Raises BackendError: 'cancelled', or what the program's last lines tell.
    """
    log("$ " + " ".join(command))
    surroundings = {k: v for k, v in clean_environment(environment).items() if k.upper() not in _MISLEADING}
    try:
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=surroundings,
            cwd=place.parent,
            start_new_session=sys.platform != "win32",
            creationflags=int(getattr(subprocess, "CREATE_NO_WINDOW", 0)),
        )
    except OSError as error:
        raise explain(f"{type(error).__name__}: {error}", command, place, source) from error
    tail: deque[str] = deque(maxlen=60)
    reader = threading.Thread(target=_read, args=(child, tail, log), daemon=True)
    reader.start()
    while True:
        if cancelled.wait(0.1):
            _end(child)
            raise BackendError("cancelled", "The set-up was stopped. Press Set Up to begin again.")
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(0)
            break
    reader.join(5)
    if code:
        said = "\n".join(tail)
        if code < 0:
            raise BackendError(
                "setup-killed",
                f"The set-up was ended by the system or another program (signal {-code}): close what takes much memory "
                "and press Repair; what has arrived is kept.",
                said,
            )
        raise explain(f"{said}\n(exit code {code})", command, place, source)


def explain(said: str, command: Sequence[str], place: Path, source: str = "") -> BackendError:
    """What a program's last words mean."""
    for pattern, code, sentence in _FAULTS:
        if re.search(pattern, said):
            return BackendError(code, sentence.format(place=place, source=source or "its index"), said)
    name = "uv" if Path(command[0]).stem == "uv" else "pip" if "pip" in command else Path(command[0]).name
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    faults = [line for line in lines if line.lower().startswith("error")] or lines
    last = (faults[-1] if faults else "it said nothing").rstrip(".")
    return BackendError(
        "setup-failed",
        f"{name} failed: {last[:200]}. Press Repair to try again; the log has the details.",
        said,
    )


def _read(child: subprocess.Popen[bytes], tail: deque[str], log: Callable[[str], None]) -> None:
    assert child.stdout is not None
    for raw in child.stdout:
        if line := raw.decode(errors="replace").strip():
            tail.append(line)
            log(line)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has started."""
    if sys.platform == "win32":
        flags = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
        command = [programs.find("taskkill"), "/F", "/T", "/PID", str(child.pid)]
        with contextlib.suppress(OSError):
            subprocess.run(command, capture_output=True, check=False, creationflags=flags)
        child.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(10)
