# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole training run: dataset folders in, an .avatar file out; interrupted and resumed as often as need be."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

from ..neural_backend.interface.messages import BackendError
from . import parallel
from .config import TrainConfig
from .devices import enough_memory
from .export import Labels, export
from .interrupt import Interrupt
from .prepare import Run, fill, prepare
from .preview import LOOKS
from .reporting import Log, Reporter
from .run_folder import begin_in, run_folder
from .surfaces import PredictedSurfaces
from .trainer import Trainer

#: Steps between two lines of the log.
LOG_EVERY = 20


def train(
    paths: Sequence[Path], output: Path, config: TrainConfig, labels: Labels | None = None, restart: bool = False
) -> int:
    """Train an avatar, or go on where an earlier run with the same options stopped. Returns 0, or 130 when interrupted.

    Raises BackendError with a sentence for everything that the user can mend.
    """
    began, folder, labels = time.monotonic(), run_folder(output), labels or Labels()
    with Interrupt() as interrupt, enough_memory():
        with parallel.joined(config.device, config.batch) as device, ExitStack() as ending:
            main, reporter = parallel.is_main(), Reporter(parallel.is_main())
            with parallel.agreed():
                if main and output.is_dir():  # before hours of training, not after
                    raise BackendError(
                        "train-output", f"{output} is a folder; name a file with -o, {output}.avatar for example."
                    )
            with begin_in(folder, paths, restart):
                run = prepare(paths, folder, config, device, reporter, interrupt, began)
                ending.callback(run.source.close)
                _rehearse(run.trainer)
            trainer = run.trainer
            spent = trainer.progress >= 1 or not config.kind.network
            if trainer.state.finished and spent and _exists(output):
                reporter.say(f"{output} is finished; raise the budget to train on, or give --restart to start over.")
                return 0
            done = not config.kind.network or _loop(run, reporter, interrupt)
            if done and config.kind.network and not trainer.state.step:
                reporter.say("The budget was spent before the first step, so nothing has been learned: give more.")
            with parallel.agreed():
                if main and not done:
                    trainer.save()
                elif main:
                    _keep(trainer.save, reporter)  # before anything else that may fail
        if not done:
            reporter.say(f"Stopped at step {trainer.state.step}; the same command resumes it.")
            return 130
        if not main:
            return 0  # what is left to do is done by one
        score = trainer.with_export_weights(lambda a: run.preview.look(a, trainer.state.step))
        trainer.with_export_weights(
            lambda a: export(a, trainer, output, labels, run.datasets, run.shots, score, reporter)
        )
        _keep(trainer.finish, reporter)
    reporter.say(f"Wrote {output} ({output.stat().st_size / 2**20:.1f} MiB) after {trainer.state.step} steps.")
    return 0


def _exists(output: Path) -> bool:
    """Whether the first process has that file."""
    return bool(parallel.from_main(lambda: b"yes" if output.exists() else b""))


def _rehearse(trainer: Trainer) -> None:
    """See that the run can go on: that a GPU's memory suffices, and that a checkpoint can be written."""
    if trainer.avatar.generator is not None and trainer.avatar.proxy_params.device.type == "cuda":
        trainer.rehearse()
    with parallel.agreed():
        if parallel.is_main() and not trainer.state.step and not trainer.state.finished:
            trainer.save()


def _loop(run: Run, reporter: Reporter, interrupt: Interrupt) -> bool:
    """Step until the budget is spent; False when interrupted."""
    trainer, preview, main = run.trainer, run.preview, parallel.is_main()
    log = Log(trainer.folder / "log.csv", trainer.state.step, reporter) if main else None

    def average() -> None:
        surfaces = PredictedSurfaces(trainer.avatar, run.shots)
        facts = fill(trainer.config, trainer.avatar, run.shots, surfaces, trainer.folder, reporter)
        trainer.facts.update(facts)

    saved = time.monotonic()
    looks = [share for share in LOOKS if share > trainer.progress or not trainer.state.step]
    with closing(log) if log else nullcontext(), reporter.training(trainer) as bar:
        while trainer.goes_on(interrupt.asked):
            if trainer.pretrained:
                trainer.set_free(average)
            score = None
            if looks and trainer.progress >= looks[0]:
                looks = [share for share in looks if share > trainer.progress]
                if main:
                    score = trainer.with_export_weights(lambda a: preview.look(a, trainer.state.step))
            values = trainer.step()
            if not values:
                reporter.say(f"The loss was not a number: back to step {trainer.state.step}, at half the rate.")
                if log:
                    log.go_back(trainer.state.step)
                continue
            bar.update(trainer, values["loss"])
            if log and (trainer.state.step % LOG_EVERY == 0 or score is not None):
                log.add(trainer.state.step, trainer.elapsed, {**values, "waiting": run.source.waiting()}, score)
            if main and time.monotonic() - saved > trainer.config.checkpoint_minutes * 60:
                _keep(trainer.save, reporter)
                saved = time.monotonic()
    return trainer.progress >= 1


def _keep(save: Callable[[], None], reporter: Reporter) -> None:
    """Write a checkpoint; where that fails, say so and go on: the next may find space again."""
    try:
        save()
    except BackendError as error:
        reporter.say(error.message)
