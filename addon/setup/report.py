# SPDX-License-Identifier: GPL-3.0-or-later
"""The report that a user can copy and send: versions, machine, error, the log's end; nobody's name or password."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_TAIL = 6000


def compose(facts: Mapping[str, str], logs: Mapping[str, Path]) -> str:
    """The report. facts: title to value, on top of what is known here. logs: title to file; their ends are shown."""
    from . import machine

    here = machine.look()
    known = {
        "System": platform.platform(),
        "Processor": f"{here.processor}, {os.cpu_count()} cores",
        "GPU": f"{', '.join(here.gpus)}, driver {here.driver}" if here.gpus else "ROCm" if here.rocm else "none found",
        "Blender's Python": sys.version.split()[0],
    }
    lines = ["Neural Avatar: report", *(f"{k}: {v}" for k, v in {**facts, **known}.items() if v)]
    for title, path in logs.items():
        if end := _end(path):
            lines += ["", f"--- {title} ({path.name}), its end", end]
    return without_secrets("\n".join(lines)) + "\n"


def without_secrets(text: str) -> str:
    """A text without passwords in addresses, keys, and the user's name in paths."""
    text = re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", text)
    text = re.sub(r"(?i)\b((?:\w*(?:token|password|passwd|secret|api_?key))\s*[=:]\s*)\S+", r"\1***", text)
    user = Path.home()
    for form in {str(user), user.as_posix()}:
        if len(form) > 3:
            text = text.replace(form, "~")
    name = _user()
    return re.sub(rf"(?<=[/\\]){re.escape(name)}(?=[/\\])", "USER", text) if len(name) > 1 else text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _end(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
