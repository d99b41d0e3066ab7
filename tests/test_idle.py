# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory is given back when nothing is asked, and nothing waits when nothing is held."""

from __future__ import annotations

import threading

from neural_avatar.addon.idle import IdleWatch


def test_steps_come_in_order_once_and_again_after_a_touch() -> None:
    called: list[str] = []
    unloaded, stopped = threading.Event(), threading.Event()

    def unload() -> None:
        called.append("unload")
        unloaded.set()

    def stop() -> None:
        called.append("stop")
        stopped.set()

    watch = IdleWatch(lambda: False)
    steps = ((0.1, stop), (0.05, unload), (0.0, lambda: called.append("never")))
    for _ in range(2):
        watch.touch(steps)
        assert unloaded.wait(10) and stopped.wait(10)
        thread = watch._thread
        if thread is not None:
            thread.join(10)
        assert watch._thread is None, "a thread waits although nothing is held"
        unloaded.clear(), stopped.clear()
    assert called == ["unload", "stop"] * 2


def test_time_does_not_count_while_a_frame_is_drawn() -> None:
    asked, called, busy = threading.Event(), threading.Event(), True

    def is_busy() -> bool:
        asked.set()
        return busy

    watch = IdleWatch(is_busy)
    watch.touch([(0.02, called.set)])
    for _ in range(5):
        assert asked.wait(10)
        asked.clear()
        assert not called.is_set()
    busy = False
    assert called.wait(10)


def test_a_shorter_time_holds_at_once() -> None:
    asked, called = threading.Event(), threading.Event()

    def is_busy() -> bool:
        asked.set()
        return False

    watch = IdleWatch(is_busy)
    watch.touch([(3600.0, called.set)])
    assert asked.wait(10)
    watch.touch([(0.01, called.set)])
    assert called.wait(10)


def test_an_end_calls_nothing_more() -> None:
    called: list[int] = []
    watch = IdleWatch(lambda: False)
    watch.touch([(3600.0, lambda: called.append(1))])
    thread = watch._thread
    assert thread is not None
    watch.end()
    thread.join(10)
    assert not thread.is_alive()
    watch.touch([(0.01, lambda: called.append(2))])
    assert watch._thread is None and called == []
