# SPDX-License-Identifier: GPL-3.0-or-later
"""Several devices at one clip: a process for each, handed a few frames at a time, so that a fast one draws more.

A device that fails takes nothing with it: the frames that it was handed go to the others.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, cast

from .interface.messages import BackendError
from .render_clip import ClipJob

_PROGRAM = Path(__file__).resolve().parents[1] / "__main__.py"
#: Errors that are no device's own: nobody else would fare better.
_COMMON = ("write-failed", "package-missing", "clip-corrupt", "clip-missing", "avatar-corrupt", "avatar-missing",
           "avatar-newer", "avatar-skeleton")  # fmt: skip
#: Seconds that a worker is given to finish what it is drawing.
_PATIENCE = 60.0
#: Seconds without a word from a worker that has something to do, until it counts as hung: far more than the start, or a
#: batch of the largest frames, takes on a slow machine.
_SILENCE = 1800.0
#: Seconds between two looks for workers that are hung.
_LOOK = 1.0


class _Worker:
    """A process on one device. Its messages go into the inbox as (worker, message), and at its end (worker, None)."""

    def __init__(
        self, job: ClipJob, device: str, inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
    ) -> None:
        self.device, self.handed, self.batch = device, set[int](), 1
        self.error, self.ready, self.heard = "", False, time.monotonic()
        self._dismissed = False
        form = job.form
        options = ["--format", form.kind, "--device", device, "--png-compression", str(form.compression)]
        options += ["--passes", ",".join(form.passes)] if form.passes else []
        options += ["--float"] if form.full else []
        options += ["--batch", str(job.batch)] if job.batch else []
        command = [sys.executable, str(_PROGRAM), "render", str(job.avatar), str(job.clip), "-o", str(job.folder)]
        self._process = subprocess.Popen(
            [*command, *options, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._inbox = inbox
        self._reader = threading.Thread(target=self._read, name=f"worker-{device}", daemon=True)
        self._reader.start()

    def hand(self, indices: Sequence[int]) -> None:
        """Give frames to draw."""
        if not self.handed:
            self.heard = time.monotonic()
        self.handed.update(indices)
        # A process that has died is noticed by the end of its messages.
        with contextlib.suppress(OSError):
            pipe = cast(IO[str], self._process.stdin)
            pipe.write(json.dumps(list(indices)) + "\n")
            pipe.flush()

    @property
    def hangs(self) -> bool:
        """Has it been silent for too long, though it is starting, or has frames to draw?"""
        return (bool(self.handed) or not self.ready) and time.monotonic() - self.heard > _SILENCE

    def kill(self, why: str) -> None:
        """End it without asking. A process that waits for its GPU's driver may outlive even that."""
        self.error = self.error or why
        self._process.kill()

    def close(self) -> None:
        """Nothing more is to come: finish what was handed, and end."""
        with contextlib.suppress(OSError):
            cast(IO[str], self._process.stdin).close()

    def end(self) -> None:
        """Make sure that it is gone."""
        self.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._dismissed = True  # it has drawn all that it was to draw: being slow to go is no failure
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)

    def _read(self) -> None:
        for line in cast(IO[str], self._process.stdout):
            # A library may print something of its own.
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._inbox.put((self, message))
        code = self._process.wait()
        if code and not self._dismissed:
            self.error = self.error or f"its process ended with code {code}"
        self._inbox.put((self, None))


def render_on_devices(
    job: ClipJob,
    devices: Sequence[str],
    todo: Sequence[int],
    finished: Callable[[int], None],
    say: Callable[[str], None],
) -> None:
    """Render the frames ``todo`` (indices) on all devices at once; ``finished`` is called with each that is written.

    say: takes a sentence about a device that has failed. Raises BackendError 'write-failed' and other errors that are
    no device's own, and 'devices-failed' when none is left; what is finished by then is whole.
    """
    inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = queue.SimpleQueue()
    waiting, left = deque(todo), len(todo)
    workers = [_Worker(job, device, inbox) for device in devices]
    living = set(workers)
    try:
        while left:
            worker, message = _next(inbox, living)
            if worker not in living:  # what it was handed has gone to others
                continue
            worker.heard = time.monotonic()
            if message is None:
                living.discard(worker)
                waiting.extendleft(sorted(worker.handed, reverse=True))
                worker.handed.clear()
                if not living:
                    raise BackendError(
                        "devices-failed",
                        f"No device is left; {left} frames are still to be drawn. The last one, {worker.device}: "
                        f"{worker.error or 'its process ended'}.",
                    )
                _give_up(worker, say)
            elif "error" in message:
                code, worker.error = message["error"]
                if code in _COMMON:
                    raise BackendError(code, worker.error)
            elif "ready" in message:
                worker.ready = True
                worker.batch = int(message["batch"])
            elif "finished" in message and message["finished"] in worker.handed:
                worker.handed.discard(message["finished"])
                left -= 1
                finished(message["finished"])
            for one in (w for w in workers if w in living and w.ready):
                # Two groups: the second is there when the first is drawn.
                while waiting and len(one.handed) <= one.batch:
                    one.hand([waiting.popleft() for _ in range(min(one.batch, len(waiting)))])
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.end()
    # One that failed while the others drew the last frames is told of, too.
    while not inbox.empty():
        worker, message = inbox.get()
        if message is not None and "error" in message:
            worker.error = message["error"][1]
    for worker in workers:
        if worker in living and worker.error:
            _give_up(worker, say)


def _next(
    inbox: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]], living: set[_Worker]
) -> tuple[_Worker, dict[str, Any] | None]:
    """The next message; as if it had ended, one that hangs."""
    while True:
        with contextlib.suppress(queue.Empty):
            return inbox.get(timeout=_LOOK)
        for worker in living:
            if worker.hangs:
                worker.kill(f"it has been silent for {_SILENCE / 60:.0f} minutes, and was stopped")
                return worker, None


def _give_up(worker: _Worker, say: Callable[[str], None]) -> None:
    say(f"Device {worker.device} is given up, the others go on: {worker.error or 'its process ended'}")
