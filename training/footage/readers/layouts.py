# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order other programs list the joints of a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND

Floats = npt.NDArray[np.float32]

_COCO17 = (
    "Nose", "LEye", "REye", "LEar", "REar", "LShoulder", "RShoulder", "LElbow", "RElbow", "LWrist", "RWrist", "LHip",
    "RHip", "LKnee", "RKnee", "LAnkle", "RAnkle",
)  # fmt: skip
_FEET = ("LBigToe", "LSmallToe", "LHeel", "RBigToe", "RSmallToe", "RHeel")
_HALPE_REST = ("", "Neck", "MidHip", "LBigToe", "RBigToe", "LSmallToe", "RSmallToe", "LHeel", "RHeel")


def _columns(names: Sequence[str]) -> tuple[int, ...]:
    return tuple(INDEX[name] if name else -1 for name in names)


_HANDS = (*range(LEFT_HAND, LEFT_HAND + 21), *range(RIGHT_HAND, RIGHT_HAND + 21))

BODY_25 = _columns(BODY_JOINTS)
COCO_17 = _columns(_COCO17)
HALPE_26 = _columns((*_COCO17, *_HALPE_REST))
#: 17 of the body, 6 of the feet, 68 of the face (without pupils), 21 of each hand.
WHOLE_BODY = (*COCO_17, *_columns(_FEET), *range(FACE, FACE + 68), *_HANDS)

#: By number of joints, which is how files of one person's keypoints differ.
BY_COUNT: dict[int, tuple[int, ...]] = {25: BODY_25, 17: COCO_17, 26: HALPE_26, 133: WHOLE_BODY}


@dataclass(frozen=True)
class Found:
    """One person in one picture. points: (137, 2) float32 pixels, 0 where absent. confidence: (137,) float32, 0..1."""

    points: Floats
    confidence: Floats

    @property
    def box(self) -> npt.NDArray[np.float64]:
        """x0, y0, x1, y1 around the joints that are there; all 0 where there are none."""
        there = self.points[self.confidence > 0]
        return np.concatenate([there.min(0), there.max(0)]).astype(np.float64) if len(there) else np.zeros(4)


class Keypoints:
    """Gathers one person's keypoints from one or more lists."""

    def __init__(self) -> None:
        self._points = np.zeros((JOINT_COUNT, 2), np.float32)
        self._confidence = np.zeros(JOINT_COUNT, np.float32)

    def add(self, columns: Sequence[int], points: npt.ArrayLike, scores: npt.ArrayLike) -> None:
        """points: (N, 2); scores: (N,); columns: N of our indices, -1 for joints that we have not."""
        here, score = np.asarray(points, np.float32), np.asarray(scores, np.float32)
        for column, point, confidence in zip(columns, here, score, strict=True):
            if column >= 0 and confidence > 0 and np.isfinite(point).all():
                self._points[column], self._confidence[column] = point, min(confidence, 1.0)

    def result(self) -> Found:
        """The person; neck and middle of the hips, where they are missing, lie half way between their sides."""
        for name, left, right in (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip")):
            sides = [INDEX[left], INDEX[right]]
            if self._confidence[INDEX[name]] == 0 and (self._confidence[sides] > 0).all():
                self._points[INDEX[name]] = self._points[sides].mean(0)
                self._confidence[INDEX[name]] = self._confidence[sides].min()
        return Found(self._points, self._confidence)
