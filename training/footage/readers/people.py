# SPDX-License-Identifier: GPL-3.0-or-later
"""Following people from frame to frame, and fitting poses from files to the film that they are of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from ....neural_backend.interface.messages import BackendError
from ....neural_backend.interface.skeleton import JOINT_COUNT
from ..records import Detections
from .fields import POSES
from .layouts import Found

#: Frames that somebody may be out of sight before he counts as somebody new, and distance per size at which two
#: poses are no longer one person's.
_GAP, _FAR = 30, 0.35


@dataclass(frozen=True)
class Film:
    """The film that poses are of. name: the camera's. times: (N,) float64 seconds from the first frame."""

    name: str
    width: int
    height: int
    times: npt.NDArray[np.float64]


@dataclass
class Track:
    """One person over time: frame → pose, in order of frames."""

    poses: dict[int, Found] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last frame."""
        return next(reversed(self.poses))

    @property
    def size(self) -> float:
        """Sum of the sizes in all frames: whoever is long and large in the picture is whom the film is of."""
        return sum(_extent(pose) for pose in self.poses.values())


def detections(
    frames: Mapping[int, Sequence[Found]], film: Film, person: int | None, source: Path
) -> Detections:  # fmt: skip
    """The poses of one person. frames: number in the file names → people, in any order. person: 1 is the largest track,
    2 the next; None takes the largest.

    Raises BackendError 'poses-person' when there is none such, 'poses-corrupt' when the poses are not of this film.
    """
    placed = place(frames, film, source)
    tracks = sorted(follow(placed), key=lambda track: -track.size)
    wanted = 1 if person is None else person
    if not tracks:
        raise BackendError("poses-person", f"Nobody is in the poses of camera {film.name} ({source}).")
    if not 1 <= wanted <= len(tracks):
        raise BackendError(
            "poses-person",
            f"There is no person {wanted} in the poses of camera {film.name} ({source}); choose 1 to {len(tracks)}, 1 "
            "is the largest.",
        )
    count = len(film.times)
    points, confidence = np.zeros((count, JOINT_COUNT, 2), np.float32), np.zeros((count, JOINT_COUNT), np.float32)
    for index, pose in tracks[wanted - 1].poses.items():
        points[index], confidence[index] = pose.points, pose.confidence
    _check_size(points[confidence > 0], film, source)
    return Detections(points, confidence, film.times, film.width, film.height, str(source))


def number(path: Path) -> int | None:
    """The frame's number in a file name: its last number but for those of a suffix such as '_keypoints'."""
    found = re.findall(r"\d+", re.sub(r"_keypoints$", "", path.stem))
    return int(found[-1]) if found else None


def place(frames: Mapping[int, Sequence[Found]], film: Film, source: Path) -> dict[int, Sequence[Found]]:
    """Frames by their index in the film. Numbers count from 0, from 1 or, as with cut films, from anywhere."""
    count = len(film.times)
    first, last = min(frames, default=0), max(frames, default=0)
    # A film's last frames are not decoded by every program.
    slack = max(2, count // 100)
    start = 0 if last < count else first
    if last - start >= count + slack:
        if len(frames) > count + slack:
            raise BackendError(
                POSES, f"{source} has poses for {len(frames)} frames, but the film of camera {film.name} has {count}."
            )
        raise BackendError(
            POSES,
            f"{source} has poses for frames {first} to {last}, but the film of camera {film.name} has {count}; number "
            "them as the film's.",
        )
    return {n - start: people for n, people in sorted(frames.items()) if n - start < count}


def follow(frames: Mapping[int, Sequence[Found]]) -> list[Track]:
    """Tracks of all people. Each frame's poses continue the tracks whose last pose is nearest."""
    tracks: list[Track] = []
    for frame, everyone in sorted(frames.items()):
        people = [p for p in everyone if (p.confidence > 0).any()]
        open_tracks = [t for t in tracks if frame - t.last <= _GAP]
        cost = np.array([[_distance(t.poses[t.last], p) for p in people] for t in open_tracks])
        taken: set[int] = set()
        if cost.size:
            for row, column in zip(*linear_sum_assignment(np.minimum(cost, 10)), strict=True):
                if cost[row, column] < _FAR:
                    open_tracks[row].poses[frame] = people[column]
                    taken.add(int(column))
        tracks += [Track({frame: p}) for i, p in enumerate(people) if i not in taken]
    return tracks


def _extent(pose: Found) -> float:
    x0, y0, x1, y1 = pose.box
    return float(np.hypot(x1 - x0, y1 - y0))


def _distance(a: Found, b: Found) -> float:
    """Median distance of the joints both have, per size, less where the boxes overlap; 10 where nothing is shared."""
    both = (a.confidence > 0) & (b.confidence > 0)
    if not both.any():
        return 10.0
    size = max(_extent(a), _extent(b), 1.0)
    apart = float(np.median(np.linalg.norm(a.points[both] - b.points[both], axis=-1))) / size
    return apart * (1.5 - _overlap(a.box, b.box))


def _overlap(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inner = max(width, 0.0) * max(height, 0.0)
    union = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - inner
    return inner / union if union > 0 else 0.0


def _check_size(points: npt.NDArray[np.float32], film: Film, source: Path) -> None:
    """Poses in 0..1, or of a picture of another size, must not be taken for pixels of this one."""
    if np.abs(points).max() <= 2:
        raise BackendError(
            POSES,
            f"{source} holds positions from 0 to 1 instead of pixels; run OpenPose with --keypoint_scale 0, or convert "
            "them.",
        )
    size = np.array([film.width, film.height])
    outside = ((points < -0.1 * size) | (points > 1.1 * size)).any(-1).mean()
    if outside > 0.2:
        raise BackendError(
            POSES,
            f"{source} was made on a picture of another size: {outside:.0%} of its joints lie outside the "
            f"{film.width}x{film.height} of camera {film.name}.",
        )
