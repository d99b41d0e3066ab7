# SPDX-License-Identifier: GPL-3.0-or-later
"""frames.npz of a dataset: what changes from picture to picture, for footage that is stored as crops (docs/dataset.md).

A crop is what a virtual camera sees that stands where the real one stands: R and t are the camera's, K is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..neural_backend.clip import NPZ_ERRORS
from ..neural_backend.interface.camera import Camera, check_calibration
from ..neural_backend.interface.messages import BackendError


@dataclass(frozen=True)
class FrameTable:
    """What is said of each picture, T rows by C cameras.

    K: (T, C, 3, 3) float64 intrinsics. valid: (T, C) bool, False where there is no picture because nobody was found in
    it. filmed: (T, C, 4) float64, the box x0, y0, x1, y1 of each picture (its pixels) that the real camera saw; beyond
    it nothing is known, not even that the person ends there.
    """

    K: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    filmed: npt.NDArray[np.float64]

    def camera(self, row: int, index: int, camera: Camera) -> Camera:
        """The virtual camera of a picture. camera: the real one's R, t and the size of its stored pictures."""
        return replace(camera, K=self.K[row, index])


def read_frame_table(path: Path, rows: int, cameras: tuple[Camera, ...], names: tuple[str, ...]) -> FrameTable | None:
    """The table at ``path``; None where there is no such file: then every picture is whole and has its camera's K.

    Raises BackendError 'dataset-corrupt' with the file, the field and the first place that is wrong.
    """
    if not path.is_file():
        return None
    count = len(cameras)
    try:
        with np.load(path, allow_pickle=False) as data:
            k = _array(data, "K", (rows, count, 3, 3))
            valid = _array(data, "valid", (rows, count), np.ones(count)) > 0
            filmed = _array(data, "filmed", (rows, count, 4), [[0, 0, c.width, c.height] for c in cameras])
        for row, index in np.argwhere(valid):
            try:
                check_calibration(replace(cameras[index], K=k[row, index]))
            except ValueError as error:
                raise ValueError(f"row {row}, camera {names[index]}: {error}") from error
        if not np.isfinite(filmed[valid]).all():
            raise ValueError("'filmed' must be finite")
    except (*NPZ_ERRORS, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BackendError(
            "dataset-corrupt", f"{path} cannot be understood ({reason}); see the dataset layout, or make it again."
        ) from error
    return FrameTable(k, valid, filmed)


def _array(
    data: np.lib.npyio.NpzFile, key: str, shape: tuple[int, ...], default: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    if key not in data and default is not None:
        return np.broadcast_to(np.asarray(default, np.float64), shape)
    value = np.asarray(data[key], np.float64)
    if value.shape != shape:
        raise ValueError(f"'{key}' must be {shape}, not {value.shape}")
    return value
