# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a Python draw? Its devices, and a tiny frame of an avatar."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from ...neural_backend.interface.client import BackendSession, probe_python
from ...neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from .home import Test

#: Pixels of the frame's sides.
_SIZE = 64
_FRAME_TIMEOUT = 180.0


def run(
    python: Path | str,
    device: str,
    log_path: Path,
    cancelled: threading.Event,
    avatar: Path | None = None,
) -> Test:
    """Test a Python on a device ('auto', 'cpu', 'cuda:0'…).

    avatar: drawn from before; None where there is none, and devices are all that is looked at. Raises BackendError:
    'setup-self-test', those of probe_python and of the backend.
    """
    found = probe_python(python)
    if found["error"]:
        raise BackendError(
            "setup-self-test",
            f"Python {found['python']} is there, but PyTorch cannot be used: {found['error']}. Press Repair; if that "
            "does not help, choose other wheels.",
        )
    test = Test(str(python), found["python"], found["torch"], tuple(found["devices"]))
    if avatar is None:
        return test
    session = BackendSession(python, log_path, environment={"NEURAL_AVATAR_DEVICE": device})
    try:
        info = session.wait_until_ready(should_cancel=cancelled.is_set)
        began = time.monotonic()
        with session.request(_request(avatar), "self-test").wait(_FRAME_TIMEOUT, cancelled.is_set) as frame:
            seen = float(frame.planes["mask"].max())
    finally:
        session.close()
    if not seen > 0.5:
        raise BackendError(
            "setup-self-test",
            f"The renderer runs on {info.get('device', device)}, but its picture is empty: update the GPU's driver, or "
            "choose the device cpu.",
        )
    return Test(test.executable, test.python, test.torch, test.devices, str(info["device"]), time.monotonic() - began)


def _request(avatar: Path) -> RenderRequest:
    import numpy as np

    from ...neural_backend.interface.avatar_header import read_header
    from ...neural_backend.interface.camera import Camera

    header = read_header(avatar)
    joints = np.asarray(header.rest_joints, np.float32)
    confidence = np.asarray(header.rest_confidence, np.float32)
    known = joints[confidence > 0]
    middle, height = known.mean(0), float(np.ptp(known[:, 2]))
    focal = 0.8 * _SIZE * 3  # seen from three heights away, the body fills four fifths of the frame
    intrinsics = np.array([[focal, 0, _SIZE / 2], [0, focal, _SIZE / 2], [0, 0, 1]], np.float64)
    rotation = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64)
    camera = Camera(intrinsics, rotation, -rotation @ (middle - (0, 3 * height, 0)), _SIZE, _SIZE)
    return RenderRequest(camera, (AvatarInstance(str(avatar), "the self-test", joints, confidence),), ("color", "mask"))
