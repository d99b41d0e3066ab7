# SPDX-License-Identifier: GPL-3.0-or-later
"""The typed messages that cross the border between the processes, and the planes of a rendered frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Blender's start imports this module, and must not wait for numpy
    import numpy as np
    import numpy.typing as npt

    from .camera import Camera

#: Raised by one with every change of the messages; both sides refuse another version.
PROTOCOL = 3

#: Planes of a frame and their channels, all float32, rows from the bottom up as Blender stores them.
#: color: scene-linear Rec.709, premultiplied, alpha last. depth: distance along the camera's axis in scene units,
#: EMPTY_DEPTH where the mask is under 0.5. edge_depth: the same out to the end of the avatar's soft edge, where it is
#: the depth of the person beside it. mask: alpha in 0..1. part: 0 background, 1..24. uv: u, v of the dominant part in
#: 0..1, then 0. index: the object index of the dominant avatar, 0 where the mask is under 0.5. crypto0 and on: two
#: pairs each of a matte's number (its bits as a float) and the share of the pixel that this avatar covers, the largest
#: first.
PLANES: dict[str, int] = {
    "color": 4, "depth": 1, "mask": 1, "part": 1, "uv": 3, "index": 1, "crypto0": 4, "crypto1": 4, "crypto2": 4,
    "edge_depth": 1,
}  # fmt: skip

#: Those that hold a distance.
DEPTHS = ("depth", "edge_depth")

#: How the table of a request stores scene-linear light: sign(x) * log2(1 + abs(x) / TABLE_UNIT), so that what lies
#: between its entries is right for dark and bright colours alike.
TABLE_UNIT = 1 / 256

EMPTY_DEPTH = 1e10


class BackendError(Exception):
    """An error that crosses the border as data.

    code: a short stable name, such as 'avatar-missing'. message: one sentence for the animator, with the remedy.
    details: for the log.
    """

    def __init__(self, code: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


@dataclass(frozen=True)
class AvatarInstance:
    """One avatar in one frame.

    path: absolute path of the .avatar file. name: what the user calls it (the armature's name), for messages.
    joints: (137, 3) float32, world axes, scene units. confidence: (137,) float32, 0 where a joint is absent.
    gain: exposure and white balance, factors of scene-linear red, green and blue. index: the object index that the
    plane 'index' shows. matte: 32-bit number of its matte in the planes 'crypto0' and on; 0 for none.
    """

    path: str
    name: str
    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    index: int = 0
    matte: int = 0


@dataclass(frozen=True)
class RenderRequest:
    """What one frame needs. The camera's width and height are those of the region to fill.

    table: (N, N, N, 3) float32, scene-linear light (stored as TABLE_UNIT says) for display sRGB red, green and blue in
    equal steps from 0 to 1; None for the sRGB curve. detail: size of the network's picture, as a factor of the size
    that the avatar was trained at.
    """

    camera: Camera
    avatars: tuple[AvatarInstance, ...]
    planes: tuple[str, ...] = ("color", "depth", "mask", "part", "uv")
    table: npt.NDArray[np.float32] | None = None
    detail: float = 1.0


@dataclass(frozen=True)
class RenderedFrame:
    """A finished frame. planes: name to (height, width, channels) float32, see PLANES. Valid until released.

    warnings: sentences for the animator. seconds: time of each of the backend's stages.
    """

    planes: dict[str, npt.NDArray[np.float32]]
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
