# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendering a clip into a folder of frames: the device draws while threads encode and write what it has drawn."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clip import Clip
from .frame_files import FrameFormat, Stamps
from .interface.messages import BackendError

if TYPE_CHECKING:
    from .clip_drawing import ClipDrawer

#: Threads that encode and write. Compression lets go of Python's lock, so they run beside the device's.
_WRITERS = min(4, os.cpu_count() or 1)
#: Frames that may wait for a writer before drawing waits for them: what bounds the memory.
_WAITING = 3 * _WRITERS
#: Seconds between two looks at what is written, while there is nothing to draw.
_LOOK = 0.05


@dataclass(frozen=True)
class ClipJob:
    """What is rendered where. avatar, clip: files. folder: of the frames. batch: bodies at a time, None for what suits
    the device."""

    avatar: Path
    clip: Path
    folder: Path
    form: FrameFormat
    batch: int | None = None


def drawer_of(job: ClipJob, clip: Clip, device: str) -> ClipDrawer:
    """The drawer of a job; imports torch. Raises BackendError as ClipDrawer does."""
    from .clip_drawing import ClipDrawer

    return ClipDrawer(str(job.avatar), clip, device, job.form.planes, job.batch)


def render_frames(
    job: ClipJob, clip: Clip, drawer: ClipDrawer, groups: Iterable[Sequence[int]], finished: Callable[[int], None]
) -> None:
    """Render the frames of ``groups`` (indices, counted from 0; an empty group is a chance to look at what is written);
    ``finished`` is called with each that is written, in order, from the calling thread.

    Whatever is raised in the middle, the frames that were drawn by then are written. Raises BackendError 'write-failed'
    and those of drawing.
    """
    stamps = Stamps(job.avatar, clip, job.form)
    waiting: deque[tuple[int, Future[None]]] = deque()

    def collect(until: int) -> None:
        while len(waiting) > until or (waiting and waiting[0][1].done()):
            index, written = waiting.popleft()
            written.result()
            finished(index)

    with ThreadPoolExecutor(_WRITERS, "writer") as writers:
        try:
            for group in groups:
                for index, drawn in drawer.draw(group):
                    path = job.form.path(job.folder, clip.numbers[index])
                    waiting.append((index, writers.submit(job.form.write, path, drawn, stamps[index])))
                    collect(_WAITING)
                collect(_WAITING)
            collect(0)
        except KeyboardInterrupt:
            collect(0)
            raise


def serve(job: ClipJob, clip: Clip, device: str) -> int:
    """One worker of several (see clip_workers): reads lists of indices from stdin, a JSON line each, until it ends, and
    says on stdout, in JSON lines, {"ready": name, "batch": n}, {"finished": index} and {"error": [code, message]}."""
    import signal

    # Ctrl-C in a terminal reaches all processes: what it means is for the first one to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def tell(**what: Any) -> None:
        print(json.dumps(what), flush=True)

    try:
        drawer = drawer_of(job, clip, device)
        tell(ready=drawer.device_name, batch=drawer.batch)
        render_frames(job, clip, drawer, _handed(), lambda index: tell(finished=index))
    except BackendError as error:
        tell(error=[error.code, error.message])
        return 1
    except BrokenPipeError:  # the first process is gone
        return 1
    except Exception as error:
        tell(error=["internal", f"{type(error).__name__}: {error}"])
        return 1
    return 0


def _handed() -> Iterator[list[int]]:
    """The lists on stdin; empty ones while there is nothing, so that what is written is reported all the same."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        while line := sys.stdin.readline():
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, name="handed", daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=_LOOK)
        except queue.Empty:
            yield []
            continue
        if not line:
            return
        yield json.loads(line)
