# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCV's FileStorage (YAML or XML), as calibration programs write it: one file for each camera, or one for all.

Names differ from program to program; the usual ones are known. In a file for several cameras each has a node of its own
(``cam1: {camera_matrix: …}``), or a suffix (``K_cam1``, ``R_cam1``, as in EasyMocap's intri.yml and extri.yml).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ....neural_backend.interface.messages import BackendError
from ..records import CalibratedCamera
from .cameras import calibrated, opencv_centres, rotation
from .fields import CALIBRATION, Array, Entry, read_text

_MATRIX = ("camera_matrix", "Camera_Matrix", "cameraMatrix", "CameraMatrix", "K", "M", "intrinsic", "intrinsics")
_LENS = (
    "distortion_coefficients", "Distortion_Coefficients", "distCoeffs", "dist_coeffs", "distCoef", "dist", "D",
    "distortion",
)  # fmt: skip
_ROTATION = ("R", "Rot", "rotation_matrix", "rotation", "rvec", "Rvec", "extrinsic_R")
_TRANSLATION = ("t", "T", "tvec", "Tvec", "translation", "translation_vector", "extrinsic_t")
_WIDTH = ("image_width", "image_Width", "imageWidth", "width", "W")
_HEIGHT = ("image_height", "image_Height", "imageHeight", "height", "H")
_SIZE = ("image_size", "imageSize", "size", "resolution")

SUFFIXES = (".yml", ".yaml", ".xml")


def read_opencv(path: Path) -> tuple[CalibratedCamera, ...]:
    """Cameras of a file, or of a folder with a file for each camera, named as the file is.

    A folder may also hold intri.yml and extri.yml. Lengths are metres; the files do not say which axis is up.
    Raises BackendError 'calibration-corrupt'.
    """
    if not path.is_dir():
        return tuple(_cameras(path, _load(path), path.stem))
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES)
    pair = [path / "intri.yml", path / "extri.yml"]
    if all(f in files for f in pair):
        return tuple(_cameras(pair[0], {**_load(pair[0]), **_load(pair[1])}, ""))
    return tuple(camera for f in files for camera in _cameras(f, _load(f), f.stem))


def _cameras(path: Path, data: dict[str, Any], stem: str) -> Iterable[CalibratedCamera]:
    file = Entry(data, path, "", CALIBRATION)
    if any(key in data for key in _MATRIX):
        yield _camera(str(data.get("camera_name", stem)), file.part(data, f"camera {stem}"))
        return
    names = [key for key, value in data.items() if isinstance(value, dict) and any(k in value for k in _MATRIX)]
    for name in names:
        yield _camera(name, file.part(data[name], f"camera {name}"))
    if names:
        return
    for name in [key[2:] for key in data if key.startswith("K_")]:
        own = {key[: -len(name) - 1]: value for key, value in data.items() if key.endswith(f"_{name}")}
        names.append(name)
        if "Rot" in own:  # EasyMocap's R_ is a Rodrigues vector, Rot_ the same as a matrix
            own.pop("R", None)
        yield _camera(name, file.part(own, f"camera {name}"))
    if not names:
        file.fail(f"there is no camera in it: none of {', '.join(_MATRIX[:5])} was found")


def _camera(name: str, entry: Entry) -> CalibratedCamera:
    K = opencv_centres(entry.array(*_MATRIX, shape=(3, 3)))
    lens = entry.array(*_LENS) if any(k in entry.data for k in _LENS) else np.zeros(0)
    turn = entry.array(*_ROTATION)
    if turn.size not in (3, 9):
        entry.fail(f"{entry.name(*_ROTATION)!r} must be a Rodrigues vector or a 3 x 3 matrix, not {turn.size} numbers")
    R: Array = rotation(turn.ravel()) if turn.size == 3 else turn.reshape(3, 3)
    t = entry.array(*_TRANSLATION, shape=(3,))
    if any(k in entry.data for k in _SIZE):
        size = entry.size(*_SIZE)
    else:
        size = tuple(entry.pixels(entry.number(*names), entry.name(*names)) for names in (_WIDTH, _HEIGHT))  # type: ignore[assignment]
    model = str(entry.data.get("camera_model", entry.data.get("distortion_model", ""))).lower()
    fisheye = bool(entry.data.get("fisheye_model", entry.data.get("fisheye", 0))) or model in ("fisheye", "equidistant")
    return calibrated(entry, name, size, K, R, t, lens, fisheye)


def _load(path: Path) -> dict[str, Any]:
    text = read_text(path, CALIBRATION)
    if text.lstrip().startswith("<") and ("<!DOCTYPE" in text or "<!ENTITY" in text):
        raise BackendError(CALIBRATION, f"{path} defines entities, which OpenCV never does; export it again.")
    if not text.lstrip().startswith(("<", "%YAML", "{")):
        # OpenCV insists on its own first line, which people lose when they edit a file.
        text = "%YAML:1.0\n" + ("" if text.lstrip().startswith("---") else "---\n") + text
    storage = cv2.FileStorage()
    try:
        storage.open(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        data = _value(storage.root())
    except (cv2.error, SystemError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise BackendError(
            CALIBRATION, f"{path} is no file that OpenCV's FileStorage can read; export it again.", reason
        ) from error
    finally:
        storage.release()
    if not isinstance(data, dict):
        raise BackendError(CALIBRATION, f"{path} holds no named fields; export it again with cv2.FileStorage.")
    return data


def _value(node: Any) -> Any:
    """A node with all below it as plain data; matrices become lists."""
    if node.isMap():
        keys = node.keys()
        if {"rows", "cols", "data"} <= set(keys):
            matrix = node.mat()
            return matrix.tolist() if matrix is not None else []
        return {key: _value(node.getNode(key)) for key in keys}
    if node.isSeq():
        return [_value(node.at(i)) for i in range(node.size())]
    if node.isInt() or node.isReal():
        return node.real()
    return node.string() if node.isString() else None
