# SPDX-License-Identifier: GPL-3.0-or-later
"""The paper's way from 2D to 3D (section 4): a perceptron takes the 2D poses of five consecutive frames and gives the
3D pose of the last, as an orthographic camera sees it.

Only the body's 25 joints are lifted. Each 2D pose is centred on its MidHip, all five are divided by one size; the
output is in the same unit, in camera axes (x right, y down, z away), centred on MidHip.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ...neural_backend.interface.files import whole
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import BODY_JOINTS, INDEX, JOINT_COUNT, SIZE_BONES
from .monocular import MonocularOptions, reconstruct_single
from .multiview import Progress
from .records import CalibratedCamera, Detections, Reconstruction

#: Consecutive frames that are looked at.
FRAMES = 5
BODY = len(BODY_JOINTS)
HIP = INDEX["MidHip"]

_VERSION = 1
_KEY = "neural_avatar_lift"


@dataclass(frozen=True)
class LiftConfig:
    """The perceptron's shape. width: of its hidden layers. blocks: of two layers each, around which the signal is
    added."""

    width: int = 256
    blocks: int = 2


class LiftNetwork(nn.Module):
    """Normalised 2D poses to a normalised 3D pose. What the picture shows of the last frame is added to x and y, so
    that only their correction has to be learned."""

    def __init__(self, config: LiftConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = nn.Linear(FRAMES * BODY * 3, config.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.width, config.width), nn.ReLU(), nn.Dropout(0.1),
                nn.Linear(config.width, config.width), nn.ReLU(),
            )
            for _ in range(config.blocks)
        )  # fmt: skip
        self.leave = nn.Linear(config.width, BODY * 3)

    def forward(self, features: Tensor) -> Tensor:
        """features: (B, 5, 25, 3), see ``normalise``. Returns (B, 25, 3)."""
        x = torch.relu(self.enter(features.flatten(1)))
        for block in self.blocks:
            x = x + block(x)
        pose: Tensor = self.leave(x).view(-1, BODY, 3)
        seen = torch.cat([features[:, -1, :, :2], torch.zeros_like(features[:, -1, :, :1])], -1)
        return pose + seen


@dataclass(frozen=True)
class Lifter:
    """A trained perceptron. size: summed length of SIZE_BONES (metres) of the people it was trained on. joints: (25,)
    bool, which joints they had. about: what it was trained on and how well it does, for people."""

    network: LiftNetwork
    size: float
    joints: npt.NDArray[np.bool_]
    about: dict[str, Any]


def normalise(points: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The perceptron's input.

    points: (B, 5, 25, 2) in any unit; present: (B, 5, 25) bool. Returns features (B, 5, 25, 3) = x, y and 1 where the
    joint is there, all 0 where it (or the frame's MidHip) is not, and the size (B,) by which x and y were divided.
    """
    known = (present & present[:, :, HIP, None])[..., None].to(points.dtype)
    centred = (points - points[:, :, HIP, None]) * known
    size = ((centred**2).sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)).sqrt().clamp(min=1e-9)
    return torch.cat([centred / size[:, None, None, None], known], -1), size


def lift(detections: Detections, lifter: Lifter) -> npt.NDArray[np.float32]:
    """(T, 137, 3) float32 metres, camera axes as if the person were looked at straight on, origin at MidHip: what a
    pose model's own guess in 3D is (Detections.world). NaN for hands, face, joints that the perceptron never learned,
    and frames in which MidHip was not seen.

    Before the clip's first frame, that frame is repeated. Every pose is brought to the size of the people it was
    trained on.
    """
    count = len(detections)
    rows = np.maximum(np.arange(count)[:, None] + np.arange(1 - FRAMES, 1), 0)
    present = torch.from_numpy(detections.confidence[rows, :BODY] > 0)
    present &= torch.from_numpy(lifter.joints)
    with torch.inference_mode():
        features, size = normalise(torch.from_numpy(detections.points[rows, :BODY]), present)
        pose = (lifter.network(features) * size[:, None, None]).numpy()
    pose -= pose[:, HIP, None]
    a, b = np.asarray(SIZE_BONES).T
    lengths = np.where(lifter.joints[a] & lifter.joints[b], np.linalg.norm(pose[:, a] - pose[:, b], axis=-1), 0).sum(1)
    out = np.full((count, JOINT_COUNT, 3), np.nan, np.float32)
    out[:, :BODY] = pose * (lifter.size / np.maximum(lengths, 1e-9))[:, None, None]
    out[:, :BODY][:, ~lifter.joints] = np.nan
    out[detections.confidence[:, HIP] <= 0] = np.nan
    return out


def reconstruct_lifted(
    detections: Detections,
    camera: CalibratedCamera | None,
    lifter: Lifter,
    options: MonocularOptions | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """3D from one camera with the perceptron's depth in place of the pose model's.

    The perceptron knows directions, but neither the person's own bones nor the film's focal length: the fit over the
    clip (monocular.py) places its poses before the camera and makes the bones constant. Arguments, result and errors as
    there.
    """
    return reconstruct_single(replace(detections, world=lift(detections, lifter)), camera, options, progress)


def save_lift(path: str | Path, lifter: Lifter) -> None:
    """Writes a perceptron: safetensors with a JSON header, to a temporary name that is then renamed.

    Raises BackendError 'lift-unwritable'.
    """
    file = Path(path)
    header = {
        "version": _VERSION,
        "config": asdict(lifter.network.config),
        "size": lifter.size,
        "joints": [name for name, there in zip(BODY_JOINTS, lifter.joints, strict=True) if there],
        "about": lifter.about,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in lifter.network.state_dict().items()}
    try:
        with whole(file) as temporary:
            temporary.write_bytes(to_bytes(tensors, {_KEY: json.dumps(header)}))
    except OSError as error:
        raise BackendError("lift-unwritable", f"{file} cannot be written: {error.strerror or error}.") from error


def load_lift(path: str | Path) -> Lifter:
    """Reads a perceptron. Raises BackendError 'lift-missing', 'lift-corrupt' or 'lift-newer'."""
    file = Path(path)
    if not file.is_file():
        raise BackendError("lift-missing", f"There is no perceptron {file}; `neural-avatar lift-train` makes one.")
    try:
        with safe_open(str(file), framework="pt", device="cpu") as data:
            metadata = data.metadata() or {}
            if _KEY not in metadata:
                raise ValueError("it is no lifting perceptron")
            header = json.loads(metadata[_KEY])
            if header["version"] > _VERSION:
                raise BackendError("lift-newer", f"{file} was made by a newer version; update, or train it again.")
            config = LiftConfig(int(header["config"]["width"]), int(header["config"]["blocks"]))
            # A few bytes of header must not be able to ask for all memory.
            if not (1 <= config.width <= 4096 and 0 <= config.blocks <= 16 and 0 < float(header["size"]) < 100):
                raise ValueError(f"{config} is implausible")
            network = LiftNetwork(config)
            network.load_state_dict({key: data.get_tensor(key) for key in data.keys()})  # noqa: SIM118
        joints = np.isin(np.array(BODY_JOINTS), header["joints"])
        if not all(torch.isfinite(p).all() for p in network.parameters()):
            raise ValueError("it holds numbers that are not finite")
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BackendError(
            "lift-corrupt", f"{file} is no whole lifting perceptron; train it again with `neural-avatar lift-train`.",
            f"{type(error).__name__}: {error}",
        ) from error  # fmt: skip
    return Lifter(network.eval(), float(header["size"]), joints, dict(header.get("about", {})))
