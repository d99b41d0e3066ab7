# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP.npz: joints and a camera over time, what `neural-avatar render` draws."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .interface.body import REQUIRED_JOINTS
from .interface.camera import Camera, check_calibration
from .interface.codec import MAX_SIDE
from .interface.messages import BackendError
from .interface.skeleton import INDEX, reorder

#: What numpy may raise while it reads a file that is not a whole .npz.
NPZ_ERRORS = (ValueError, KeyError, OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Clip:
    """A motion seen by a moving camera.

    joints: (T, 137, 3) float32, world. confidence: (T, 137) float32 in 0..1, 0 where a joint is absent. cameras: one
    per frame. fps: frames per second. numbers: (T,) int, what each frame is called. visible: (T,), whether the person
    is there at all. gain: (T, 3), factors of scene-linear red, green and blue. detail: size of the network's picture,
    as a factor of its own. name: of the clip, for people. avatar: where its avatar file was, '' when nobody said.
    """

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    cameras: tuple[Camera, ...]
    fps: float
    numbers: tuple[int, ...]
    visible: npt.NDArray[np.bool_]
    gain: npt.NDArray[np.float64]
    detail: float = 1.0
    name: str = ""
    avatar: str = ""

    def __len__(self) -> int:
        return len(self.cameras)


def read_clip(path: Path) -> Clip:
    """Read and check a clip.

    Fields: joints (T, J, 3) world; names (J) joint names; K (T, 3, 3) pixels, R (T, 3, 3) and t (T, 3) world to camera,
    OpenCV axes; width, height. Optional: confidence (T, J), fps, frames (T) whole numbers that rise, visible (T),
    orthographic (T; where true, K[0, 0] and K[1, 1] are pixels per world unit), near (T) world units, gain (T, 3),
    detail, name, avatar, and orthographic_scale (T), world units across the larger side. K, R, t, near, gain, visible,
    orthographic and orthographic_scale may be given once, without T.

    Raises BackendError 'clip-missing' or 'clip-corrupt'.
    """
    fields = _fields(path)

    def get(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        value = fields[name]
        if name in ("K", "R", "t") and value.shape == shape[1:]:
            value = np.broadcast_to(value, shape)
        if value.shape != shape:
            raise BackendError(
                "clip-corrupt", f"{path}: '{name}' has the shape {value.shape}, and {shape} is expected."
            )
        return _numbers(path, name, value)

    joints = fields["joints"]
    names = [str(n.decode() if isinstance(n, bytes) else n) for n in np.atleast_1d(fields["names"])]
    if joints.ndim != 3 or joints.shape[2] != 3 or len(joints) == 0:
        raise BackendError(
            "clip-corrupt", f"{path}: 'joints' has the shape {joints.shape}, and (frames, joints, 3) is expected."
        )
    frames, count = joints.shape[:2]
    if len(names) != count:
        raise BackendError("clip-corrupt", f"{path}: there are {len(names)} names for {count} joints.")
    visible = _each(path, fields, "visible", frames, True).astype(bool)
    confidence = get("confidence", (frames, count)) if "confidence" in fields else np.ones((frames, count))
    confidence = np.where(visible[:, None], confidence, 0)
    _check_finite(path, "confidence", confidence)
    joints = _numbers(path, "joints", joints)
    bad = np.argwhere((confidence > 0) & ~np.isfinite(joints).all(-1))
    if len(bad):
        frame, joint = bad[0]
        raise BackendError(
            "clip-corrupt",
            f"{path}: joint '{names[joint]}' of frame {frame} is not a finite number ({len(bad)} such joints in all). "
            "Give joints that are absent the confidence 0.",
        )
    try:
        ordered, ordered_confidence = reorder(
            np.where(confidence[..., None] > 0, joints, 0), names, confidence.clip(0, 1)
        )
    except ValueError as error:
        raise BackendError("clip-corrupt", f"{path}: {error}.") from error
    required = ordered_confidence[:, [INDEX[name] for name in REQUIRED_JOINTS]]
    absent = np.argwhere((required <= 0) & visible[:, None])
    if len(absent):
        frame, joint = absent[0]
        raise BackendError(
            "clip-corrupt",
            f"{path}: frame {frame} has no {REQUIRED_JOINTS[joint]}; every frame needs {', '.join(REQUIRED_JOINTS)}.",
        )
    return Clip(
        ordered,
        ordered_confidence,
        _cameras(path, fields, frames, get),
        fps=_scalar(path, fields, "fps", 24.0),
        numbers=_frame_numbers(path, fields, frames),
        visible=visible,
        gain=_gain(path, fields, frames),
        detail=_scalar(path, fields, "detail", 1.0),
        name=_text(fields, "name") or path.stem,
        avatar=_text(fields, "avatar"),
    )


def _fields(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise BackendError("clip-missing", f"There is no clip {path}.")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            fields = {name: archive[name] for name in archive.files}
    except NPZ_ERRORS as error:
        raise BackendError("clip-corrupt", f"{path} cannot be read as a clip (.npz): {error}.") from error
    missing = [name for name in ("joints", "names", "K", "R", "t", "width", "height") if name not in fields]
    if missing:
        raise BackendError(
            "clip-corrupt",
            f"{path} lacks {', '.join(repr(m) for m in missing)}; it has {', '.join(sorted(fields)) or 'nothing'}.",
        )
    return fields


def _cameras(path: Path, fields: dict[str, Any], frames: int, get: Any) -> tuple[Camera, ...]:
    K, R, t = get("K", (frames, 3, 3)), get("R", (frames, 3, 3)), get("t", (frames, 3))
    for name, value in (("K", K), ("R", R), ("t", t)):
        _check_finite(path, name, value)
    width, height = (int(_scalar(path, fields, name, 0.0)) for name in ("width", "height"))
    if max(width, height) > MAX_SIDE:
        raise BackendError(
            "clip-corrupt",
            f"{path}: pictures of {width} x {height} pixels are too large, at most {MAX_SIDE} a side are possible.",
        )
    if "orthographic_scale" not in fields:
        flat = _each(path, fields, "orthographic", frames, False).astype(bool)
        near = _each(path, fields, "near", frames, 1e-3)
        return _checked(
            path,
            (Camera(K[i], R[i], t[i], width, height, bool(flat[i]), max(float(near[i]), 0)) for i in range(frames)),
        )
    scales = _numbers(path, "orthographic_scale", fields["orthographic_scale"])
    if scales.shape not in ((), (1,), (frames,)) or not (np.isfinite(scales) & (scales > 0)).all():
        raise BackendError(
            "clip-corrupt", f"{path}: 'orthographic_scale' must be one positive number, or one for each frame."
        )
    scale = np.broadcast_to(scales, (frames,))
    return _checked(
        path, (Camera.from_orthographic_scale(K[i], R[i], t[i], width, height, float(scale[i])) for i in range(frames))
    )


def _checked(path: Path, cameras: Iterable[Camera]) -> tuple[Camera, ...]:
    """The cameras; raises BackendError 'clip-corrupt' at the first that cannot be one."""
    out = []
    for i, camera in enumerate(cameras):
        try:
            check_calibration(camera)
        except ValueError as error:
            raise BackendError("clip-corrupt", f"{path}: the camera of frame {i} is impossible: {error}.") from error
        out.append(camera)
    return tuple(out)


def _each(path: Path, fields: dict[str, Any], name: str, frames: int, default: float) -> npt.NDArray[np.float64]:
    """A number (or truth value) for each frame, from one for all or from one for each."""
    value = np.asarray(fields.get(name, default))
    value = _numbers(path, name, value.astype(np.uint8) if value.dtype.kind == "b" else value)
    if value.shape not in ((), (1,), (frames,)) or not np.isfinite(value).all():
        raise BackendError("clip-corrupt", f"{path}: '{name}' must be one number, or one for each frame.")
    return np.broadcast_to(value, (frames,))


def _frame_numbers(path: Path, fields: dict[str, Any], frames: int) -> tuple[int, ...]:
    if "frames" not in fields:
        return tuple(range(frames))
    value = fields["frames"]
    if value.dtype.kind not in "iu" or value.shape != (frames,) or (np.diff(value.astype(np.int64)) <= 0).any():
        raise BackendError("clip-corrupt", f"{path}: 'frames' must be whole numbers that rise, one for each frame.")
    return tuple(int(n) for n in value)


def _gain(path: Path, fields: dict[str, Any], frames: int) -> npt.NDArray[np.float64]:
    value = _numbers(path, "gain", np.asarray(fields.get("gain", np.ones(3))))
    if value.shape not in ((3,), (frames, 3)) or not (np.isfinite(value) & (value >= 0)).all():
        raise BackendError("clip-corrupt", f"{path}: 'gain' must be three numbers from 0 on, or three for each frame.")
    return np.broadcast_to(value, (frames, 3))


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    return str(value.item()) if value is not None and value.dtype.kind == "U" and value.size == 1 else ""


def _scalar(path: Path, fields: dict[str, Any], name: str, default: float) -> float:
    if name not in fields:
        return default
    value = _numbers(path, name, fields[name])
    if value.size != 1 or not np.isfinite(value).all() or not value.item() > 0:
        raise BackendError("clip-corrupt", f"{path}: '{name}' must be one positive number.")
    if name in ("width", "height") and value.item() != int(value.item()):
        raise BackendError("clip-corrupt", f"{path}: '{name}' must be a whole number of pixels.")
    return float(value.item())


def _numbers(path: Path, name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if value.dtype.kind not in "fiu":
        raise BackendError("clip-corrupt", f"{path}: '{name}' holds {value.dtype}, and numbers are expected.")
    return np.asarray(value, np.float64)


def _check_finite(path: Path, name: str, value: npt.NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(1))
    if len(bad):
        raise BackendError("clip-corrupt", f"{path}: '{name}' of frame {bad[0]} is not a finite number.")
