# SPDX-License-Identifier: GPL-3.0-or-later
"""Any calibration file that people bring, told apart by what is in it."""

from __future__ import annotations

from pathlib import Path

from ....neural_backend.interface.messages import BackendError
from ..records import CalibratedCamera
from .fields import CALIBRATION, read_json, read_text
from .opencv_yaml import SUFFIXES, read_opencv
from .own_cameras import read_own
from .panoptic import read_panoptic_calibration
from .pose2sim_toml import read_toml
from .qualisys import read_qualisys

FORMATS = (
    "Pose2Sim's Calib.toml, Qualisys' .qca.txt, OpenCV's YAML or XML (a file, or a folder with one for each camera), "
    "CMU Panoptic's calibration JSON or a dataset's cameras.json"
)


def read_calibration(path: str | Path) -> tuple[CalibratedCamera, ...]:
    """The cameras of a calibration file or folder, in its order; metres, our conventions (records.CalibratedCamera).

    Raises BackendError 'calibration-missing', or 'calibration-corrupt' with a sentence that names file, camera and
    field.
    """
    file = Path(path)
    if not file.exists():
        raise BackendError("calibration-missing", f"There is no calibration {file}.")
    cameras = _read(file)
    names = [camera.name for camera in cameras]
    if not names:
        raise BackendError(CALIBRATION, f"{file} holds no camera that films; export the calibration again.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BackendError(CALIBRATION, f"{file} has several cameras named {twice[0]!r}; give each its own name.")
    wrong = [name for name in names if name in ("", ".", "..") or "/" in name or "\\" in name]
    if wrong:
        raise BackendError(
            CALIBRATION, f"{file}, camera {wrong[0]!r}: its name becomes a folder's; take the slashes and dots out."
        )
    return cameras


def _read(path: Path) -> tuple[CalibratedCamera, ...]:
    if path.is_dir():
        if any(f.suffix.lower() in SUFFIXES for f in path.iterdir()):
            return read_opencv(path)
        inside = [f for f in (path / "cameras.json", path / "Calib.toml", *sorted(path.glob("*.toml"))) if f.is_file()]
        if not inside:
            inside = sorted(path.glob("*.qca.txt")) or sorted(path.glob("calibration*.json"))
        if inside:
            return _read(inside[0])
        raise BackendError(CALIBRATION, f"There is no calibration in the folder {path}; expected {FORMATS}.")
    text = read_text(path, CALIBRATION)
    start = text.lstrip()[:2000]
    if start.startswith("{"):
        return _read_json(path)
    if start.startswith("<"):
        return read_opencv(path) if "<opencv_storage" in text else read_qualisys(path)
    if start.startswith("%YAML") or path.suffix.lower() in SUFFIXES:
        return read_opencv(path)
    if start.startswith("[") or path.suffix.lower() == ".toml":
        return read_toml(path)
    raise BackendError(CALIBRATION, f"{path} is no calibration in a format that is known; expected {FORMATS}.")


def _read_json(path: Path) -> tuple[CalibratedCamera, ...]:
    data = read_json(path, CALIBRATION)
    cameras = data.get("cameras") if isinstance(data, dict) else None
    if not isinstance(cameras, list) or not all(isinstance(camera, dict) for camera in cameras):
        raise BackendError(CALIBRATION, f"{path} has no list 'cameras'; expected {FORMATS}.")
    if any("resolution" in camera or "distCoef" in camera for camera in cameras):
        return read_panoptic_calibration(path, data)
    return read_own(path, data)
