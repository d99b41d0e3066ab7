# SPDX-License-Identifier: GPL-3.0-or-later
"""The border between the processes, with real processes: a backend that draws test patterns, started as the real one
is.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_avatar.neural_backend.interface import codec, frame_folder, launch, wire
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.client import MAX_DEATHS, BackendSession, probe_python
from neural_avatar.neural_backend.interface.frames import MAX_BUFFERS
from neural_avatar.neural_backend.interface.messages import PROTOCOL, AvatarInstance, BackendError, RenderRequest
from neural_avatar.neural_backend.interface.skeleton import JOINT_COUNT

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60.0

# A renderer of test patterns: an avatar's name says how it behaves, its path names a file that tells the test how far
# it is.
BACKEND = f"""
import os, runpy, sys, time
from pathlib import Path

start = runpy.run_path({str(ROOT / "neural_backend" / "start.py")!r})

class Patterns:
    device_name = "pattern"
    def __init__(self, device):
        if device == "broken":
            raise ImportError("No module named 'torch'", name="torch")
        if device == "hang":
            time.sleep(1000)
        print("python code prints to stdout")
        os.write(1, b"C code prints to stdout\\n")
        self.drawn = 0
    def unload(self):
        print("unloaded", flush=True)
    def render(self, request, out=None, cancelled=None):
        messages = sys.modules["neural_avatar.neural_backend.interface.messages"]
        avatar = request.avatars[0]
        with open(avatar.path, "a") as marks:
            marks.write(avatar.name + " begun\\n")
        print("noise on stdout"); os.write(1, b"NAvM noise in the guise of a message\\n")
        if avatar.name.startswith("hold"):
            for plane in out.values():
                plane[:] = -1
            while not cancelled():
                time.sleep(0.005)
            raise messages.BackendError("cancelled", "given up")
        if avatar.name == "stuck":
            time.sleep(1000)
        if avatar.name == "flood":
            sys.stderr.write("flood of words " * 300000 + "\\n"); os.write(2, b"x" * 3000000 + b"\\n")
        if avatar.name == "raise":
            raise RuntimeError("a fault in the renderer")
        if avatar.name == "die":
            os._exit(5)
        self.drawn += 1
        for i, plane in enumerate(out.values()):
            plane[:] = avatar.joints[0, 0] + i
        return messages.RenderedFrame(out, ("a warning",), {{"draw": 0.5}})

sys.exit(start["run"](Patterns))
"""


@pytest.fixture(autouse=True)
def frames_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Frames of a test lie in a folder of its own, so that what is left behind can be seen."""
    folder = tmp_path / "frames"
    folder.mkdir()
    monkeypatch.setenv("NEURAL_AVATAR_FRAMES", str(folder))
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "backend.py"
    path.write_text(BACKEND)
    return path


@pytest.fixture
def session(tmp_path: Path, script: Path, frames_folder: Path) -> Iterator[BackendSession]:
    made = BackendSession(sys.executable, tmp_path / "log" / "backend.log", start_timeout=LIMIT, script=script)
    yield made
    made.close()
    assert list(frames_folder.iterdir()) == [], "nothing is left behind"


def ask(
    marks: Path, name: str = "draw", value: float = 1.0, width: int = 32, height: int = 16, **more: object
) -> RenderRequest:
    camera = Camera(np.diag([width, width, 1.0]), np.eye(3), np.zeros(3), width, height)
    joints = np.full((JOINT_COUNT, 3), value, np.float32)
    avatar = AvatarInstance(str(marks), name, joints, np.ones(JOINT_COUNT, np.float32))
    return RenderRequest(camera, (avatar,), **more)  # type: ignore[arg-type]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that another process does and that tells nobody."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.01)


def begun(marks: Path, name: str) -> Callable[[], bool]:
    return lambda: marks.exists() and f"{name} begun" in marks.read_text()


def gone(pid: int) -> bool:
    """Has a process ended? One that nobody has reaped yet has."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(BackendError) as caught:
        action()
    assert caught.value.message.endswith("."), "an error is a sentence"
    return caught.value.code


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
    old = session.request(ask(marks, "hold"), "view", interactive=True)
    until(begun(marks, "hold"), "the oldest frame")
    finals = [session.request(ask(marks, f"final{i}", value=i), "final") for i in range(4)]
    stale = [session.request(ask(marks, f"stale{i}", value=50), "view", interactive=True) for i in range(20)]
    other = session.request(ask(marks, "other", value=70), "view2", interactive=True)
    newest = session.request(ask(marks, "newest", value=60), "view", interactive=True)
    with newest.wait(LIMIT) as frame:
        assert (frame.planes["color"] == 60).all()
    with other.wait(LIMIT) as frame:
        assert (frame.planes["color"] == 70).all()
    for i, pending in enumerate(finals):
        with pending.wait(LIMIT) as frame:
            assert (frame.planes["color"] == i).all()
    assert [code_of(p.wait) for p in (old, *stale)] == ["superseded"] * 21
    assert "newest begun" in marks.read_text() and "stale5 begun" not in marks.read_text()


def test_a_growing_view_wins_over_smaller_frames(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    session.request(ask(marks, "hold"), "view", interactive=True)
    until(begun(marks, "hold"), "the small frame")
    for size in (64, 300, 20, 500):
        newest = session.request(ask(marks, value=size, width=size, height=size), "view", interactive=True)
    with newest.wait(LIMIT) as frame:
        assert frame.planes["color"].shape == (500, 500, 4) and (frame.planes["color"] == 500).all()


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


def test_a_killed_backend_is_reported_and_comes_back(session: BackendSession, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    pending = session.request(ask(marks, "hold"), "final")
    until(begun(marks, "hold"), "the frame")
    os.kill(session.wait_until_ready()["pid"], getattr(signal, "SIGKILL", signal.SIGTERM))
    assert code_of(lambda: pending.wait(LIMIT)) == "backend-died"
    with session.request(ask(marks, value=9), "final").wait(LIMIT) as frame:
        assert (frame.planes["color"] == 9).all()


def test_a_frame_in_hand_outlives_its_backend(session: BackendSession, tmp_path: Path) -> None:
    frame = session.request(ask(tmp_path / "marks", value=4), "final").wait(LIMIT)
    assert code_of(lambda: session.request(ask(tmp_path / "marks", "die"), "final").wait(LIMIT)) == "backend-died"
    session.stop()
    assert (frame.planes["color"] == 4).all()
    frame.release()


def test_a_backend_that_dies_again_and_again_is_left_alone(session: BackendSession, tmp_path: Path) -> None:
    for _ in range(MAX_DEATHS):
        assert code_of(lambda: session.request(ask(tmp_path / "marks", "die"), "final").wait(LIMIT)) == "backend-died"
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "backend-broken"
    session.reset()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


def test_a_stuck_backend_is_killed_after_the_time_limit(
    session: BackendSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_avatar.neural_backend.interface.pending.CANCEL_GRACE", 0.1)
    pending = session.request(ask(tmp_path / "marks", "stuck"), "final")
    until(begun(tmp_path / "marks", "stuck"), "the frame")
    assert code_of(lambda: pending.wait(0.1)) == "backend-timeout"
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


def test_a_slow_frame_is_given_up_without_killing_the_backend(session: BackendSession, tmp_path: Path) -> None:
    pending = session.request(ask(tmp_path / "marks", "hold"), "final")
    until(begun(tmp_path / "marks", "hold"), "the frame")
    pid = session.wait_until_ready()["pid"]
    assert code_of(lambda: pending.wait(0.05)) == "backend-timeout"
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    assert session.wait_until_ready()["pid"] == pid


def test_unload_reaches_the_renderer(session: BackendSession, tmp_path: Path) -> None:
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    session.unload()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    session.stop()
    assert "unloaded" in session.log_path.read_text()


def test_dropping_a_client_cancels_its_requests(session: BackendSession, tmp_path: Path) -> None:
    pending = session.request(ask(tmp_path / "marks", "hold"), "view", interactive=True)
    until(begun(tmp_path / "marks", "hold"), "the frame")
    session.drop_client("view")
    assert code_of(lambda: pending.wait(LIMIT)) == "cancelled"


def test_stop_ends_the_process_and_fails_what_waits(session: BackendSession, tmp_path: Path) -> None:
    pending = session.request(ask(tmp_path / "marks", "stuck"), "final")
    until(begun(tmp_path / "marks", "stuck"), "the frame")
    pid = session.wait_until_ready()["pid"]
    session.stop()
    assert gone(pid) and code_of(lambda: pending.wait(LIMIT)) == "backend-stopped"
    session.stop()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


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


def host(tmp_path: Path, script: Path, ending: str) -> subprocess.Popen[str]:
    """A program with a session whose frame is in the middle of being drawn."""
    code = f"""
import os, runpy, sys, time
runpy.run_path({str(ROOT / "neural_backend" / "start.py")!r})["load_package"]()
from pathlib import Path
from neural_avatar.neural_backend.interface.client import BackendSession
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import AvatarInstance, RenderRequest
import numpy as np
session = BackendSession(sys.executable, {str(tmp_path / "host.log")!r}, script={str(script)!r})
marks = Path({str(tmp_path / "marks")!r})
avatar = AvatarInstance(str(marks), "hold", np.zeros((137, 3), np.float32), np.ones(137, np.float32))
pending = session.request(RenderRequest(Camera(np.eye(3), np.eye(3), np.zeros(3), 64, 64), (avatar,)), "final")
while not marks.exists() or "hold begun" not in marks.read_text():
    pending.poll(); time.sleep(0.01)
print(session.wait_until_ready()["pid"], flush=True)
{ending}
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", ["kill", "exit", "raise", "hard exit"])
def test_when_the_client_is_gone_so_are_the_backend_and_its_files(
    tmp_path: Path, script: Path, frames_folder: Path, ending: str
) -> None:
    endings = {"exit": "", "raise": "raise RuntimeError('an odd end')", "hard exit": "os._exit(3)"}
    program = host(tmp_path, script, endings.get(ending, "time.sleep(1000)"))
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    if ending == "kill":
        program.kill()
    assert program.wait(LIMIT) == {"exit": 0, "raise": 1, "hard exit": 3}.get(ending, program.returncode)
    program.stdout.close()
    until(lambda: gone(pid), "the end of the backend")
    until(lambda: not list(frames_folder.iterdir()), "an empty folder of frames")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the name of a mapped file")
def test_a_crash_of_both_sides_leaves_nothing_for_long(tmp_path: Path, script: Path, frames_folder: Path) -> None:
    program = host(tmp_path, script, "time.sleep(1000)")
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    assert not list(frames_folder.glob("*/frame-*")), "the name of a mapped frame is removed at once"
    os.kill(pid, signal.SIGSTOP)  # so that it cannot tidy up
    program.kill()
    program.wait(LIMIT)
    program.stdout.close()
    os.kill(pid, signal.SIGKILL)
    left = list(frames_folder.iterdir())
    assert len(left) == 1 and left[0].stat().st_mode & 0o777 == 0o700
    living = frame_folder.FrameFolder(frames_folder)
    assert frame_folder.sweep() == left
    assert list(frames_folder.iterdir()) == [living.path], "a living owner's folder stays"
    living.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a full file system that anyone can have")
def test_no_room_for_frames_is_one_sentence(
    session: BackendSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_FRAMES", "/proc")
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final")) == "no-space"


@pytest.mark.parametrize(
    ("python", "device", "code"),
    [
        ("/nowhere/python", "auto", "backend-no-python"),
        (str(ROOT / "__init__.py"), "auto", "backend-no-python"),
        (sys.executable, "broken", "backend-no-torch"),
    ],
)
def test_a_backend_that_cannot_start_says_why(
    tmp_path: Path, script: Path, python: str, device: str, code: str
) -> None:
    session = BackendSession(python, tmp_path / "log", {"NEURAL_AVATAR_DEVICE": device}, LIMIT, script)
    for _ in range(2):
        assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == code
    assert code_of(lambda: session.wait_until_ready(LIMIT)) == code
    session.close()


def test_a_start_without_end_is_cut_off_and_can_be_cancelled(tmp_path: Path, script: Path) -> None:
    session = BackendSession(sys.executable, tmp_path / "log", {"NEURAL_AVATAR_DEVICE": "hang"}, 0.5, script)
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "backend-start-timeout"
    assert code_of(lambda: session.wait_until_ready(should_cancel=lambda: True)) == "cancelled"
    session.close()


def test_a_python_without_torch_or_numpy_says_so(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = next(p for p in (tmp_path / "bare/bin/python", tmp_path / "bare/Scripts/python.exe") if p.exists())
    session = BackendSession(str(python), tmp_path / "log", start_timeout=LIMIT)
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "backend-no-torch"
    session.close()
    assert probe_python(python)["torch"] is None and "numpy" in probe_python(python)["error"]


def test_the_probe_tells_versions_and_failures(tmp_path: Path) -> None:
    found = probe_python(sys.executable)
    assert found["python"].startswith("3.") and found["torch"] and "cpu" in found["devices"] and found["error"] is None
    assert code_of(lambda: probe_python(tmp_path / "none")) == "backend-no-python"
    assert code_of(lambda: probe_python(sys.executable, timeout=0.001)) == "backend-start-timeout"


def test_the_backend_inherits_nothing_of_blenders_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONHOME", "PYTHONPATH", "OCIO", "BLENDER_USER_RESOURCES", "__PYVENV_LAUNCHER__"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    cleaned = launch.clean_environment({"NEURAL_AVATAR_DEVICE": "cpu"})
    assert not {"PYTHONHOME", "PYTHONPATH", "OCIO", "BLENDER_USER_RESOURCES", "__PYVENV_LAUNCHER__"} & cleaned.keys()
    assert cleaned["CUDA_VISIBLE_DEVICES"] == "1" and cleaned["NEURAL_AVATAR_DEVICE"] == "cpu"


def backend_process(script: Path) -> subprocess.Popen[bytes]:
    command = launch.command(sys.executable, script)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def conversation(script: Path, data: bytes) -> tuple[list[wire.Message], int]:
    """What a backend answers to these bytes, and its exit code."""
    child = backend_process(script)
    out, _ = child.communicate(data, timeout=LIMIT)
    stream, messages = io.BytesIO(out), []
    while (message := wire.read_message(stream)) is not None:
        messages.append(message)
    return messages, child.returncode


def test_another_protocol_is_refused_by_both_sides(tmp_path: Path, script: Path) -> None:
    messages, code = conversation(script, wire.pack({"type": "hello", "protocol": PROTOCOL + 1}))
    assert code == 1 and [m["code"] for m in messages if m["type"] == "error"] == ["protocol-mismatch"]
    # A backend that does not look at the client's greeting: the client has to.
    greeting = wire.pack({"type": "hello", "protocol": PROTOCOL + 1})
    script.write_text(f"import sys; sys.stdout.buffer.write({greeting!r}); sys.stdout.flush(); sys.stdin.read()")
    session = BackendSession(sys.executable, tmp_path / "log", start_timeout=LIMIT, script=script)
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "protocol-mismatch"
    session.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        wire.PREFIX.pack(b"????", wire.WIRE_VERSION, 0, 2, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION + 1, 0, 2, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 0xFFFFFFFF, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 2, 1 << 60) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 2, 0) + b"[]",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 100000, 0) + b"[" * 100000,
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 9, 0) + b'{"type":1}'[:9],
        wire.pack({"type": "hello", "protocol": PROTOCOL})[:-3],
    ],
)
def test_bytes_that_are_no_messages_end_the_backend(script: Path, data: bytes) -> None:
    assert conversation(script, data)[1] == 72


@pytest.mark.parametrize(
    "entry",
    [
        [0, "<f4", [1 << 40, 1 << 40]], [-8, "<f4", [1]], [8, "<f4", [3]], [0, "|O8", [1]], [0, "<f4", [-1]],
        [0, "<f4", [True]], [0, "<f4"], "x", [0, "<f4", [1] * 40], [0.5, "<f4", [1]],
    ],
)  # fmt: skip
def test_an_array_outside_its_message_is_refused(entry: object) -> None:
    import json

    header = json.dumps({"type": "x", "a": {"$array": entry}}).encode()
    data = wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 1, len(header), 16) + header + bytes(16)
    with pytest.raises(wire.WireError):
        wire.read_message(io.BytesIO(data))


def test_messages_come_back_as_they_were_sent() -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "f4": rng.normal(size=(2, 3)).astype(np.float32), "f8": rng.normal(size=(4,)).astype(">f8"),
        "u1": rng.integers(0, 255, (3, 1, 2)).astype(np.uint8), "i8": np.arange(3),
        "none": np.zeros((0, 3), np.float32),
        "strided": rng.normal(size=(6, 4))[::2, 1:], "scalar": np.array(5.0), "nan": np.array([np.nan, np.inf]),
    }  # fmt: skip
    message = {"type": "x", "text": "ä\n", "list": [1, None, True, {"a": 1.5}], **arrays}
    back = wire.read_message(io.BytesIO(wire.pack(message)))
    assert back is not None and back["list"] == message["list"] and back["text"] == "ä\n"
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    with pytest.raises(wire.WireError):
        wire.pack({"type": "x", "object": object()})
    with pytest.raises(wire.WireError):
        wire.pack({"type": "x", "array": np.array([object()])})


def test_odd_requests_are_answered_and_the_backend_goes_on(tmp_path: Path, script: Path) -> None:
    good = codec.request_to_plain(ask(tmp_path / "marks"))
    odd = [
        {"type": "what"},
        {"type": "render", "id": 1},
        {"type": "render", "id": 2, "client": "c", "interactive": False, "buffer": 99, "request": good},
        {
            "type": "render",
            "id": 3,
            "client": "c",
            "interactive": False,
            "buffer": 1,
            "request": {**good, "planes": ["x"]},
        },
        {"type": "map", "id": 4, "buffer": 1, "path": str(tmp_path / "none"), "capacity": 100},
        {"type": "map", "id": 5, "buffer": 1, "path": str(script), "capacity": 1 << 40},
        {"type": "cancel", "id": 1000},
        {"type": "unmap", "buffer": 1000},
        {"type": "folder", "path": str(tmp_path)},
    ]
    child = backend_process(script)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"".join(wire.pack(message) for message in odd))
    child.stdin.flush()
    errors, greeted = [], False
    while len(errors) < 4 or not greeted:
        message = wire.read_message(child.stdout)
        assert message is not None
        greeted |= message["type"] == "hello"
        if message["type"] == "error":
            errors.append((message["id"], message["code"]))
    assert sorted(number for number, _ in errors) == [0, 1, 2, 3]
    child.communicate(timeout=LIMIT)
    assert child.returncode == 0 and script.exists(), "a folder that is none of ours is never removed"


def test_a_request_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    request = ask(tmp_path, "Zoë", 0.25, planes=("depth",))
    message = wire.read_message(io.BytesIO(wire.pack({"type": "x", "request": codec.request_to_plain(request)})))
    assert message is not None
    back = codec.request_from_plain(message["request"])
    assert back.planes == ("depth",) and back.avatars[0].name == "Zoë" and back.avatars[0].path == str(tmp_path)
    np.testing.assert_array_equal(back.avatars[0].joints, request.avatars[0].joints)
    np.testing.assert_array_equal(back.camera.K, request.camera.K)
    assert (back.camera.width, back.camera.height, back.camera.orthographic) == (32, 16, False)


def test_the_client_needs_the_standard_library_and_numpy_alone() -> None:
    code = f"""
import runpy, sys
runpy.run_path({str(ROOT / "neural_backend" / "start.py")!r})["load_package"]()
before = set(sys.modules)
import neural_avatar.neural_backend.interface.client
foreign = {{m.partition(".")[0] for m in set(sys.modules) - before}} - {{*sys.stdlib_module_names, "numpy"}}
foreign.discard("neural_avatar")
assert not foreign, foreign
assert not any("neural_avatar" in p or p == {str(ROOT)!r} for p in sys.path), sys.path
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd="/")
