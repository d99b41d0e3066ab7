# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that draws test patterns, started as the real one is, and what tests of the border ask it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from neural_avatar.neural_backend.interface.skeleton import JOINT_COUNT

ROOT = Path(__file__).resolve().parent.parent.parent
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
        if avatar.name == "no memory":
            import torch
            torch.empty(1 << 50)
        if avatar.name.startswith("CUDA error"):
            import torch
            raise torch.AcceleratorError(avatar.name)
        self.drawn += 1
        for i, plane in enumerate(out.values()):
            plane[:] = avatar.joints[0, 0] + i
        return messages.RenderedFrame(out, ("a warning",), {{"draw": 0.5}})

sys.exit(start["run"](Patterns))
"""


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
