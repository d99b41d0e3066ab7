# SPDX-License-Identifier: GPL-3.0-or-later
"""Following one person through a film.

The model looks at a cut of the film around the person, the *view*, at the film's own resolution where that is not too
large: hands and face are found more often than in the whole picture, and others around are left out. A view stands
still until the person comes near its border; then a new one is cut and the model begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.skeleton import LEFT_HAND
from .holistic import Finder, Found, Holistic
from .people import VISIBLE, Person, body_box, choose, find_people
from .records import Detections
from .video import Bytes
from .views import Box, cut, overlap

#: The view reaches beyond the person's box by this part of the box's longer side.
_ROOM = 0.3

#: A new view is cut when the person comes closer to its border than this part of their size, or fills less of it.
_CLOSE, _SMALL = 0.06, 0.35

#: A person who is nowhere to be seen in the whole picture is looked for in parts of it, in one frame out of so many.
_SELDOM = 10

#: The box of the next frame overlaps the last one's by at least this, or somebody else was taken for the person.
_STEADY = 0.15

#: Where it overlaps by less than this, the person leapt, and the model looks once more.
_LEAP = 0.75


@dataclass(frozen=True)
class Place:
    """What a chunk leaves to the next. box: where the person was last seen, None before. lost: frames since then."""

    box: Box | None = None
    lost: int = 0

    def pack(self) -> npt.NDArray[np.float64]:
        """(6,) float64."""
        return np.array([self.box is not None, *(self.box or (0, 0, 0, 0)), self.lost], np.float64)

    @staticmethod
    def unpack(data: npt.NDArray[np.float64]) -> Place:
        """The place that ``pack`` made an array of."""
        known, x0, y0, x1, y1, lost = (float(v) for v in data)
        return Place((x0, y0, x1, y1) if known else None, int(lost))


class Tracker:
    """Follows a person. reference: who. size: the longer side of what the model looks at.

    ``view`` is the cut that the model looks at; ``place`` is where the person was last seen.
    """

    def __init__(self, model: Holistic, finder: Finder, reference: Person, size: int) -> None:
        self._model, self._finder, self._reference, self._size = model, finder, reference, size
        self.place = Place()
        self.view: Box = (0, 0, 0, 0)
        self._fresh = True

    def begin(self, place: Place) -> None:
        """Begin a chunk: whatever was known but ``place`` is forgotten."""
        self.place, self._fresh = place, True

    def follow(self, rgb: Bytes) -> Found | None:
        """The person in the next frame, (H, W, 3) uint8; None where they are not seen."""
        height, width = rgb.shape[:2]
        before, seen = self.place.box, None
        if before is not None and self.place.lost == 0:
            if self._fresh or not _fits(before, self.view, width, height):
                self._cut(before, width, height)
            seen = self._look(rgb, before)
            if seen and overlap(before, seen[1]) < _LEAP:
                seen = self._look(rgb, seen[1]) or seen  # the model itself looks close to where the person was
            if seen and not _fits(seen[1], self.view, width, height):
                # The person came to the view's border within one frame, perhaps beyond it.
                self._cut(seen[1], width, height)
                seen = self._look(rgb, seen[1]) or seen
        if seen is None:
            person = self._search(rgb)
            if person is not None:
                self._cut(person.box, width, height)
                seen = self._look(rgb, person.box)
        if seen is None:
            self.place = Place(before, self.place.lost + 1)
            return None
        self.place = Place(seen[1])
        return seen[0]

    def _look(self, rgb: Bytes, near: Box) -> tuple[Found, Box] | None:
        """Look at the view: who is found there, and their box, if it is where the person was."""
        found = self._model.look(cut(rgb, self.view, self._size), self.view)
        box = body_box(found.landmarks.body, rgb.shape[1], rgb.shape[0]) if found else None
        if found is None or box is None or overlap(box, near) < _STEADY:
            self._fresh = True
            return None
        return found, box

    def _search(self, rgb: Bytes) -> Person | None:
        people = find_people(self._finder, rgb)
        person = choose(people, self._reference, self.place.box, self.place.lost)
        if person is None and self.place.lost % _SELDOM == 0:
            for part in _parts(rgb.shape[1], rgb.shape[0]):
                people = find_people(self._finder, rgb, part)
                person = choose(people, self._reference, self.place.box, self.place.lost)
                if person is not None:
                    break
        return person

    def _cut(self, box: Box, width: int, height: int) -> None:
        """A view around a box, in whole pixels."""
        room = _ROOM * max(box[2] - box[0], box[3] - box[1]) + 8
        x0, y0 = (max(int(v - room), 0) for v in box[:2])
        x1, y1 = min(int(box[2] + room), width), min(int(box[3] + room), height)
        self.view = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        self._model.reset()
        self._fresh = False


def joint_box(detections: Detections, index: int) -> Box | None:
    """The box around the body in a frame, pixels of the film; None where fewer than 4 joints were found."""
    known = detections.confidence[index, :LEFT_HAND] > VISIBLE
    if known.sum() < 4:
        return None
    points = detections.points[index, :LEFT_HAND][known]
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def _fits(box: Box, view: Box, width: int, height: int) -> bool:
    """True while a person may go on being looked for in a view."""
    size = max(box[2] - box[0], box[3] - box[1])
    limits = (0, 0, width, height)
    signs = (1, 1, -1, -1)
    sides = zip(box, view, limits, signs, strict=True)
    clear = all(v == limit or s * (b - v) >= _CLOSE * size for b, v, limit, s in sides)
    return clear and size >= _SMALL * max(view[2] - view[0], view[3] - view[1])


def _parts(width: int, height: int) -> list[Box]:
    """Overlapping parts, each two thirds as wide and high as the picture."""
    w, h = 2 * width // 3, 2 * height // 3
    return [(x, y, x + w, y + h) for y in (0, height - h) for x in (0, width - w)]
