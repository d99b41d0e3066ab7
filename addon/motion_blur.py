# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion blur: the moments within the shutter time, and the mean of what was seen at them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.messages import DEPTHS, EMPTY_DEPTH
from . import matte, session
from .render_settings import settings

Plane = npt.NDArray[np.float32]

#: Where the shutter time lies, in shutter times before the frame.
_BEFORE = {"START": 0.0, "CENTER": 0.5, "END": 1.0}
#: Planes that are averaged; the others are those of the middle moment.
AVERAGED = ("color", "mask")


def moments(scene: Any) -> tuple[float, ...]:
    """Times (frames) relative to a scene's frame at which it is seen; just (0,) without motion blur."""
    render, samples = scene.render, settings(scene).samples
    if not render.use_motion_blur or samples < 2 or render.motion_blur_shutter <= 0:
        return (0.0,)
    before = _BEFORE[render.motion_blur_position]
    return tuple(float(render.motion_blur_shutter * ((i + 0.5) / samples - before)) for i in range(samples))


class Mean:
    """The mean of frames that arrive one after another, the middle one first.

    Colour and mask are means of premultiplied scene-linear light; mattes keep each avatar's mean coverage. Depth is the
    middle moment's, and where that is empty the nearest of all, so that a streak has depth too; part, uv and index are
    the middle moment's.
    """

    def __init__(self, middle: Mapping[str, Plane], numbers: Iterable[int]) -> None:
        self.count = 1
        self.planes: dict[str, Plane] = {}
        for name, plane in middle.items():
            self.planes[name] = session.room(f"blur {name}", plane.shape)
            self.planes[name][:] = plane
        self._empty = {name: middle[name] >= EMPTY_DEPTH for name in DEPTHS if name in middle}
        self._numbers = np.array(sorted(set(numbers)), np.uint32)
        self._mattes = sorted(name for name in middle if name.startswith("crypto"))
        height, width = next(iter(middle.values())).shape[:2]
        self._shares = np.zeros((len(self._numbers) if self._mattes else 0, height, width), np.float32)
        self._add_mattes(middle)

    def add(self, planes: Mapping[str, Plane]) -> None:
        """Take one more moment."""
        self.count += 1
        for name in AVERAGED:
            if name in planes:
                self.planes[name] += planes[name]
        for name, empty in self._empty.items():
            depth = self.planes[name]
            np.copyto(depth, np.minimum(depth, planes[name]), where=empty)
        self._add_mattes(planes)

    def result(self) -> dict[str, Plane]:
        """The mean. Valid until the next one is begun."""
        for name in AVERAGED:
            if name in self.planes:
                self.planes[name] *= np.float32(1 / self.count)
        if self._mattes:
            self.planes |= matte.ranked(self._shares / np.float32(self.count), self._numbers, self._mattes)
        return self.planes

    def _add_mattes(self, planes: Mapping[str, Plane]) -> None:
        if self._mattes:
            matte.add(self._shares, self._numbers, planes)
