# SPDX-License-Identifier: GPL-3.0-or-later
"""From which sides the body was filmed, and from which never. Seen from those, a network that answers with residuals
over the proxy answers by what it learned of others, which fits nothing; so there it is held to the proxy (past the
paper)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.skeleton import INDEX
from ..neural_backend.virtual_camera import crop_camera

if TYPE_CHECKING:
    from .batches import Shot

#: Degrees from the nearest side that was filmed, beyond which another counts as unseen. What a network learned of a
#: side serves its neighbourhood: up to 16 degrees away it was far better than the proxy alone, at 50 worse.
FAR = 30.0
#: Where a smaller share of the circle is unseen, the cameras stood all around.
FEW = 0.05
#: How often one looks for an unseen side.
_TRIES = 32


class FilmedSides:
    """Directions, in the torso's axes, in which the shots' cameras stand."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        self._shots = tuple(shots)
        self._filmed = np.stack([_side(shot, shot.camera) for shot in shots])
        self._nearest = np.cos(np.radians(FAR))

    def unseen(self, rng: np.random.Generator) -> tuple[Shot, Camera] | None:
        """A shot, and its camera turned around the body to where none has looked from; None where none was found."""
        for _ in range(_TRIES):
            shot = self._shots[rng.integers(len(self._shots))]
            camera = turned(shot, rng)
            if self._is_unseen(shot, camera):
                return shot, camera
        return None

    def unseen_share(self, draws: int = 400) -> float:
        """The share of the circle around the body, in all poses, from which nothing was filmed; by random draws, always
        the same."""
        rng = np.random.default_rng(0)
        shots = [self._shots[i] for i in rng.integers(len(self._shots), size=draws)]
        return float(np.mean([self._is_unseen(shot, turned(shot, rng)) for shot in shots]))

    def _is_unseen(self, shot: Shot, camera: Camera) -> bool:
        return bool((self._filmed @ _side(shot, camera)).max() < self._nearest)


def turned(shot: Shot, rng: np.random.Generator) -> Camera:
    """The shot's camera turned around the body's upright axis by any angle, framed anew."""
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    hips = shot.joints[INDEX["MidHip"]].astype(np.float64)
    source = shot.dataset.camera(shot.view)
    around = replace(source, R=source.R @ turn, t=source.t + source.R @ (hips - turn @ hips))
    size = (shot.camera.height, shot.camera.width)
    framed = crop_camera(around, shot.joints, shot.confidence, size, shot.body_size)
    return framed or shot.camera  # the hips stay where they were, so that the body hardly ever leaves the picture


def _side(shot: Shot, camera: Camera) -> npt.NDArray[np.float64]:
    """(3,) the unit vector from the hips to the camera: along the hips to the left, forward, up the spine."""
    names = ("MidHip", "LHip", "RHip", "Neck")
    hips, left, right, neck = (shot.joints[INDEX[name]].astype(np.float64) for name in names)
    sideways, up = left - right, neck - hips
    axes = np.stack([sideways, np.cross(up, sideways), np.cross(sideways, np.cross(up, sideways))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True).clip(1e-9)
    to = axes @ (-camera.R.T @ camera.t - hips)
    return np.asarray(to / np.linalg.norm(to))
