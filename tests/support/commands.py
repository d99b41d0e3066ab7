# SPDX-License-Identifier: GPL-3.0-or-later
"""The program `neural-avatar` as a user starts it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 120.0


def run(*arguments: object, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command as `python <checkout>/__main__.py` runs it, from another folder."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "__main__.py"), *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT.anchor, timeout=LIMIT, env={**os.environ, **variables},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def complaint(*arguments: object) -> str:
    """The one sentence that a command ends with."""
    done = run(*arguments, code=1)
    assert "Traceback" not in done.stderr and done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("neural-avatar: ") and lines[0].endswith(".")
    return lines[0]


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """The command, running."""
    command = [sys.executable, str(ROOT / "__main__.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def begin(*arguments: object) -> subprocess.Popen[str]:
    """The command, running; what it says on either stream comes as one."""
    command = [sys.executable, str(ROOT / "__main__.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def words_of(*arguments: object, code: int = 0) -> str:
    """All that the command says, run to its end; it may take a while."""
    process = begin(*arguments)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code and "Traceback" not in said, said
    return said
