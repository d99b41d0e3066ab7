# SPDX-License-Identifier: GPL-3.0-or-later
"""What learns beside the avatar, and errors made on purpose."""

from __future__ import annotations

import csv
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from neural_avatar.training.batches import BatchSource
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.disturbance import Disturbance, disturb
from neural_avatar.training.initialise import frame_views, new_avatar
from neural_avatar.training.light import MOST, LightGains
from neural_avatar.training.losses import FallbackImageLoss
from neural_avatar.training.reporting import Log, Reporter
from neural_avatar.training.trainer import Trainer


def shots(rows: int, cameras: int) -> list[Any]:
    """Stand-ins for shots: one clip of ``rows`` rows seen by ``cameras`` cameras."""
    dataset = SimpleNamespace(path=Path("take"), clip=("walk",) * rows)
    return [SimpleNamespace(dataset=dataset, view=View(r, c)) for r in range(rows) for c in range(cameras)]


def test_gains_find_the_exposure_of_each_camera_and_its_drift() -> None:
    torch.manual_seed(0)
    some = shots(150, 2)
    gains = LightGains(some)
    wanted = torch.tensor([[1.2 if s.view.camera else 1 / 1.2] * 3 for s in some])
    wanted = wanted * torch.tensor([[1.1 ** (s.view.row / 75 - 1)] * 3 for s in some])
    optimiser = torch.optim.Adam(gains.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (gains(range(len(some)))[:, :, 0, 0] - wanted).square().mean() + 0.01 * gains.penalty()
        loss.backward()
        optimiser.step()
    found = gains(range(len(some)))[:, :, 0, 0].detach()
    assert (found - wanted).abs().max() < 0.03
    assert found.log().mean().abs() < 0.02
    with torch.no_grad():
        gains.log_gains.fill_(50)
    assert gains([0]).max() <= MOST + 1e-4


def test_errors_are_made_in_hands_face_and_feet_only() -> None:
    joints = np.zeros((64, JOINT_COUNT, 3), np.float32)
    confidence = np.ones((64, JOINT_COUNT), np.float32)
    moved, weight = disturb(joints, confidence, np.random.default_rng(0), Disturbance(1.0, 0.25))
    feet = [INDEX[s + n] for s in "LR" for n in ("BigToe", "SmallToe", "Heel")]
    body = [i for i in range(LEFT_HAND) if i not in feet]
    assert not moved[:, body].any() and weight[:, body].all()
    for columns in (range(LEFT_HAND, RIGHT_HAND), range(RIGHT_HAND, FACE), range(FACE, JOINT_COUNT), feet):
        error = np.linalg.norm(moved[:, list(columns)], axis=-1)
        assert 0.003 < error.mean() < 0.05
        assert 0.05 < (weight[:, list(columns)] == 0).mean() < 0.5
    hand = weight[:, LEFT_HAND:RIGHT_HAND]
    assert ((hand == 0).all(1) | (hand > 0).all(1)).all()  # a hand is lost whole
    error = np.linalg.norm(moved[:, LEFT_HAND:RIGHT_HAND], axis=-1)
    seen = hand > 0
    assert hand[seen].min() >= 0.1 and hand.max() <= 1
    order = np.argsort(error[seen])
    assert (np.diff(hand[seen][order]) <= 1e-6).all()  # the larger the error, the less it is trusted
    assert hand[seen][order][:50].mean() > 0.85 and hand[seen][order][-50:].mean() < 0.6
    lost = disturb(joints, confidence, np.random.default_rng(0), Disturbance(0.0, 0.25))[1]
    assert set(np.unique(lost)) == {0, 1}
    faint = disturb(joints, confidence * 0.07, np.random.default_rng(0), Disturbance(1.0, 0.0))[1]
    np.testing.assert_allclose(faint, 0.07)  # what is hardly seen is not taken for unseen
    same, all_there = disturb(joints, confidence, np.random.default_rng(0), Disturbance())
    assert same is joints and all_there is confidence


def test_what_learns_beside_the_avatar_is_resumed_too(footage: Path, tmp_path: Path) -> None:
    config = TrainConfig(size=64, batch=2, texture_size=16, steps=6, cameras=("cam00",), light_gain=True,
                         view_order=1, jitter=1.0, dropout=0.2, precision="full", device="cpu")  # fmt: skip
    data = read_dataset(footage)
    views = data.training_views(config.cameras)[:6]

    def trainer(folder: Path) -> tuple[Trainer, BatchSource]:
        folder.mkdir(exist_ok=True)
        avatar = new_avatar(config, [data])
        errors = Disturbance(config.jitter, config.dropout)
        framed = frame_views(avatar, [data], [views])
        source = BatchSource(framed, config.batch, 0, Augmentation(), torch.device("cpu"), errors)
        return Trainer(config, avatar.train(), source, FallbackImageLoss(), folder, source.fingerprint()), source

    straight, source = trainer(tmp_path / "a")
    for _ in range(6):
        assert straight.step()["light"] >= 0
    source.close()
    first, source = trainer(tmp_path / "b")
    for _ in range(3):
        first.step()
    first.save()
    source.close()
    from neural_avatar.training.checkpoint import read_checkpoint

    second, source = trainer(tmp_path / "b")
    checkpoint = read_checkpoint(tmp_path / "b")
    assert checkpoint is not None
    second.restore(checkpoint)
    for _ in range(3):
        second.step()
    source.close()
    assert straight.light is not None and second.light is not None
    assert straight.light.log_gains.abs().sum() > 0
    assert torch.equal(straight.light.log_gains, second.light.log_gains)
    for name, tensor in straight.export_weights().items():
        assert torch.equal(tensor, second.export_weights()[name]), name
    assert replace(config, light_gain=False) != config


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files is POSIX")
def test_a_disk_that_is_full_for_tensorboard_costs_nothing_else(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    script = """
import resource, runpy, signal, sys
from pathlib import Path
runpy.run_path(sys.argv[1])["load_package"]()
from neural_avatar.training.reporting import Log, Reporter
log = Log(Path(sys.argv[2]), 0, Reporter())
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
for step in range(60):
    log.add(step, step, {"loss": 1.0, "image": 0.1}, None)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.go_back(40)
log.add(41, 41, {"loss": 0.5}, None)
log.close()
"""
    words = [sys.executable, "-c", script, str(root / "neural_backend" / "start.py"), str(tmp_path / "log.csv")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("The log for TensorBoard could not be written") == 1
    assert [row["step"] for row in csv.DictReader((tmp_path / "log.csv").open())][-2:] == ["40", "41"]


def test_the_log_goes_to_tensorboard_too_and_forgets_what_is_done_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reporter = Reporter()
    with closing(Log(tmp_path / "log.csv", 0, reporter)) as log:
        for step in (20, 40, 60):
            log.add(step, step / 2, {"loss": step / 100, "image": 0.1, "lr": 1e-3}, 20.0 if step == 40 else None)
    with closing(Log(tmp_path / "log.csv", 40, reporter)) as log:
        log.add(60, 33.0, {"loss": 0.5, "image": 0.1, "lr": 1e-3}, None)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 3)) for e in events.Scalars("loss/total")] == [(20, 0.2), (40, 0.4), (60, 0.5)]
    assert [e.step for e in events.Scalars("preview_psnr")] == [40]
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [(row["step"], row["loss"]) for row in rows] == [("20", "0.2"), ("40", "0.4"), ("60", "0.5")]
