# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage as upright RGB frames with their times: videos (PyAV, or OpenCV in its place) and folders of pictures."""

from __future__ import annotations

import glob
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.messages import BackendError

Bytes = npt.NDArray[np.uint8]

#: What is taken for a picture in a folder.
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")

#: Times further from even steps than this part of a frame make the frame rate a variable one.
_UNEVEN = 0.25

#: What a folder of pictures is played at: it does not say.
PICTURE_RATE = 30.0


@dataclass(frozen=True)
class Frame:
    """A decoded frame. index: counted from 0. rgb: (H, W, 3) uint8 sRGB, straight, upright. alpha: (H, W) uint8, or
    None where the footage has none."""

    index: int
    rgb: Bytes
    alpha: Bytes | None = None


class Source(ABC):
    """Opened footage. Nothing is kept in memory but the frames' times.

    path: file or folder. name: for people and folders. width, height: of the upright picture, pixels. times: (N,)
    float64 seconds from the first frame, rising. fps: frames per second, the mean where ``variable`` is True.
    has_alpha: True where every frame brings an alpha, and that of the first is not solid throughout. lost: frames that
    were asked for and could not be decoded.
    """

    def __init__(self, path: Path, width: int, height: int, times: npt.NDArray[np.float64]) -> None:
        self.path, self.name = path, path.stem if path.is_file() else path.name
        self.width, self.height = width, height
        self.times = times
        self.fps, self.variable = frame_rate(times)
        self.has_alpha = False
        self.lost: set[int] = set()
        self._warnings: list[str] = []

    def __len__(self) -> int:
        return len(self.times)

    @property
    def warnings(self) -> list[str]:
        """Sentences for people; reading may add to them."""
        if not self.lost:
            return list(self._warnings)
        first = min(self.lost)
        return [
            *self._warnings,
            f"{self.path} is damaged: {len(self.lost)} of its {len(self)} frames cannot be decoded (the first is frame "
            f"{first}, at {self.times[first]:.2f} s) and are left out; copy it from the camera again if you need them.",
        ]

    @abstractmethod
    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """The frames start … stop - 1 in their order, each with its right index wherever reading begins. Frames that
        cannot be decoded are left out; nothing is ever put in their place."""

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Bytes]]:
        """(index, rgb) of the frames start … stop - 1; see ``read``."""
        for frame in self.read(start, stop):
            yield frame.index, frame.rgb

    def alpha(self, index: int) -> Bytes | None:
        """The alpha that the footage itself brings for a frame, (H, W) uint8, or None."""
        if not self.has_alpha:
            return None
        frame = next(self.read(index, index + 1), None)
        return None if frame is None else frame.alpha

    def _lose(self, start: int, stop: int) -> None:
        """The frames start … stop - 1 could not be decoded."""
        self.lost.update(range(start, stop))


def open_source(path: str | Path, rate: float | None = None) -> Source:
    """Open a video file, a folder of pictures, or a pattern such as ``shots/*.png``.

    rate: pictures a second, for folders of pictures, which do not say; None for PICTURE_RATE.
    Videos are read with PyAV; where it is missing or refuses the file, with OpenCV. Rotation in the file is applied.
    Raises BackendError 'video-missing', 'video-unreadable' (damaged, or not a video), 'video-empty' (no frames, or
    only sound).
    """
    from .video_pictures import PictureSource

    text = str(path)
    path = Path(path)
    if path.is_dir():
        pictures = [p for p in path.iterdir() if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".")]
        if not pictures:
            raise BackendError(
                "video-empty", f"The folder {path} holds no pictures (PNG, JPEG, WebP, TIFF); give one that does."
            )
        return PictureSource(path, sorted(pictures, key=natural), rate)
    if not path.exists() and glob.has_magic(text):
        pictures = [p for p in map(Path, glob.glob(text)) if p.suffix.lower() in PICTURE_ENDINGS]
        if not pictures:
            raise BackendError("video-missing", f"No picture matches {text}; check the pattern.")
        return PictureSource(path.parent, sorted(pictures, key=natural), rate)
    if not path.exists():
        raise BackendError("video-missing", f"There is no file {path}; check the name.")
    if path.suffix.lower() in PICTURE_ENDINGS:
        return PictureSource(path, [path], rate)
    return _open_video(path)


def _open_video(path: Path) -> Source:
    refusal = ""
    try:
        from .video_av import AvSource

        return AvSource(path)
    except ImportError:
        refusal = "PyAV is not installed"
    except BackendError as error:
        if error.code != "video-unreadable":
            raise
        refusal = error.details or error.message
    from .video_cv import CvSource

    try:
        source = CvSource(path)
    except BackendError as error:
        raise BackendError(error.code, error.message, f"PyAV: {refusal}") from error
    return source


def unreadable(path: Path, why: str = "") -> BackendError:
    """The error for a file that no decoder reads. why: the decoder's words, for the log."""
    if path.stat().st_size == 0:
        return BackendError("video-empty", f"{path} is an empty file; copy it from the camera again.")
    return BackendError(
        "video-unreadable",
        f"{path} cannot be read as a video: it is damaged, cut off or not a video; copy it from the camera again, or "
        "convert it to MP4 (H.264).",
        why,
    )


def opaque(alpha: Bytes) -> bool:
    """True for the alpha that converters and renderers add and that cuts out nobody: solid everywhere."""
    return bool(alpha.min() == 255)


def frame_rate(times: npt.NDArray[np.float64]) -> tuple[float, bool]:
    """The frames per second of rising times (N,) in seconds, and whether they come at uneven steps."""
    if len(times) < 2:
        return PICTURE_RATE, False
    steps = np.diff(times)
    mean = (times[-1] - times[0]) / (len(times) - 1)
    return float(1 / mean), bool((np.abs(steps - np.median(steps)) > _UNEVEN * np.median(steps)).any())


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A sorting key by which frame 2 comes before frame 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(1, int(p), "") if p.isdecimal() else (0, 0, p) for p in parts if p]
