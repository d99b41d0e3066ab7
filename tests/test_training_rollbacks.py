# SPDX-License-Identifier: GPL-3.0-or-later
"""A loss that is no number takes a run back, and is forgiven once the run is steady."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import trainer as engine
from neural_avatar.training.batches import BatchSource
from neural_avatar.training.checkpoint import read_checkpoint
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.initialise import frame_views, new_avatar
from neural_avatar.training.losses import FallbackImageLoss
from neural_avatar.training.reporting import Log, Reporter
from neural_avatar.training.schedule import learning_rate
from neural_avatar.training.trainer import RunState, Trainer

CONFIG = TrainConfig(size=64, batch=1, texture_size=16, steps=100, cameras=("cam00",), precision="full", device="cpu")
CPU = torch.device("cpu")


def test_what_a_rollback_undoes_leaves_the_log(tmp_path: Path) -> None:
    with closing(Log(tmp_path / "log.csv", 0, Reporter(False))) as log:
        for step in (20, 40, 60):
            log.add(step, step / 10, {"loss": 1.0}, None)
        log.go_back(20)
        log.add(40, 9.0, {"loss": 0.5}, None)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [(row["step"], row["seconds"]) for row in rows] == [("20", "2.0"), ("40", "9.0")]


def test_rollbacks_are_forgiven_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STEADY", 10)
    state = RunState(step=50)

    def after(state: RunState, steps: int) -> RunState:
        for _ in range(steps):
            state = state.stepped()
        return state

    state = after(state, 5).rolled_back(RunState(step=50)).rolled_back(RunState(step=50))
    assert (state.step, state.rollbacks, state.standing, state.rate_scale) == (50, 2, 2, 0.25)
    state = after(state, 14)  # to the step that failed and nine on
    assert (state.standing, state.rate_scale) == (2, 0.25)
    state = after(state, 1)
    assert (state.step, state.standing, state.rate_scale) == (65, 1, 0.5)
    assert (after(state, 9).rate_scale, after(state, 10).rate_scale, after(state, 99).rate_scale) == (0.5, 1, 1)
    state = after(state, 2).rolled_back(RunState(step=50))  # to where nothing was forgiven yet: that is not undone
    assert (state.step, state.rollbacks, state.standing, state.rate_scale) == (50, 3, 2, 0.25)
    assert RunState(**asdict(state)) == state

    # One that gets no further is never forgiven, however many good steps there are on the way to its fault.
    farthest = after(state, 40).rolled_back(RunState(step=50))
    state = farthest
    for _ in range(4):
        state = after(state, 40).rolled_back(RunState(step=50))
    assert state.step == 50 and state.standing == farthest.standing + 4
    # What older checkpoints tell, which know nothing of it, is not held against a run for ever.
    old = RunState(step=9000, rate_scale=0.5, rollbacks=1)
    assert old.standing == 1 and after(old, 1).rate_scale == 1


class Faulty(FallbackImageLoss):
    """Is no number at the steps that ``fails`` tells."""

    fails: Callable[[], bool] = staticmethod(lambda: False)

    def forward(self, image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return super().forward(image, truth) * (float("nan") if self.fails() else 1.0)


def test_faults_far_apart_neither_slow_nor_end_a_run(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STEADY", 4)
    monkeypatch.setattr(engine, "MAX_ROLLBACKS", 2)
    data = read_dataset(footage)

    def trainer(folder: Path, faults: Sequence[int]) -> tuple[Trainer, BatchSource]:
        """At each of the faults' steps the loss is once no number."""
        avatar = new_avatar(CONFIG, [data]).train()
        shots = frame_views(avatar, [data], [data.training_views(CONFIG.cameras)[:4]])
        source, loss = BatchSource(shots, 1, 0, Augmentation(), CPU), Faulty()
        folder.mkdir(exist_ok=True)
        made = Trainer(CONFIG, avatar, source, loss, folder, source.fingerprint())
        loss.fails = lambda: made.state.rollbacks < len(faults) and made.state.step == faults[made.state.rollbacks]
        return made, source

    def go(trainer: Trainer, until: int) -> None:
        while trainer.state.step < until:
            if trainer.step() and trainer.state.step % 5 == 0:
                trainer.save()

    faults, end = (7, 12, 18), 23
    straight, source = trainer(tmp_path / "straight", faults)
    with closing(source):
        straight.save()
        go(straight, 13)
        assert (straight.state.rollbacks, straight.state.rate_scale) == (2, 0.5)
        go(straight, end)
        assert (straight.state.rollbacks, straight.state.standing) == (3, 0)
        assert straight.step()["lr"] == pytest.approx(learning_rate(end, end / CONFIG.steps) * CONFIG.lr)
    first, source = trainer(tmp_path / "parts", faults)
    with closing(source):
        first.save()
        go(first, 10)
    found = read_checkpoint(tmp_path / "parts")
    assert found is not None and first.state.standing == 1  # it stops between a rollback and its forgiveness
    second, source = trainer(tmp_path / "parts", faults)
    with closing(source):
        second.restore(found)
        go(second, end)
        second.step()
    assert replace(second.state, elapsed=0) == replace(straight.state, elapsed=0)
    for name, tensor in straight.export_weights().items():
        assert torch.equal(tensor, second.export_weights()[name]), name

    # From the newest checkpoint, though all in it is finite, nothing leads on.
    stuck, source = trainer(tmp_path / "stuck", ())
    been: list[int] = []

    def fails() -> bool:
        been.append(stuck.state.step)
        return stuck.state.step == 10 and 5 not in been[been.index(10) :]

    loss = stuck._objective._image_loss
    assert isinstance(loss, Faulty)
    loss.fails = fails
    with closing(source):
        stuck.save()
        go(stuck, 12)
    assert stuck.state.step == 12 and stuck.state.rollbacks == 2

    close, source = trainer(tmp_path / "close", (7, 8, 9))
    with closing(source), pytest.raises(BackendError, match="try a lower --lr"):
        close.save()
        go(close, end)
