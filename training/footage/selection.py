# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of a film that are used: a part of it, some of its frames, or an even grid of moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.messages import BackendError
from .video import Bytes, Frame, Source


@dataclass(frozen=True)
class Choice:
    """Which frames are used. start, end: seconds from the film's first frame, None for its ends. every: each N-th
    frame. fps: frames per second, 0 for the film's own."""

    start: float | None = None
    end: float | None = None
    every: int = 1
    fps: float = 0.0


class Selection(Source):
    """Chosen frames of a film, counted from 0 as if there were no others.

    indices: (N,) int64, rising, the film's frame of each.
    """

    def __init__(self, film: Source, indices: npt.NDArray[np.int64]) -> None:
        super().__init__(film.path, film.width, film.height, film.times[indices] - film.times[indices[0]])
        self.name, self.has_alpha = film.name, film.has_alpha
        self.indices = indices
        self._film = film

    @property
    def warnings(self) -> list[str]:
        """The film's sentences for people."""
        self._film.lost.update(int(self.indices[i]) for i in self.lost)
        return self._film.warnings

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See Source.read."""
        chosen = self.indices[start:stop]
        if not chosen.size:
            return
        place = {int(index): start + i for i, index in enumerate(chosen)}
        for frame in self._film.read(int(chosen[0]), int(chosen[-1]) + 1):
            number = place.get(frame.index)
            if number is not None:
                yield Frame(number, frame.rgb, frame.alpha)

    def alpha(self, index: int) -> Bytes | None:
        """See Source.alpha."""
        return self._film.alpha(int(self.indices[index]))


def select(film: Source, choice: Choice) -> tuple[Selection, list[str]]:
    """The chosen frames of a film, and sentences for people.

    Where the frame rate varies, or another one is asked for, each moment of an even grid takes the frame nearest to it
    in time. Raises BackendError 'footage-range' when no frame is left.
    """
    times, notes = film.times, []
    low = times[0] + (choice.start or 0.0)
    high = times[-1] if choice.end is None else times[0] + choice.end
    inside = np.flatnonzero((times >= low - 1e-6) & (times <= high + 1e-6))
    if not inside.size:
        raise BackendError(
            "footage-range",
            f"{film.path} has no frame from {low - times[0]:g} s to {high - times[0]:g} s; it lasts "
            f"{times[-1] - times[0]:.1f} s. Give another --start or --end.",
        )
    rate = film.fps
    if choice.fps > film.fps * 1.01:
        notes.append(f"{film.path.name} has {film.fps:.4g} frames a second; --fps {choice.fps:g} cannot add any.")
    elif choice.fps:
        rate = choice.fps
    if (film.variable or rate < film.fps * 0.99) and inside.size > 1:
        if film.variable:
            notes.append(
                f"The frame rate of {film.path.name} varies; taken at {rate:.4g} even frames a second, each the "
                "nearest in time."
            )
        grid = np.arange(times[inside[0]], times[inside[-1]] + 0.5 / rate, 1 / rate)
        after = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
        nearest = np.where(grid - times[after - 1] <= times[after] - grid, after - 1, after)
        inside = np.unique(nearest[(nearest >= inside[0]) & (nearest <= inside[-1])])
    return Selection(film, inside[:: choice.every].astype(np.int64)), notes
