# SPDX-License-Identifier: GPL-3.0-or-later
"""How runs begin: with which surface, network and textures; as processes, on real footage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neural_avatar.neural_backend.avatar_file import load_avatar
from neural_avatar.neural_backend.interface.proxy import HAIR, PARAM_NAMES, RADII

#: A run of a few seconds: small pictures, one camera, hardly any proxy fitting.
SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip


def run(root: Path, *arguments: object, code: int = 0) -> str:
    """Run `neural-avatar ARGUMENTS` in a process of its own; returns what it said."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(root), *map(str, arguments)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300)  # fmt: skip
    assert done.returncode == code, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("steps", ["0", "3"])
def test_hair_can_be_left_out_of_the_proxy(root: Path, footage: Path, tmp_path: Path, steps: str) -> None:
    path = tmp_path / "bald.avatar"
    run(root, "train", footage, "-o", path, "--method", "static", *SMALL, "--no-hair", "--proxy-steps", steps)
    radii = load_avatar(path).proxy.params[:, RADII]
    rows = [PARAM_NAMES.index(name) for name in HAIR]
    assert (radii[rows] == 0).all() and (radii.sum(1) == 0).sum() == len(rows)
