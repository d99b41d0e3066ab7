# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips for `neural-avatar render`, and what it makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import OpenEXR
from PIL import Image

from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS
from support.people import standing


def view(frame: int = 0) -> dict[str, Any]:
    """A camera three metres in front of the person, which moves a little with each frame."""
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    eye = np.array([0.05 * frame, -3.0, 0.9])
    return {"K": np.array([[100.0, 0, 32], [0, 100, 40], [0, 0, 1]]), "R": rotation, "t": -rotation @ eye}


def make_clip(path: Path, count: int = 6, **changes: Any) -> Path:
    """A person in front of a moving camera, 65 x 81 pixels."""
    views = [view(i) for i in range(count)]
    fields: dict[str, Any] = {
        "joints": np.stack([standing()] * count), "names": np.array(BODY_JOINTS),
        **{name: np.stack([v[name] for v in views]) for name in ("K", "R", "t")},
        "width": 65, "height": 81, "fps": 24000 / 1001, "frames": np.arange(count) + 1,
    }  # fmt: skip
    np.savez(path, **(fields | changes))
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def numbered(*numbers: int, kind: str = "png") -> list[str]:
    return [f"{n:05d}.{kind}" for n in numbers]


def pixels(path: Path) -> npt.NDArray[np.int64]:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int64)


def channels(path: Path) -> dict[str, npt.NDArray[Any]]:
    return {k: v.pixels for k, v in OpenEXR.File(str(path), separate_channels=True).channels().items()}
