# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of several people is followed: who is in the film, and who of those in a frame is the one.

MediaPipe finds one person in a picture. Others are found by painting over the ones found and looking again. A survey of
frames spread over the film says who is the largest (or the second largest…); a person is known again by place, size and
the colours of trunk and thighs. Two people in the same clothes who change places out of sight are mistaken for one
another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .holistic import Finder
from .records import Floats
from .video import Bytes, Frame, Source
from .views import Box, cut, overlap

#: At most so many people are looked for in a picture.
MOST_PEOPLE = 4

#: At most so many frames are looked at before the film is read, and at least so many seconds apart.
_SURVEYED, _APART = 24, 1.0

#: A landmark counts from this visibility.
VISIBLE = 0.3

#: People are told apart by colours less alike than this (Bhattacharyya coefficient, 0..1). The same person turned round
#: or in the shade comes to 0.5 and more.
_ALIKE = 0.35

#: MediaPipe's landmarks of the trunk's corners in turn, and of hip and knee.
_TRUNK, _THIGHS = [11, 12, 24, 23], ((23, 25), (24, 26))

#: The pictures that people are looked for in are at most this large.
_SEARCH_SIZE = 640


@dataclass(frozen=True)
class Person:
    """Somebody in a frame. box: around the visible landmarks. colours: see ``_colours``; empty where they do not
    matter."""

    box: Box
    colours: Floats

    @property
    def size(self) -> float:
        """The longer side of the box, pixels of the film."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


def body_box(body: Floats, width: int, height: int) -> Box | None:
    """The box around the visible landmarks inside the film, (33, 3) as in Landmarks; None where fewer than 4 show."""
    inside = (body[:, :2] >= 0).all(1) & (body[:, 0] <= width) & (body[:, 1] <= height)
    points = body[inside & (body[:, 2] > VISIBLE), :2]
    if len(points) < 4:
        return None
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def find_people(finder: Finder, rgb: Bytes, region: Box | None = None) -> list[Person]:
    """Everybody in a picture (or in a cut of it), the largest first, MOST_PEOPLE at most.

    People under a tenth of the picture's height are not found.
    """
    height, width = rgb.shape[:2]
    region = region or (0, 0, width, height)
    picture = cut(rgb, region, _SEARCH_SIZE).copy()
    paint = tuple(int(v) for v in picture.mean((0, 1)))
    scale = picture.shape[1] / (region[2] - region[0])
    people: list[Person] = []
    for _ in range(MOST_PEOPLE):
        found = finder.look(picture, region)
        box = body_box(found.landmarks.body, width, height) if found else None
        if found is None or box is None:
            break
        if any(overlap(box, p.box) > 0.6 for p in people):  # seen through the paint
            break
        people.append(Person(box, _colours(rgb, found.landmarks.body)))
        pad = 0.1 * people[-1].size
        x0, y0 = (int((box[i] - pad - region[i]) * scale) for i in (0, 1))
        x1, y1 = (int((box[i] + pad - region[i - 2]) * scale) for i in (2, 3))
        cv2.rectangle(picture, (x0, y0), (x1, y1), paint, -1)
    return sorted(people, key=lambda p: -p.size)


def survey(source: Source, finder: Finder, rank: int) -> Person | None:
    """The person that is the ``rank``-th largest (1: the largest), as seen at their largest; None where nobody is
    found.

    At most 24 frames are looked at, spread over the film.
    """
    count = int(np.clip(source.times[-1] / _APART + 2, 1, _SURVEYED)) if len(source) else 0
    identities: list[list[Person]] = []
    for index in np.unique(np.linspace(0, len(source) - 1, count).round().astype(int)):
        for frame in source.read(int(index), int(index) + 1):
            _sort_in(identities, find_people(finder, backed(frame)))
    if len(identities) < rank:
        return None
    largest = sorted(identities, key=lambda seen: -max(p.size for p in seen))[rank - 1]
    return max(largest, key=lambda p: p.size)


def _sort_in(identities: list[list[Person]], people: Sequence[Person]) -> None:
    """Give each person of a frame to the one of the earlier frames whose colours are most alike."""
    free = list(range(len(identities)))
    for person in people:
        scores = {i: max(alike(person, known) for known in identities[i]) for i in free}
        best = max(scores, key=lambda i: scores[i], default=-1)
        if best >= 0 and scores[best] > _ALIKE:
            identities[best].append(person)
            free.remove(best)
        else:
            identities.append([person])


def choose(people: Sequence[Person], reference: Person, last: Box | None, lost: int) -> Person | None:
    """The one of a frame's people who is followed, or None.

    reference: who, from the survey. last: where they were ``lost`` frames ago; None before they were found.
    """
    best, most = None, 0.0
    for person in people:
        likeness = alike(person, reference)
        near = overlap(person.box, last) if last is not None else 0.0
        if near > 0.3 and lost <= 30:  # nobody else was there a moment ago
            likeness = max(likeness, 0.5) + near
        elif likeness < _ALIKE:
            continue
        score = likeness + 0.5 * min(person.size / reference.size, 1)
        if score > most:
            best, most = person, score
    return best


def alike(a: Person, b: Person) -> float:
    """How alike two people's colours are, 0..1: of trunk and thighs the one that is less so (Bhattacharyya
    coefficient); 0.5 where neither shows."""
    if not a.colours.size or not b.colours.size:
        return 0.5
    known = a.colours.any(1) & b.colours.any(1)
    return float(np.sqrt(a.colours * b.colours).sum(1)[known].min()) if known.any() else 0.5


def backed(frame: Frame) -> Bytes:
    """The picture over grey where it brings an alpha: what lies under a clear alpha is no picture."""
    if frame.alpha is None:
        return frame.rgb
    alpha = frame.alpha[..., None].astype(np.uint16)
    return ((frame.rgb * alpha + 128 * (255 - alpha)) // 255).astype(np.uint8)


def _colours(rgb: Bytes, body: Floats) -> Floats:
    """Two smoothed histograms, (2, 4 * 16 * 16) over Lab, each with sum 1: of the trunk and of the thighs. All 0 where
    too little of a part shows."""
    side = 0.2 * float(np.linalg.norm(body[23, :2] - body[24, :2])) + 1
    thighs = [np.stack([body[hip, :2] - (side, 0), body[hip, :2] + (side, 0), body[knee, :2]]) for hip, knee in _THIGHS]
    return np.stack([_histogram(rgb, [body[_TRUNK, :2]]), _histogram(rgb, thighs)])


def _histogram(rgb: Bytes, polygons: list[Floats]) -> Floats:
    corners = np.concatenate(polygons)
    x0, y0 = np.maximum(corners.min(0), 0).astype(int)
    x1, y1 = np.minimum(corners.max(0) + 1, (rgb.shape[1], rgb.shape[0])).astype(int)
    nothing = np.zeros(4 * 16 * 16, np.float32)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return nothing
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.rint(polygon - (x0, y0)).astype(np.int32)], 255)
    lab = cv2.cvtColor(np.ascontiguousarray(rgb[y0:y1, x0:x1]), cv2.COLOR_RGB2LAB)
    histogram = cv2.calcHist([lab], [0, 1, 2], mask, [4, 16, 16], [0, 256, 64, 192, 64, 192])
    if histogram.sum() < 16:
        return nothing
    for axis in range(3):  # a shade lighter or darker is still alike
        histogram = 2 * histogram + np.roll(histogram, 1, axis) + np.roll(histogram, -1, axis)
    return np.asarray(histogram.ravel() / histogram.sum(), np.float32)
