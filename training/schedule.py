# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a run has come, and the learning rate that belongs to it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from .config import DEFAULT_MINUTES, TrainConfig

#: Steps over which the learning rate rises at the start, so that Adam's moments settle.
WARM_UP = 50
#: The share of the learning rate that is left at the end.
FINAL_RATE = 0.03


#: The share of the learning rate at which a network from another avatar is fine-tuned.
FINE_TUNING = 1 / 3


@dataclass(frozen=True)
class Budget:
    """How long a run lasts. kind: 'steps', 'minutes' (wall clock) or 'cpu-minutes'; amount: in steps or seconds."""

    kind: str
    amount: float

    @staticmethod
    def of(config: TrainConfig) -> Budget:
        """The budget that the configuration asks for."""
        if config.steps:
            return Budget("steps", config.steps)
        if config.cpu_minutes:
            return Budget("cpu-minutes", config.cpu_minutes * 60)
        return Budget("minutes", (config.minutes or DEFAULT_MINUTES) * 60)

    def progress(self, step: int, elapsed: float) -> float:
        """The share of the run that is done, in 0..1. elapsed: seconds on this budget's clock."""
        return min(1.0, (step if self.kind == "steps" else elapsed) / self.amount)


class Stopwatch:
    """Seconds since a run began, across resumes: of the wall clock since ``began`` (time.monotonic), or of CPU time
    since the start of this process. Fitting the proxy and averaging textures count, so that nothing is free."""

    def __init__(self, kind: str, began: float, carried: float = 0.0) -> None:
        self._now = time.process_time if kind == "cpu-minutes" else time.monotonic
        self._start = 0.0 if kind == "cpu-minutes" else began
        self._carried = carried

    @property
    def elapsed(self) -> float:
        """Seconds, those before a resume included."""
        return self._carried + self._now() - self._start


def network_rate(config: TrainConfig) -> float:
    """The network's learning rate.

    A network from another avatar (see TrainConfig.init_from) knows how poses map to texture coordinates, which differs
    little between people (paper section 3, Initialization): it is moved more gently, so that what much footage taught
    it is not lost to little. Its textures are averaged anew and know as little as anybody's, so they learn at the full
    rate, and so does a network that holds the person's colours itself. The warm-up stays: without it Adam's first
    steps, whose moments are not settled, would undo what was taken.
    """
    return config.lr * (FINE_TUNING if config.init_from and config.kind.textures else 1.0)


def learning_rate(step: int, progress: float) -> float:
    """The factor on the learning rate: a short rise, then half a cosine down to FINAL_RATE."""
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return min(1.0, (step + 1) / WARM_UP) * (FINAL_RATE + (1 - FINAL_RATE) * cosine)
