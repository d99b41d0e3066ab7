# SPDX-License-Identifier: GPL-3.0-or-later
"""MediaPipe Holistic, with the models that its wheel carries: one person's landmarks and segmentation in a picture."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from ...neural_backend.interface.messages import BackendError
from .landmarks import Landmarks
from .records import Floats
from .video import Bytes
from .views import Box


@dataclass(frozen=True)
class Found:
    """A person in a picture. landmarks: in pixels of the film. view: the film's cut that was looked at. mask: (h, w)
    float32 in 0..1 of that cut, or None where it was not asked for."""

    landmarks: Landmarks
    view: Box
    mask: Floats | None = None


def available() -> bool:
    """True where MediaPipe is installed."""
    return importlib.util.find_spec("mediapipe") is not None


class Holistic:
    """Follows one person through pictures of one and the same cut of the film, until ``reset``.

    MediaPipe's own smoothing over time is off: it lags behind fast motion and would make a frame depend on where
    reading began. Raises BackendError 'pose-missing' where MediaPipe is not installed.
    """

    def __init__(self) -> None:
        self._module = _solutions("holistic")
        self._model: Any = None
        self._stale = False

    def reset(self) -> None:
        """Forget the person; the next picture is searched anew."""
        self._stale = True

    def look(self, rgb: Bytes, view: Box) -> Found | None:
        """Find the person. rgb: (h, w, 3) uint8, the film's cut ``view``, scaled at will."""
        with _quiet():  # models are loaded in threads of their own, until the first picture is done
            if self._model is None:
                self._model = self._module.Holistic(
                    model_complexity=1,  # 0 and 2 are not in the wheel
                    smooth_landmarks=False,
                    enable_segmentation=True,
                    smooth_segmentation=False,
                    refine_face_landmarks=True,
                )
            elif self._stale:
                self._model.reset()
            self._stale = False
            result = self._model.process(np.ascontiguousarray(rgb))
        if result.pose_landmarks is None or result.pose_world_landmarks is None:
            return None
        return Found(
            Landmarks(
                _body(result, view),
                _points(result.pose_world_landmarks),
                _scaled(result.left_hand_landmarks, view),
                _scaled(result.right_hand_landmarks, view),
                _scaled(result.face_landmarks, view),
            ),
            view,
            None if result.segmentation_mask is None else np.asarray(result.segmentation_mask, np.float32),
        )

    def close(self) -> None:
        """Free the models."""
        if self._model is not None:
            with _quiet():
                self._model.close()


class Finder:
    """Finds a person in single pictures, without hands, face and segmentation: a third of Holistic's time."""

    def __init__(self) -> None:
        self._module = _solutions("pose")
        self._model: Any = None

    def look(self, rgb: Bytes, view: Box) -> Found | None:
        """The most prominent person, or None; see Holistic.look."""
        with _quiet():
            if self._model is None:
                self._model = self._module.Pose(static_image_mode=True, model_complexity=1)
            result = self._model.process(np.ascontiguousarray(rgb))
        if result.pose_landmarks is None or result.pose_world_landmarks is None:
            return None
        return Found(Landmarks(_body(result, view), _points(result.pose_world_landmarks)), view)

    def close(self) -> None:
        """Free the models."""
        if self._model is not None:
            with _quiet():
                self._model.close()


def _points(landmarks: Any) -> Floats:
    return np.array([(p.x, p.y, p.z) for p in landmarks.landmark], np.float32)


def _scaled(landmarks: Any, view: Box) -> Floats | None:
    """Landmarks, (N, 3), in pixels of the film; their depth is in units of the picture's width."""
    if landmarks is None:
        return None
    width, height = view[2] - view[0], view[3] - view[1]
    return np.asarray(_points(landmarks) * (width, height, width) + (view[0], view[1], 0), np.float32)


def _body(result: Any, view: Box) -> Floats:
    points = _scaled(result.pose_landmarks, view)
    assert points is not None
    points[:, 2] = [p.visibility for p in result.pose_landmarks.landmark]
    return points


def _solutions(name: str) -> ModuleType:
    """The module mediapipe.solutions.NAME, without the rest of MediaPipe, which would load slowly."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _quiet():
            return importlib.import_module(f"mediapipe.python.solutions.{name}")
    except ImportError as error:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        late = f" It has no release for Python {python}: use 3.12 or older." if sys.version_info >= (3, 13) else ""
        raise BackendError(
            "pose-missing",
            'Finding poses needs MediaPipe 0.10.14: run pip install "PATH-TO-CHECKOUT[footage]", or give poses that '
            f"you have with --poses.{late}",
            str(error),
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's chatter from the user's terminal: Python's warnings, and what its C++ writes to stderr
    whenever it loads a model, which it does at the first hand or face."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(nothing)
        os.close(kept)
