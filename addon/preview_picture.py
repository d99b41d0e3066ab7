# SPDX-License-Identifier: GPL-3.0-or-later
"""What a view wishes to see, the pictures made of it, and the memory of earlier pictures. Knows no Blender."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.camera import Camera
from ..neural_backend.interface.codec import DETAIL_RANGE
from ..neural_backend.interface.messages import AvatarInstance, RenderRequest
from ..neural_backend.interface.skeleton import INDEX

#: Planes that a preview asks for.
PLANES = ("color", "depth")

#: Up to this alpha nothing is to be seen.
_SEEN = 1 / 512

#: A picture of another moment is still shown when the body is seen from a direction at most so far off (a cosine), and
#: is not so many times as large or small.
_TURNED = 0.7
_GROWN = 3.0

_TRUNK = [INDEX["Neck"], INDEX["MidHip"]]


@dataclass(frozen=True)
class Box:
    """Part of a view in pixels, from its bottom left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Stand:
    """Where the avatars stand in a view, for carrying an older picture along: pixel (u, v) of their middle from the
    view's bottom left corner, its depth, pixels for each world unit there, and from where it is seen (world unit vector
    towards the eye)."""

    u: float
    v: float
    depth: float
    unit: float
    eye: tuple[float, float, float]


@dataclass(frozen=True)
class Style:
    """How a scene wants its avatars drawn. quality: factor of the network's size. table: the request's colour table,
    None for none; name: what tells it from others."""

    quality: float = 1.0
    table: npt.NDArray[np.float32] | None = None
    name: Hashable = None


@dataclass(frozen=True)
class Wish:
    """What a view is to show.

    key: names everything that the picture depends on. camera: sees the whole view, in its pixels. box: where people
    can be, None for nowhere. back: how far the camera was moved back along its axis (orthographic views see what is
    behind them too); a picture's depth counts from there. style: the scene's look and quality.
    """

    key: bytes
    camera: Camera
    people: tuple[AvatarInstance, ...]
    box: Box | None
    stand: Stand | None
    back: float = 0.0
    style: Style = Style()

    def request(self, level: float) -> RenderRequest:
        """The request for this picture at a level of quality (0 to 1: share of the resolution along each side)."""
        assert self.box is not None
        b = self.box
        width, height = max(1, round(b.width * level)), max(1, round(b.height * level))
        camera = self.camera.crop(b.x, self.camera.height - b.y - b.height, b.width, b.height, width, height)
        low, high = DETAIL_RANGE
        detail = min(max(level * self.style.quality, low), high)
        return RenderRequest(camera, self.people, PLANES, self.style.table, detail)


def make_key(camera: Camera, people: Sequence[AvatarInstance], box: Box | None, style: Style = Style()) -> bytes:
    """Names a picture: everything in the camera and the people, and the state of the avatars' files."""
    digest = hashlib.blake2b(digest_size=16)
    things: tuple[Any, ...] = (camera, *people)
    for thing in things:
        for field in dataclasses.fields(thing):
            value = getattr(thing, field.name)
            digest.update(
                np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            )
    for path in {person.path for person in people}:
        try:
            status = os.stat(path)
            digest.update(f"{path}{status.st_mtime_ns}{status.st_size}".encode())
        except OSError:
            digest.update(f"{path} is gone".encode())
    digest.update(repr((box, style.quality, style.name)).encode())
    return digest.digest()


def make_stand(camera: Camera, people: Sequence[AvatarInstance]) -> Stand | None:
    """Where the people's middle is; None when it is behind the camera, or nobody is there."""
    if not people:
        return None
    middle = np.mean([person.joints[_TRUNK].mean(0, dtype=np.float64) for person in people], 0)
    (u, v), depth = camera.project(middle)
    if not (np.isfinite((u, v, depth)).all() and (camera.orthographic or depth > 1e-6)):
        return None
    unit = abs(camera.K[1, 1]) / (1.0 if camera.orthographic else float(depth))
    eye = -camera.R[2] if camera.orthographic else camera.R.T @ -camera.t - middle
    eye = eye / max(float(np.linalg.norm(eye)), 1e-12)
    return Stand(float(u), float(camera.height - v), float(depth), unit, (float(eye[0]), float(eye[1]), float(eye[2])))


@dataclass(frozen=True)
class Picture:
    """A finished picture of a wish.

    color: (h, w, 4) float16, scene-linear, premultiplied; depth: (h, w) float32, 1e10 for nothing; rows from the bottom
    up. x, y, width, height: where it lies in the view, in pixels. seconds: the backend's time for each stage.
    """

    wish: Wish
    level: float
    color: npt.NDArray[np.float16]
    depth: npt.NDArray[np.float32]
    x: float
    y: float
    width: float
    height: float
    seconds: Mapping[str, float]

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self.color.nbytes + self.depth.nbytes + 1024


def make_picture(
    wish: Wish, level: float, planes: Mapping[str, npt.NDArray[np.float32]], seconds: Mapping[str, float]
) -> Picture:
    """A picture from the backend's planes, which are copied; only what can be seen is kept."""
    assert wish.box is not None
    color, depth = planes["color"], planes["depth"][..., 0]
    seen = color[..., 3] > _SEEN
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    y0, y1 = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 1)
    x0, x1 = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
    # A pixel's width of nothing all around, where there is room, so that edges fade instead of being cut.
    y0, x0, y1, x1 = max(y0 - 1, 0), max(x0 - 1, 0), min(y1 + 1, len(depth)), min(x1 + 1, depth.shape[1])
    across, up = wish.box.width / depth.shape[1], wish.box.height / depth.shape[0]
    return Picture(
        wish,
        level,
        color[y0:y1, x0:x1].clip(-6e4, 6e4).astype(np.float16),
        depth[y0:y1, x0:x1].copy(),
        wish.box.x + x0 * across,
        wish.box.y + y0 * up,
        (x1 - x0) * across,
        (y1 - y0) * up,
        dict(seconds),
    )


def place(picture: Picture, wish: Wish) -> tuple[tuple[float, float, float, float], float] | None:
    """Where a picture is drawn in a view that wishes for ``wish``: (x, y, width, height) in pixels, and what its depth
    is multiplied by. A picture of another moment goes along with the body; None when the view has changed too much for
    that.
    """
    at = picture.x, picture.y, picture.width, picture.height
    if picture.wish.key == wish.key:
        return at, 1.0
    old, new = picture.wish.stand, wish.stand
    if old is None or new is None or wish.box is None or picture.wish.camera.orthographic != wish.camera.orthographic:
        return None
    growth = new.unit / old.unit
    if not 1 / _GROWN < growth < _GROWN or float(np.dot(old.eye, new.eye)) < _TURNED:
        return None
    x, y = new.u + (picture.x - old.u) * growth, new.v + (picture.y - old.v) * growth
    return (x, y, picture.width * growth, picture.height * growth), new.depth / old.depth


class Cache:
    """Pictures by their wish's key, the best of each, the ones not used for longest forgotten first."""

    def __init__(self, capacity: int = 512 << 20) -> None:
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self.capacity, self.size = capacity, 0

    def __len__(self) -> int:
        return len(self._pictures)

    def get(self, key: bytes) -> Picture | None:
        """The best picture of a wish so far."""
        if key in self._pictures:
            self._pictures.move_to_end(key)
        return self._pictures.get(key)

    def put(self, picture: Picture) -> None:
        """Keep a picture unless a better one is there."""
        key = picture.wish.key
        old = self._pictures.get(key)
        if old is not None and old.level > picture.level:
            return
        self.size += picture.size - (old.size if old is not None else 0)
        self._pictures[key] = picture
        self._pictures.move_to_end(key)
        self.shrink()

    def shrink(self) -> None:
        """Forget what is over the capacity."""
        while self.size > self.capacity and self._pictures:
            self.size -= self._pictures.popitem(last=False)[1].size

    def clear(self) -> None:
        """Forget everything."""
        self._pictures.clear()
        self.size = 0
