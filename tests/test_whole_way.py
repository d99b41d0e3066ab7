# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole way closes: a dataset rebuilt in Blender and rendered by F12 scores as `evaluate` does, in any units."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_blender_s_pictures_score_as_evaluate_does(
    any_bpy_python: Path, footage: Path, root: Path, tmp_path: Path
) -> None:
    avatars = sorted((root / "assets").glob("*.avatar"))
    assert avatars, "no bundled avatar in assets/"
    result = tmp_path / "result.json"
    command = [sys.executable, root / "benchmarks" / "whole_way.py", avatars[0], footage, "--blender", any_bpy_python]
    subprocess.run(
        [*map(str, command), "--frames", "4", "--json", str(result)],
        check=True,
        timeout=900,
        env={**os.environ, "NEURAL_AVATAR_DEVICE": "cpu"},
    )
    scores = json.loads(result.read_text("utf-8"))
    for factor in ("1", "0.01", "10"):
        assert scores[f"Blender, scene x {factor}"] == pytest.approx(scores["evaluate"], abs=0.1)
    assert scores["orthographic against far"] > 35
