# SPDX-License-Identifier: GPL-3.0-or-later
"""Pose2Sim's Calib.toml (also caliscope's and aniposelib's): a table for each camera."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ....neural_backend.interface.messages import BackendError
from ..records import CalibratedCamera
from .cameras import calibrated, opencv_centres, rotation
from .fields import CALIBRATION, Entry, read_text


def read_toml(path: Path) -> tuple[CalibratedCamera, ...]:
    """Cameras in the file's order. Rotation is a Rodrigues vector, world to camera; metres. The file does not say which
    axis is up: its cameras' ``up`` is ''.

    Raises BackendError 'calibration-corrupt'.
    """
    try:
        data: dict[str, Any] = tomllib.loads(read_text(path, CALIBRATION))
    except tomllib.TOMLDecodeError as error:
        raise BackendError(CALIBRATION, f"{path} is no whole TOML file ({error}); export it again.") from error
    tables = {key: value for key, value in data.items() if isinstance(value, dict) and key != "metadata"}
    if isinstance(data.get("cameras"), dict):  # newer caliscope files keep them in one table
        tables = data["cameras"]
    file = Entry({}, path, "", CALIBRATION)
    return tuple(_camera(key, file.part(table, f"camera {key}")) for key, table in tables.items())


def _camera(key: str, entry: Entry) -> CalibratedCamera:
    K = opencv_centres(entry.array("matrix", shape=(3, 3)))
    lens = entry.array("distortions") if "distortions" in entry.data else ()
    R = rotation(entry.array("rotation", shape=(3,)))
    t = entry.array("translation", shape=(3,))
    name = entry.text("name") if "name" in entry.data else key
    fisheye = bool(entry.data.get("fisheye", False))
    return calibrated(entry, name, entry.size("size"), K, R, t, lens, fisheye)
