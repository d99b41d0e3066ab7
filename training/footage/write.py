# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a dataset, version 1 (docs/dataset.md): pictures cut from the film, joints, cameras, and frames.npz."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import JOINTS
from .framing import Framing, cut
from .manifest import write_bytes, write_json
from .records import CalibratedCamera, Motion
from .tables import Table

VERSION = 1

Image = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

#: Pictures that may wait for the encoder at once.
_QUEUE = 8
#: 2 % larger than level 9, in a fifth of the time: about 95 kB for a person 480 px high.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED)
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 85)


class Film(Protocol):
    """The frames of one camera, upright, in order."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Image]]:
        """(index, (H, W, 3) uint8 RGB) of the frames from ``start`` up to, not including, ``stop``."""
        ...


@dataclass(frozen=True)
class PictureJob:
    """The pictures of one camera.

    frames: (T,) index of the film's frame of each row, -1 where no picture is stored. alpha: the mask of a frame of the
    film, (h, w) uint8 of any size. samples: rows that are also kept with their surroundings, for the report.
    """

    camera: CalibratedCamera
    film: Film
    framing: Framing
    frames: npt.NDArray[np.int64]
    alpha: Callable[[int], Image]
    samples: frozenset[int] = frozenset()


def write_pictures(job: PictureJob, folder: Path, table: Path, progress: Progress) -> None:
    """Write images/NAME and samples/NAME in ``folder``, going on behind the last row of ``table``.

    Raises BackendError 'footage-video' where a frame cannot be read any more.
    """
    name = job.camera.name
    for kind in ("images", "samples") if job.samples else ("images",):
        (folder / kind / name).mkdir(parents=True, exist_ok=True)
    with Table(table, 1) as done:
        finished = {int(row) for row in done.rows[:, 0]}
        wanted = {int(row) for row in np.flatnonzero(job.frames >= 0)}
        todo = sorted(wanted - finished)
        progress(len(wanted) - len(todo), len(wanted))
        if todo:
            for number, row in enumerate(_cut_and_write(job, todo, folder), len(wanted) - len(todo) + 1):
                done.append([row])
                progress(number, len(wanted))


def _cut_and_write(job: PictureJob, rows: Sequence[int], folder: Path) -> Iterator[int]:
    """Write the pictures of ``rows``, two at a time; yields each row once it is written, in the film's order."""
    of_frame: dict[int, list[int]] = {}
    for row in rows:
        of_frame.setdefault(int(job.frames[row]), []).append(row)
    waiting: deque[Future[int]] = deque()
    with ThreadPoolExecutor(2) as pool:
        try:
            for index, film in job.film.frames(min(of_frame), max(of_frame) + 1):
                for row in of_frame.pop(index, ()):
                    waiting.append(pool.submit(_write_picture, job, row, film, folder))
                while len(waiting) >= _QUEUE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if of_frame:
        missing = min(of_frame)
        raise BackendError(
            "footage-video",
            f"{job.camera.name}: frame {missing} could be read when the pose was looked for, but not now; is the file "
            "still whole?",
        )


def _write_picture(job: PictureJob, row: int, film: Image, folder: Path) -> int:
    K, name = job.framing.K[row], f"{row:05d}"
    picture = cut(job.camera, K, job.framing.size, film, job.alpha(int(job.frames[row])))
    if row in job.samples:
        around = cut(job.camera, K, job.framing.size, film, None)
        write_bytes(folder / "samples" / job.camera.name / f"{name}.jpg", encode(around, ".jpg"))
    write_bytes(folder / "images" / job.camera.name / f"{name}.png", encode(picture, ".png"))
    return row


def encode(picture: Image, kind: str) -> bytes:
    """A picture (RGB or RGBA) as the bytes of a '.png' or '.jpg' file."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    good, data = cv2.imencode(kind, cv2.cvtColor(picture, order), _PNG if kind == ".png" else _JPEG)
    if not good:
        raise BackendError("footage-picture", f"A picture of {picture.shape} could not be encoded as {kind}.")
    return bytes(data.tobytes())


def write_joints(folder: Path, motion: Motion, holdout: float, clip: str) -> None:
    """joints.npz. holdout: the share of the rows, at the end, that become the split 'test_near'."""
    count = len(motion)
    split = np.full(count, "train", dtype="<U9")
    split[count - round(count * holdout) :] = "test_near"
    write_npz(
        folder / "joints.npz", joints=motion.joints.astype(np.float32), names=np.array(JOINTS), split=split,
        confidence=motion.confidence.astype(np.float32), clip=np.full(count, clip), times=motion.times,
    )  # fmt: skip


def write_frames(
    folder: Path, framings: Sequence[Framing], valid: npt.NDArray[np.bool_], source_frame: npt.NDArray[np.int64]
) -> None:
    """frames.npz. valid, source_frame: (T, C)."""
    write_npz(
        folder / "frames.npz", K=np.stack([f.K for f in framings], 1), valid=valid, source_frame=source_frame,
        filmed=np.stack([f.filmed for f in framings], 1),
    )  # fmt: skip


def write_cameras(
    folder: Path, cameras: Sequence[CalibratedCamera], framings: Sequence[Framing], heldout: Sequence[str], credit: str
) -> None:
    """cameras.json. K of a camera is the middle one of its pictures', for people; each picture's is in frames.npz."""
    entries = []
    for camera, framing in zip(cameras, framings, strict=True):
        middle = framing.K[np.argsort(framing.K[:, 0, 0])[len(framing.K) // 2]]
        film = {
            "width": camera.camera.width, "height": camera.camera.height, "K": camera.camera.K.tolist(),
            "distortion": list(camera.distortion), "fisheye": camera.fisheye,
        }  # fmt: skip
        entries.append({
            "name": camera.name, "K": middle.tolist(), "R": camera.camera.R.tolist(), "t": camera.camera.t.tolist(),
            "width": framing.size, "height": framing.size, "film": film,
        })  # fmt: skip
    data: dict[str, Any] = {
        "version": VERSION, "cameras": entries,
        "train_cameras": [c.name for c in cameras if c.name not in heldout], "heldout_cameras": list(heldout),
    }  # fmt: skip
    write_json(folder / "cameras.json", data | ({"credit": credit} if credit else {}))


def write_npz(path: Path, **arrays: npt.ArrayLike) -> None:
    """A compressed .npz, under a temporary name until it is whole."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez_compressed(buffer, **named)
    write_bytes(path, buffer.getvalue())
