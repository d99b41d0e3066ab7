# SPDX-License-Identifier: GPL-3.0-or-later
"""Making what a step will need while earlier steps compute, so that the device never waits for data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

#: Threads that cut crops for a GPU at most. Pictures are resampled without holding Python's lock.
MOST_WORKERS = 8

#: A function and its arguments; what it returns must depend on these alone.
Call = tuple[Any, ...]


def workers_for(device: torch.device) -> int:
    """How many threads make batches for a device: one where the CPU itself trains, for a GPU what its share of the
    cores allows."""
    if device.type != "cuda":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1))


class Prefetch:
    """Answers calls, most of which were foretold and are already made. Never more than ``workers`` + 1 wait."""

    def __init__(self, workers: int, begin: Callable[[], None] | None = None) -> None:
        self._pool = ThreadPoolExecutor(workers, "batches", initializer=begin)
        self._made: dict[Call, Future[Any]] = {}
        self.depth = workers
        self._waited, self._since = 0.0, time.perf_counter()

    def get(self, call: Call, next_calls: Sequence[Call]) -> Any:
        """What ``call`` returns; from now on the next ones are made. Raises what it raises."""
        wanted = (call, *next_calls)
        for other in [c for c in self._made if c not in wanted]:
            self._made.pop(other).cancel()
        for other in wanted:
            if other not in self._made:
                self._made[other] = self._pool.submit(other[0], *other[1:])
        start = time.perf_counter()
        try:
            return self._made.pop(call).result()
        finally:
            self._waited += time.perf_counter() - start

    def waiting(self) -> float:
        """The share of the time since this was last asked that callers have waited."""
        now = time.perf_counter()
        share = self._waited / max(now - self._since, 1e-9)
        self._waited, self._since = 0.0, now
        return share

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
