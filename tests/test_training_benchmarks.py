# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmarks of training: the switch that only they need, and how they keep, resume and tell what was run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from neural_avatar.neural_backend.avatar_file import load_avatar
from neural_avatar.neural_backend.interface.avatar_header import read_header
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.config import TrainConfig

SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback")  # fmt: skip


def run(*words: object, code: int = 0) -> str:
    """A command's whole output, when it ends as it should."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *map(str, words)], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def test_without_residuals_the_network_is_pretrained_and_predicts_outright(
    root: Path, footage: Path, tmp_path: Path
) -> None:
    file = tmp_path / "outright.avatar"
    said = run(root, "train", footage, "-o", file, "--steps", 6, "--pretrain", 0.5, "--no-residual", *SMALL)
    assert said.index("of the texels were seen") > said.index("The proxy covers")
    log = (tmp_path / "outright.avatar.train" / "log.csv").read_text("utf-8").splitlines()
    assert len(log) > 1
    avatar, header = load_avatar(file), read_header(file)
    assert not avatar.config.residual and avatar.config.reads_proxy and header.format_version == 2
    with safe_open(str(file), "pt") as tensors:
        assert "generator.stem.0.weight" in tensors.keys()  # noqa: SIM118
    with pytest.raises(BackendError, match="needs --method textured-proxy"):
        TrainConfig(method="direct", residual=False)


def test_a_table_is_written_from_what_is_finished_and_nothing_is_done_twice(
    root: Path, footage: Path, tmp_path: Path
) -> None:
    program = (root / "benchmarks" / "quality.py", footage, "--work", tmp_path / "work", "--results", tmp_path)
    small = ("--minutes", "0.1", "--size", "64", "--seeds", "0", "--only", "direct")
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps(dict.fromkeys(("textured-proxy", "direct"), 1e-3)), "utf-8")
    first = run(*program, *small, "--rates", rates)
    assert "final_direct_seed0" in first
    page = (tmp_path / "quality.md").read_text("utf-8")
    steps = read_header(tmp_path / "work" / "final_direct_seed0.avatar").provenance["steps"]
    assert steps > 0 and f", {steps} steps" in first
    assert f"| direct (the paper's, no skips) | 1 | 0.001 | {steps} |" in page and "open: ahead of v2v" in page
    assert "Not there yet: textured-proxy: 3 of 3 runs;" in page and "(split test_near)" in page
    frames = (tmp_path / "quality_frames.csv").read_text("utf-8").splitlines()
    assert len(frames) == 41 and frames[0].startswith("method,seed,row,camera,") and frames[1].startswith("direct,0,")
    machine = tmp_path / "work" / "final_direct_seed0.machine"
    assert f"- Trained on {machine.read_text('utf-8').strip()}." in page
    machine.write_text("an abacus\n", "utf-8")  # trained there, resumed here
    again = run(*program, *small, "--rates", rates)
    assert "- Trained on an abacus." in again
    assert "final_direct_seed0:" not in again and "| direct (the paper's, no skips) |" in again
    said = run(*program, *small, "--rates", rates, "--minutes", "0.2", code=1)
    assert "was begun with other options" in said


def test_rates_are_not_picked_on_another_dataset(root: Path, footage: Path, tmp_path: Path) -> None:
    program, keep = root / "benchmarks" / "quality.py", ("--work", tmp_path / "work", "--results", tmp_path)
    for _ in range(2):
        assert "Nothing is finished yet" in run(program, footage, *keep, "--table")
    cameras = json.loads((tmp_path / "work" / "carved" / "cameras.json").read_text("utf-8"))
    whole = json.loads((footage / "cameras.json").read_text("utf-8"))
    unseen = {whole["cameras"][i]["name"] for i in whole["heldout_cameras"]}
    assert unseen.isdisjoint(camera["name"] for camera in cameras["cameras"])
    other = tmp_path / "other"
    other.mkdir()
    for file in footage.iterdir():
        (other / file.name).symlink_to(file, target_is_directory=file.is_dir())
    (other / "images").unlink()
    (other / "images").mkdir()
    assert "was carved from" in run(program, other, *keep, "--table", code=1)
