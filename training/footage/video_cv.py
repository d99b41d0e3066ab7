# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos through OpenCV, where PyAV is missing or refuses a file. Slower to open and to seek, but just as exact."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ...neural_backend.interface.messages import BackendError
from .video import PICTURE_RATE, Frame, Source, unreadable


class CvSource(Source):
    """A video file. Its frames are counted, and their times read, by decoding it once; seeking decodes from the start,
    because OpenCV's own seeking is off by some frames in many files."""

    def __init__(self, path: Path) -> None:
        with _open(path) as capture:
            stamps = []
            while capture.grab():
                stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            rate = capture.get(cv2.CAP_PROP_FPS) or PICTURE_RATE
        if not stamps:
            raise BackendError(
                "video-empty", f"{path} holds no pictures; check that it is the right file and that it plays."
            )
        with _open(path) as capture:
            ok, picture = capture.read()
        if not ok:
            raise unreadable(path, "OpenCV cannot decode the first frame")
        times = np.asarray(stamps, np.float64)
        if len(times) > 1 and not (np.diff(times) > 0).all():
            times = np.arange(len(times)) / rate
        super().__init__(path, picture.shape[1], picture.shape[0], times - times[0])

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See Source."""
        stop = len(self) if stop is None else min(stop, len(self))
        with _open(self.path) as capture:
            for index in range(stop):
                if not capture.grab():
                    self._lose(max(index, start), stop)
                    return
                if index >= start:
                    ok, picture = capture.retrieve()
                    if ok and picture.shape[:2] == (self.height, self.width):
                        yield Frame(index, np.ascontiguousarray(picture[..., ::-1]))
                    else:
                        self._lose(index, index + 1)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[cv2.VideoCapture]:
    """A capture that turns frames upright. Raises BackendError 'video-unreadable'."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # it tells stderr about every damaged block
    # Only the decoder for files: the others take a name with digits for a pattern of pictures, or open windows.
    told = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    finally:
        cv2.utils.logging.setLogLevel(told)
    try:
        if not capture.isOpened():
            raise unreadable(path, "OpenCV cannot open it")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        yield capture
    finally:
        capture.release()
