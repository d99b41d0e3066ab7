# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of `tests/blender` in real Blenders, and the passes that they render."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

SCRIPTS = Path(__file__).resolve().parent.parent / "blender"


def run(python: Path, script: str, *arguments: object, resources: Path) -> dict[str, Any]:
    """Run a script in a Blender with a configuration of its own; returns what it told. Its exit must be clean."""
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(resources), "NEURAL_AVATAR_PYTHON": sys.executable,
        "NEURAL_AVATAR_DEVICE": "cpu",
    }  # fmt: skip
    done = subprocess.run(
        [python, "-B", SCRIPTS / script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    told: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            told.update(json.loads(line[1:]))
    return told


def read_passes(path: Path) -> dict[str, np.ndarray]:
    """Passes of a multilayer EXR by name, (H, W, C), top row first."""
    channels = OpenEXR.File(str(path), separate_channels=True).channels()
    passes: dict[str, dict[str, np.ndarray]] = {}
    for name, channel in channels.items():
        _, pass_name, letter = name.rsplit(".", 2)
        passes.setdefault(pass_name, {})[letter] = channel.pixels
    order = {"UV": "UVA", "Depth": "Z", "EdgeDepth": "Z", "Mask": "X", "Part": "X", "IndexOB": "X"}
    return {name: np.stack([letters[c] for c in order.get(name, "RGBA")], -1) for name, letters in passes.items()}
