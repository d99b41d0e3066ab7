# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading ahead: frames are decoded in a thread while the last one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread

from .video import Frame


def ahead(frames: Iterator[Frame], depth: int = 4) -> Iterator[Frame]:
    """The same frames, and the same error if one ends them; at most ``depth`` wait in memory."""
    queue: Queue[Frame | BaseException | None] = Queue(depth)
    stopped = Event()

    def hand_over(item: Frame | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return queue.put(item, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for frame in frames:
                hand_over(frame)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again where the frames are used
            hand_over(error)
        else:
            hand_over(None)

    thread = Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while isinstance(item := queue.get(), Frame):
            yield item
        if item is not None:
            raise item
    finally:
        stopped.set()
        while not queue.empty():
            try:
                queue.get_nowait()
            except Empty:
                break
        thread.join()
