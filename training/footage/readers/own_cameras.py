# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own cameras.json (docs/conventions.md), with a lens where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..records import CalibratedCamera
from .axes import AXES
from .cameras import calibrated
from .fields import CALIBRATION, Entry


def read_own(path: Path, data: dict[str, Any]) -> tuple[CalibratedCamera, ...]:
    """Cameras of a dataset's file. Optional beside its fields: ``distortion`` and ``fisheye`` of each camera, and
    ``up`` of the file ('z' where it is left out). Raises BackendError 'calibration-corrupt'."""
    file = Entry(data, path, "", CALIBRATION)
    up = file.text("up") if "up" in data else "z"
    if up not in AXES:
        file.fail(f"'up' must be one of {', '.join(AXES)}")
    return tuple(_camera(entry, up) for entry in file.entries("cameras", "camera"))


def _camera(entry: Entry, up: str) -> CalibratedCamera:
    name = entry.text("name")
    entry = entry.__class__(entry.data, entry.file, f"camera {name}", entry.code)
    size = (entry.pixels(entry.number("width"), "width"), entry.pixels(entry.number("height"), "height"))
    K, R, t = entry.array("K", shape=(3, 3)), entry.array("R", shape=(3, 3)), entry.array("t", shape=(3,))
    lens = entry.array("distortion") if "distortion" in entry.data else ()
    return calibrated(entry, name, size, K, R, t, lens, bool(entry.data.get("fisheye", False)), up)
