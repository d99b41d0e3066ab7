# SPDX-License-Identifier: GPL-3.0-or-later
"""How both sides of the border live and end, with real processes: failed starts, deaths, time limits, what is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neural_avatar.neural_backend.interface import frame_folder, launch
from neural_avatar.neural_backend.interface.client import MAX_DEATHS, BackendSession, probe_python
from neural_avatar.neural_backend.interface.messages import BackendError
from support.border import LIMIT, ROOT, ask, begun, code_of, gone, until

# Frames of a test lie in a folder of its own.
pytestmark = pytest.mark.usefixtures("frames_folder")


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


def test_a_folder_that_a_cleaner_has_removed_is_made_again(
    session: BackendSession, tmp_path: Path, frames_folder: Path
) -> None:
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    (folder,) = frames_folder.iterdir()
    shutil.rmtree(folder)
    for value in (3, 4):  # another client's frame needs a buffer of its own
        with session.request(ask(tmp_path / "marks", value=value), f"view {value}").wait(LIMIT) as frame:
            assert (frame.planes["color"] == value).all()
    assert len(list(frames_folder.iterdir())) == 1


def test_a_backend_that_dies_again_and_again_is_left_alone(session: BackendSession, tmp_path: Path) -> None:
    for _ in range(MAX_DEATHS):
        assert code_of(lambda: session.request(ask(tmp_path / "marks", "die"), "final").wait(LIMIT)) == "backend-died"
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "backend-broken"
    session.reset()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


def test_a_device_that_fails_ends_the_backend_and_the_next_one_draws(session: BackendSession, tmp_path: Path) -> None:
    first = session.wait_until_ready()["pid"]
    pending = session.request(ask(tmp_path / "marks", "CUDA error: an illegal memory access was encountered"), "final")
    with pytest.raises(BackendError, match="The device that draws has failed") as caught:
        pending.wait(LIMIT)
    assert caught.value.code == "backend-died" and "an illegal memory access" in caught.value.details
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    assert session.wait_until_ready()["pid"] != first


@pytest.mark.parametrize("what", ["no memory", "CUDA error: out of memory"])
def test_too_little_memory_is_told_and_leaves_the_backend_alive(
    session: BackendSession, tmp_path: Path, what: str
) -> None:
    first = session.wait_until_ready()["pid"]
    assert code_of(lambda: session.request(ask(tmp_path / "marks", what), "final").wait(LIMIT)) == "out-of-memory"
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()
    assert session.wait_until_ready()["pid"] == first


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


def test_stop_ends_the_process_and_fails_what_waits(session: BackendSession, tmp_path: Path) -> None:
    pending = session.request(ask(tmp_path / "marks", "stuck"), "final")
    until(begun(tmp_path / "marks", "stuck"), "the frame")
    pid = session.wait_until_ready()["pid"]
    session.stop()
    assert gone(pid) and code_of(lambda: pending.wait(LIMIT)) == "backend-stopped"
    session.stop()
    session.request(ask(tmp_path / "marks"), "final").wait(LIMIT).release()


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
