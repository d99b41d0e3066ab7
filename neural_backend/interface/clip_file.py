# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing CLIP.npz: what `neural-avatar render` draws without Blender. `clip.read_clip` reads and checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .files import whole
from .skeleton import JOINTS


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip. number: what it is called. camera: all of a clip have the same picture size. joints:
    (137, 3) world; confidence: (137,); both None where the person is hidden. gain: factors of scene-linear red, green
    and blue."""

    number: int
    camera: Camera
    joints: npt.NDArray[np.float32] | None
    confidence: npt.NDArray[np.float32] | None
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def write_clip(
    path: Path, frames: Sequence[ClipFrame], fps: float, name: str = "", avatar: str = "", detail: float = 1.0
) -> None:
    """Write a clip under a temporary name and rename it. Raises OSError, and leaves nothing of its own behind then.

    fps: frames per second. avatar: where the avatar file is, a hint for people. detail: see RenderRequest.
    """
    nowhere, nothing = np.zeros((len(JOINTS), 3), np.float32), np.zeros(len(JOINTS), np.float32)
    cameras = [f.camera for f in frames]
    fields = {
        "joints": np.stack([nowhere if f.joints is None else f.joints for f in frames]).astype(np.float32),
        "confidence": np.stack([nothing if f.confidence is None else f.confidence for f in frames]).astype(np.float32),
        "visible": np.array([f.joints is not None for f in frames]),
        "names": np.array(JOINTS),
        "frames": np.array([f.number for f in frames], np.int64),
        "gain": np.array([f.gain for f in frames], np.float64),
        "K": np.stack([c.K for c in cameras]),
        "R": np.stack([c.R for c in cameras]),
        "t": np.stack([c.t for c in cameras]),
        "near": np.array([c.near for c in cameras]),
        "orthographic": np.array([c.orthographic for c in cameras]),
        "width": np.array(cameras[0].width),
        "height": np.array(cameras[0].height),
        "fps": np.array(float(fps)),
        "detail": np.array(float(detail)),
        "name": np.array(name),
        "avatar": np.array(avatar),
    }
    with whole(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **fields)  # type: ignore[arg-type]
