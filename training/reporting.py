# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run tells: sentences and a progress bar on stderr, and a log of its losses."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..neural_backend.interface.files import whole
from .tensorboard import Board

if TYPE_CHECKING:
    from .trainer import Trainer

_FIELDS = ("step", "seconds", "lr", "loss", "image", "mask", "smooth", "light", "coordinates", "parts", "surface",
           "sides", "temporal", "adversarial", "features", "discriminator", "waiting", "preview_psnr")  # fmt: skip


class Bar:
    """The progress bar of training, in steps or in seconds of the budget, with the loss averaged over recent steps."""

    def __init__(self, bar: tqdm[None]) -> None:
        self._bar, self._loss = bar, float("nan")

    def update(self, trainer: Trainer, loss: float) -> None:
        """Move to where the trainer stands."""
        self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
        self._bar.set_postfix_str(f"step {trainer.state.step}, loss {self._loss:.4f}", refresh=False)
        done = trainer.state.step if trainer.budget.kind == "steps" else int(trainer.progress * trainer.budget.amount)
        self._bar.update(done - self._bar.n)


class Reporter:
    """Speaks on stderr; on a terminal bars are drawn often, elsewhere (a log file) seldom.

    speaks: False in all processes of a run but the first.
    """

    def __init__(self, speaks: bool = True) -> None:
        self._speaks = speaks
        self._failing: set[str] = set()
        self._interval = 0.1 if sys.stderr.isatty() else 30.0

    def say(self, sentence: str) -> None:
        """Print a sentence without tearing a bar apart."""
        if self._speaks:
            tqdm.write(sentence, file=sys.stderr)

    def progress(self, title: str, unit: str = "it") -> Callable[[int, int], None]:
        """A bar for a stage that reports (done, total). unit: 'B' for bytes."""
        bar: tqdm[None] = tqdm(
            desc=title, total=1, leave=False, mininterval=self._interval, unit=unit, unit_scale=unit == "B",
            disable=not self._speaks,
        )  # fmt: skip

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if done >= total:
                bar.close()

        return report

    @contextmanager
    def side_product(self, name: str) -> Iterator[None]:
        """What cannot be written here (on a full disk, say) is told once, and the run goes on without it."""
        try:
            yield
        except OSError as error:
            if name not in self._failing:
                self.say(f"The {name} could not be written ({error.strerror or error}); training goes on without it.")
            self._failing.add(name)
        else:
            self._failing.discard(name)

    @contextmanager
    def training(self, trainer: Trainer) -> Iterator[Bar]:
        """The bar of a training run, with the time left."""
        steps = trainer.budget.kind == "steps"
        total, unit = int(trainer.budget.amount), "step" if steps else "s"
        done = trainer.state.step if steps else int(trainer.progress * total)
        with tqdm(total=total, initial=done, unit=unit, desc="Training", mininterval=self._interval,
                  disable=not self._speaks) as bar:  # fmt: skip
            yield Bar(bar)


class Log:
    """A run's log.csv, and its TensorBoard curves where that is installed. What lies beyond the step at which a run
    resumes or to which it rolls back is dropped: those steps are done again."""

    def __init__(self, path: Path, step: int, reporter: Reporter) -> None:
        self._path, self._reporter = path, reporter
        self._board: Board | None = None
        self.go_back(step)

    def go_back(self, step: int) -> None:
        """Drop what lies beyond a step, and go on from there."""
        self.close()
        with self._reporter.side_product("log"):
            self._begin(step)
        with self._reporter.side_product("log for TensorBoard"):
            self._board = Board(self._path.parent, step)

    def _begin(self, step: int) -> None:
        kept: list[dict[str, str]] = []
        if self._path.exists() and step:
            with self._path.open(newline="", encoding="utf-8") as file:
                kept = [
                    row
                    for row in csv.DictReader(file)
                    if (row.get("step") or "").isdigit() and int(row["step"]) <= step
                ]
        with whole(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _FIELDS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, step: int, seconds: float, values: dict[str, float], preview_psnr: float | None) -> None:
        """Add a line."""
        row = {"step": step, "seconds": f"{seconds:.1f}", **{k: f"{v:.6g}" for k, v in values.items()}}
        if preview_psnr is not None:
            row["preview_psnr"] = f"{preview_psnr:.3f}"
        with self._reporter.side_product("log"), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, _FIELDS, restval="", extrasaction="ignore").writerow(row)
        board, self._board = self._board, None
        if board is not None:
            with self._reporter.side_product("log for TensorBoard"):
                board.add(step, values if preview_psnr is None else {**values, "preview_psnr": preview_psnr})
                self._board = board  # one that has failed once never writes again

    def close(self) -> None:
        """End the files."""
        board, self._board = self._board, None
        if board is not None:
            with self._reporter.side_product("log for TensorBoard"):
                board.close()
