# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a rendered clip: what they are called, what is in them, and which of them are there already.

Each picture says what it was drawn from, its *stamp*: the avatar, the pose, the camera, the settings and the program's
version. So a clip that has changed is never mixed up with the frames of its former self.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import __version__
from . import exr, png
from .clip import Clip
from .interface.messages import BackendError

#: What is drawn for a frame: a picture (H, W, 4) uint8 for PNG, planes by name for EXR.
Drawn = npt.NDArray[np.uint8] | Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class FrameFormat:
    """kind: 'png' (sRGB, straight alpha) or 'exr' (scene-linear, premultiplied). passes: of an EXR, keys of exr.PASSES.
    full: 32 bits for each of its channels. compression: of a PNG, 0 to 9."""

    kind: str = "png"
    passes: tuple[str, ...] = ()
    full: bool = False
    compression: int = 4

    @property
    def planes(self) -> tuple[str, ...]:
        """The renderer's planes that the passes need; none for a PNG."""
        return tuple(exr.PASSES[name][1] for name in self.passes) if self.kind == "exr" else ()

    def path(self, folder: Path, number: int) -> Path:
        """The file of the frame that the clip calls ``number``."""
        return folder / f"{number:05d}.{self.kind}"

    def write(self, path: Path, drawn: Drawn, stamp: str) -> None:
        """Write a frame, whole or not at all. Raises BackendError 'write-failed'."""
        try:
            if isinstance(drawn, Mapping):
                exr.write_exr(path, drawn, self.passes, self.full, stamp)
            else:
                png.write_png(path, drawn, stamp, self.compression)
        except OSError as error:
            raise write_failed(path, error) from error

    def stamp_of(self, path: Path) -> str | None:
        """The stamp of a file, '' where it has none; None where there is no whole picture."""
        try:
            return exr.read_stamp(path) if self.kind == "exr" else png.read_stamp(path)
        except FileNotFoundError:
            return None


def write_failed(path: Path, error: OSError) -> BackendError:
    """The error for a file that cannot be written."""
    return BackendError(
        "write-failed",
        f"{path} cannot be written: {error.strerror or error}. What is finished is whole; put it right (is the disk "
        "full?) and give the same command again.",
        str(error),
    )


class Stamps:
    """The stamps of a clip's frames."""

    def __init__(self, avatar: Path, clip: Clip, form: FrameFormat) -> None:
        with avatar.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        self._clip = clip
        settings = (content, __version__, form.kind, form.passes, form.full, clip.detail)
        self._common = hashlib.sha256(repr(settings).encode())

    def __getitem__(self, index: int) -> str:
        """The stamp of the clip's frame ``index``, counted from 0."""
        clip, digest = self._clip, self._common.copy()
        camera = clip.cameras[index]
        for array in (clip.joints[index], clip.confidence[index], camera.K, camera.R, camera.t, clip.gain[index]):
            digest.update(np.ascontiguousarray(array).tobytes())
        rest = (camera.width, camera.height, camera.orthographic, camera.near, bool(clip.visible[index]))
        digest.update(repr(rest).encode())
        return digest.hexdigest()[:32]


def remaining(
    folder: Path, clip: Clip, indices: Sequence[int], form: FrameFormat, stamps: Stamps, overwrite: bool
) -> list[int]:
    """The indices whose frames are not there yet, or not whole.

    Raises BackendError 'frames-differ' where one was drawn from something else and may not be overwritten.
    """
    if overwrite:
        return list(indices)
    missing = []
    for i in indices:
        path = form.path(folder, clip.numbers[i])
        stamp = form.stamp_of(path)
        if stamp is None:
            missing.append(i)
        elif stamp not in ("", stamps[i]):
            raise BackendError(
                "frames-differ",
                f"{path} was drawn from another avatar, clip or version: choose another folder, or draw it again with "
                "--overwrite.",
            )
    return missing


def make_folder(folder: Path) -> None:
    """Make the folder of the frames. Raises BackendError 'write-failed'."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "permission denied")
    except OSError as error:
        raise write_failed(folder, error) from error
