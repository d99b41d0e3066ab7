# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping a reconstruction in the working folder between stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...neural_backend.interface.camera import Camera
from .manifest import write_json
from .records import CalibratedCamera, Motion, Reconstruction
from .write import write_npz


def save_reconstruction(folder: Path, result: Reconstruction) -> None:
    """Write reconstruction.npz, then reconstruction.json."""
    write_npz(
        folder / "reconstruction.npz", joints=result.motion.joints, confidence=result.motion.confidence,
        times=result.motion.times, frames=result.frames, reprojection=result.reprojection,
    )  # fmt: skip
    cameras = [
        {
            "name": c.name, "K": c.camera.K.tolist(), "R": c.camera.R.tolist(), "t": c.camera.t.tolist(),
            "width": c.camera.width, "height": c.camera.height, "distortion": list(c.distortion),
            "fisheye": c.fisheye, "up": c.up,
        }
        for c in result.cameras
    ]  # fmt: skip
    write_json(folder / "reconstruction.json", {
        "cameras": cameras, "offsets": list(result.offsets), "notes": list(result.notes),
        "source": result.motion.source,
    })  # fmt: skip


def load_reconstruction(folder: Path) -> Reconstruction:
    """What save_reconstruction wrote."""
    data = json.loads((folder / "reconstruction.json").read_text("utf-8"))
    cameras = tuple(
        CalibratedCamera(
            c["name"], Camera(np.array(c["K"]), np.array(c["R"]), np.array(c["t"]), c["width"], c["height"]),
            tuple(c["distortion"]), c["fisheye"], c["up"],
        )
        for c in data["cameras"]
    )  # fmt: skip
    with np.load(folder / "reconstruction.npz", allow_pickle=False) as arrays:
        motion = Motion(arrays["joints"], arrays["confidence"], arrays["times"], data["source"])
        frames, reprojection = arrays["frames"], arrays["reprojection"]
    return Reconstruction(motion, cameras, frames, reprojection, tuple(data["offsets"]), tuple(data["notes"]))
