# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames and requests across the border between the processes, with real ones: planes, memory, order, cancelling."""

from __future__ import annotations

import errno
import gc
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.client import BackendSession
from neural_avatar.neural_backend.interface.frames import MAX_BUFFERS, FrameBuffer, FramePool
from neural_avatar.neural_backend.interface.messages import PROTOCOL, BackendError
from support.border import LIMIT, ask, begun, code_of, until

# Frames of a test lie in a folder of its own.
pytestmark = pytest.mark.usefixtures("frames_folder")


def test_a_frame_crosses_with_its_planes_and_facts(session: BackendSession, tmp_path: Path) -> None:
    with session.request(ask(tmp_path / "marks", value=2.0), "final").wait(LIMIT) as frame:
        assert {name: plane.shape for name, plane in frame.planes.items()} == {
            "color": (16, 32, 4), "depth": (16, 32, 1), "mask": (16, 32, 1), "part": (16, 32, 1), "uv": (16, 32, 3),
        }  # fmt: skip
        assert [float(plane.min()) for plane in frame.planes.values()] == [2, 3, 4, 5, 6]
        assert [float(plane.max()) for plane in frame.planes.values()] == [2, 3, 4, 5, 6]
        assert all(plane.dtype == np.float32 and plane.ctypes.data % 64 == 0 for plane in frame.planes.values())
        assert frame.warnings == ("a warning",) and frame.seconds == {"draw": 0.5}
    assert session.info["protocol"] == PROTOCOL and session.info["device"] == "pattern" and session.is_ready


def test_what_libraries_print_goes_to_the_log(session: BackendSession, tmp_path: Path) -> None:
    for value in range(20):
        with session.request(ask(tmp_path / "marks", value=value), "final").wait(LIMIT) as frame:
            assert frame.planes["mask"][0, 0, 0] == value + 2
    session.stop()
    log = session.log_path.read_text()
    for words in ("python code prints to stdout", "C code prints to stdout", "noise in the guise of a message"):
        assert words in log


def test_a_flood_of_errors_holds_nothing_up_and_the_log_stays_small(session: BackendSession, tmp_path: Path) -> None:
    for _ in range(3):
        session.request(ask(tmp_path / "marks", "flood"), "final").wait(LIMIT).release()
    session.stop()
    files = list(session.log_path.parent.iterdir())
    assert len(files) == 2 and all(f.stat().st_size < 3 << 20 for f in files)


def test_memory_is_used_again_and_follows_the_resolution(session: BackendSession, tmp_path: Path) -> None:
    addresses = set()
    for i in range(50):
        with session.request(ask(tmp_path / "marks", value=i), "final").wait(LIMIT) as frame:
            assert frame.planes["color"][3, 3, 3] == i
            addresses.add(frame.planes["color"].ctypes.data)
    assert len(addresses) == 1
    for width, height in ((400, 300), (1, 1), (1000, 700), (32, 16)):
        with session.request(ask(tmp_path / "marks", value=7, width=width, height=height), "final").wait(
            LIMIT
        ) as frame:
            assert frame.planes["uv"].shape == (height, width, 3) and (frame.planes["uv"] == 11).all()


def test_frames_that_grow_take_few_buffers(frames_folder: Path) -> None:
    """A person who walks towards the camera."""
    said: list[dict[str, object]] = []
    pool = FramePool(said.append)
    for size in range(2 << 20, 12 << 20, 100_000):
        number = pool.take("final", size)
        assert size <= pool.buffer(number).capacity <= 2 * size
        pool.give_back(number)
    made = [message["capacity"] for message in said if message["type"] == "map"]
    assert len(made) <= 6 and len(made) == 1 + sum(message["type"] == "unmap" for message in said)
    pool.close()


def test_a_frame_for_which_there_is_just_room_has_just_that(
    frames_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, capacity: int) -> FrameBuffer:
        if capacity > 5_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return genuine(path, capacity)

    genuine = FrameBuffer.create
    monkeypatch.setattr(FrameBuffer, "create", staticmethod(full))
    pool = FramePool(lambda message: None)
    assert pool.buffer(pool.take("final", 5_000_000)).capacity == 5_000_000
    assert code_of(lambda: pool.take("final", 5_000_001)) == "no-space"
    pool.close()


def test_a_name_that_stays_with_its_mapping_goes_after_it(frames_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows no file can be removed while either side has it mapped."""
    mapped: set[Path] = set()

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path in mapped:
            raise PermissionError(errno.EACCES, "in use", str(path))
        genuine(path, missing_ok)

    genuine = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr("neural_avatar.neural_backend.interface.frames.NAMES_STAY", True)
    pool = FramePool(lambda message: None)

    def frames() -> set[Path]:
        return set(frames_folder.glob("*/frame-*"))

    first = pool.take("final", 2 << 20)
    mapped |= frames()
    pool.give_back(first)
    pool.give_back(pool.take("final", 40 << 20))
    assert len(frames()) == 2, "the backend may still have it mapped"
    mapped.clear()
    pool.give_back(pool.take("final", 40 << 20))
    assert frames() == {pool.buffer(2).path}
    pool.close()
    assert list(frames_folder.iterdir()) == []


def test_only_the_planes_asked_for_are_sent(session: BackendSession, tmp_path: Path) -> None:
    with session.request(ask(tmp_path / "marks", planes=("mask", "color")), "final").wait(LIMIT) as frame:
        assert list(frame.planes) == ["mask", "color"] and (frame.planes["color"] == 2).all()


def test_a_frame_being_read_is_never_written(session: BackendSession, tmp_path: Path) -> None:
    held = session.request(ask(tmp_path / "marks", value=1), "view", interactive=True).wait(LIMIT)
    for i in range(2, 12):
        session.request(ask(tmp_path / "marks", value=i), "view", interactive=True).wait(LIMIT).release()
        assert (held.planes["color"] == 1).all()
    held.release()
    held.release()


def test_frames_never_released_are_reported(session: BackendSession, tmp_path: Path) -> None:
    held = [session.request(ask(tmp_path / "marks", value=i), "final").wait(LIMIT) for i in range(MAX_BUFFERS)]
    assert [float(f.planes["color"][0, 0, 0]) for f in held] == list(range(MAX_BUFFERS))
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final")) == "frames-held"
    session.request(ask(tmp_path / "marks"), "another").wait(LIMIT).release()
    held[0].release()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


def test_forgotten_requests_give_their_memory_back(session: BackendSession, tmp_path: Path) -> None:
    for _ in range(3 * MAX_BUFFERS):
        pending = session.request(ask(tmp_path / "marks"), "final")
        until(pending.poll, "a frame that nobody fetches")
        del pending


def test_cancel_is_immediate_and_reaches_the_renderer(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    pending = session.request(ask(marks, "hold"), "final")
    assert code_of(lambda: pending.wait(LIMIT, should_cancel=begun(marks, "hold"))) == "cancelled"
    with session.request(ask(marks, value=3), "final").wait(LIMIT) as frame:  # comes only when the held one is over
        assert (frame.planes["color"] == 3).all()


def test_a_queued_request_is_cancelled_too(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    first = session.request(ask(marks, "hold"), "final")
    until(begun(marks, "hold"), "the first frame")
    queued = session.request(ask(marks, "raise"), "final")
    queued.cancel()
    assert code_of(queued.wait) == "cancelled"
    first.cancel()
    session.request(ask(marks), "final").wait(LIMIT).release()
    assert "raise begun" not in marks.read_text()


def test_the_latest_interactive_request_wins_and_finals_are_all_drawn(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    held = session.request(ask(marks, "hold"), "held")
    until(begun(marks, "hold"), "a frame that all others wait for")
    finals = [session.request(ask(marks, f"final{i}", value=i), "final") for i in range(4)]
    stale = [session.request(ask(marks, f"stale{i}", value=50), "view", interactive=True) for i in range(20)]
    other = session.request(ask(marks, "other", value=70), "view2", interactive=True)
    newest = session.request(ask(marks, "newest", value=60), "view", interactive=True)
    held.cancel()
    with newest.wait(LIMIT) as frame:
        assert (frame.planes["color"] == 60).all()
    with other.wait(LIMIT) as frame:
        assert (frame.planes["color"] == 70).all()
    for i, pending in enumerate(finals):
        with pending.wait(LIMIT) as frame:
            assert (frame.planes["color"] == i).all()
    assert [code_of(p.wait) for p in stale] == ["superseded"] * 20
    assert "newest begun" in marks.read_text() and "stale" not in marks.read_text()


def test_a_growing_view_wins_over_smaller_frames(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    small = session.request(ask(marks, "hold"), "view", interactive=True)
    until(begun(marks, "hold"), "the small frame")
    for size in (64, 300, 20, 500):
        newest = session.request(ask(marks, value=size, width=size, height=size), "view", interactive=True)
    with newest.wait(LIMIT) as frame:
        assert frame.planes["color"].shape == (500, 500, 4) and (frame.planes["color"] == 500).all()
    assert code_of(small.wait) == "superseded"  # while it was being drawn


def test_a_renderers_fault_is_an_error_and_the_next_frame_works(session: BackendSession, tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        session.request(ask(tmp_path / "marks", "raise"), "final").wait(LIMIT)
    assert caught.value.code == "internal" and "a fault in the renderer" in caught.value.message
    assert "Traceback" in caught.value.details
    pid = session.wait_until_ready()["pid"]
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    assert session.wait_until_ready()["pid"] == pid


def test_absent_joints_may_hold_anything(session: BackendSession, tmp_path: Path) -> None:
    request = ask(tmp_path / "marks", value=6)
    request.avatars[0].joints[4:] = np.nan
    request.avatars[0].confidence[4:] = 0
    with session.request(request, "final").wait(LIMIT) as frame:
        assert (frame.planes["color"] == 6).all()


def test_too_large_a_frame_is_refused_before_memory_is_taken(session: BackendSession, tmp_path: Path) -> None:
    assert (
        code_of(lambda: session.request(ask(tmp_path / "m", width=16000, height=16000), "final")) == "frame-too-large"
    )


def test_unload_reaches_the_renderer(session: BackendSession, tmp_path: Path) -> None:
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    session.unload()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    session.stop()
    assert "unloaded" in session.log_path.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has mapped")
def test_unload_gives_back_the_frames_that_nobody_has(session: BackendSession, tmp_path: Path) -> None:
    held = session.request(ask(tmp_path / "marks", value=3), "view").wait(LIMIT)
    session.request(ask(tmp_path / "marks", width=400, height=300), "final").wait(LIMIT).release()
    gc.collect()
    session.unload()
    until(lambda: mapped("self", tmp_path) == mapped(session.info["pid"], tmp_path) == 1, "the other frame's end")
    assert (held.planes["color"] == 3).all()
    held.release()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


def test_dropping_a_client_cancels_its_requests(session: BackendSession, tmp_path: Path) -> None:
    pending = session.request(ask(tmp_path / "marks", "hold"), "view", interactive=True)
    until(begun(tmp_path / "marks", "hold"), "the frame")
    session.drop_client("view")
    assert code_of(lambda: pending.wait(LIMIT)) == "cancelled"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a process has mapped")
@pytest.mark.parametrize("moment", ["under way", "superseded", "being read"])
def test_a_client_that_is_dropped_leaves_no_memory(session: BackendSession, tmp_path: Path, moment: str) -> None:
    """Views that close at an awkward moment, as they do when a file is loaded; each has a name of its own."""
    for i in range(4):
        marks, client = tmp_path / f"marks{i}", f"view {i}"
        if moment == "being read":
            frame = session.request(ask(marks, width=400, height=300), client, interactive=True).wait(LIMIT)
        else:
            session.request(ask(marks, "hold", width=400, height=300), client, interactive=True)
            until(begun(marks, "hold"), "the frame")
            if moment == "superseded":
                newer = session.request(ask(marks, "hold on", width=400, height=300), client, interactive=True)
                until(begun(marks, "hold on"), "the newer frame")
                newer.cancel()
                del newer
        session.drop_client(client)
        if moment == "being read":
            assert (frame.planes["color"] == 1).all(), "a reader may finish"
            frame.release()
            del frame
        session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()  # the backend is done with the others
    gc.collect()  # a frame and what it was asked with know each other
    until(lambda: mapped("self", tmp_path) == 1, "the frames of closed views go here")
    until(lambda: mapped(session.info["pid"], tmp_path) == 1, "the frames of closed views go from the backend")
    # The same client may come back, and its memory is used again.
    addresses = set()
    for _ in range(5):
        with session.request(ask(tmp_path / "marks"), "view 0").wait(LIMIT) as frame:
            addresses.add(frame.planes["color"].ctypes.data)
    assert len(addresses) == 1


def mapped(pid: object, folder: Path) -> int:
    """How many frames under a folder a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sum(f"{folder}/" in line and "/frame-" in line for line in lines)


def test_many_threads_share_a_session(session: BackendSession, tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                value = 100 * number + i
                with session.request(ask(tmp_path / "marks", value=value), f"client{number % 3}").wait(LIMIT) as frame:
                    if not (frame.planes["color"] == value).all():
                        wrong.append(value)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a full file system that anyone can have")
def test_no_room_for_frames_is_one_sentence(
    session: BackendSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_FRAMES", "/proc")
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final")) == "no-space"
