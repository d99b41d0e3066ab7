# SPDX-License-Identifier: GPL-3.0-or-later
"""The linters, in the way both `python3 dev.py lint` and the tests run them.

mypy and import-linter need the root under its package name, whatever the checkout's folder is called: they see a copy.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .environments import ROOT
from .extension import export

#: Name of each linter and its command line after the interpreter; True: it sees the package's copy.
LINTERS: dict[str, tuple[bool, list[str]]] = {
    "ruff": (False, ["-m", "ruff", "check", "."]),
    "mypy": (True, ["-m", "mypy", "--config-file", "neural_avatar/pyproject.toml", "-p", "neural_avatar"]),
    "mypy (tools)": (False, ["-m", "mypy", "--explicit-package-bases", "dev.py", "tooling", "demo/walk.py"]),
    "import-linter": (True, ["-c", "from importlinter.cli import lint_imports_command as c; c()",
                             "--config", "neural_avatar/pyproject.toml", "--no-cache"]),
}  # fmt: skip


def lint(name: str, python: str) -> subprocess.CompletedProcess[str]:
    """Run one linter under the interpreter `python`; its returncode is 0 when it has nothing to say."""
    beside_package, arguments = LINTERS[name]
    environment = {**os.environ, "MYPY_CACHE_DIR": str(ROOT / "build" / "mypy"), "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        if beside_package:
            export(Path(folder) / "neural_avatar", tracked_only=False)
            environment["PYTHONPATH"] = folder
        return subprocess.run(
            [python, *arguments], cwd=folder if beside_package else ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
