# SPDX-License-Identifier: GPL-3.0-or-later
"""Where camera, walls and props go, from the motion alone, so that any clip finds a set that fits it.

All arrays are in world metres, Z up, frames first. The camera looks from -Y, moves along an arc and follows the person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Direction (on the floor) in which the person should look in the middle of the clip.
FACING = np.array([0.80, -0.60])
#: How near the person may come to a prop, as a share of their height.
_CLEAR = 0.42


@dataclass(frozen=True)
class Prop:
    """Something that stands between camera and person at a given frame. angle: around Z, radians."""

    kind: str
    place: Array
    angle: float


@dataclass(frozen=True)
class Layout:
    """camera, target: (T, 3) positions. size: height of the person. low, high: corners of the walked floor, (2,)."""

    camera: Array
    target: Array
    lens: float
    size: float
    low: Array
    high: Array
    props: tuple[Prop, ...]


def smooth(values: Array, sigma: float) -> Array:
    """Gaussian mean along time, (T, ...), ends held."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(values, [(radius, radius)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=0)
    return np.asarray(windows @ (kernel / kernel.sum()))


def stand_on_floor(mid_hip: Array, left_hip: Array, right_hip: Array, lowest: float) -> tuple[float, Array]:
    """Rotation around Z (radians) and translation (3,) that bring a clip onto the stage.

    mid_hip, left_hip, right_hip: (T, 3). lowest: height of the lowest joint of the clip. Apply as `Rz p + translation`.
    """
    across = (left_hip - right_hip)[:, :2]
    facing = np.stack([across[:, 1], -across[:, 0]], -1)  # left x up
    third = slice(len(facing) // 3, max(2 * len(facing) // 3, len(facing) // 3 + 1))
    mean = facing[third].mean(0)
    angle = float(np.arctan2(FACING[1], FACING[0]) - np.arctan2(mean[1], mean[0]))
    c, s = np.cos(angle), np.sin(angle)
    flat = mid_hip[:, :2] @ np.array([[c, s], [-s, c]])
    centre = (flat.min(0) + flat.max(0)) / 2
    return angle, np.array([-centre[0], -centre[1], -lowest])


def plan(mid_hip: Array, height: float, frames_per_second: float) -> Layout:
    """Plan the stage. mid_hip: (T, 3) on the stage; height: of the person, metres."""
    count = len(mid_hip)
    follow = smooth(mid_hip, 0.45 * frames_per_second)
    centre = follow.mean(0)
    reach = np.linalg.norm((follow - centre)[:, :2], axis=1).max()
    u = np.linspace(0, 1, count)
    ease = u * u * (3 - 2 * u)
    angle = np.radians(14 - 22 * ease)
    distance = 2.3 * height * (1 - 0.12 * ease) + 0.35 * min(reach, 2.0)
    anchor = centre + 0.15 * (follow - centre)
    camera = np.stack(
        [
            anchor[:, 0] + distance * np.sin(angle),
            anchor[:, 1] - distance * np.cos(angle),
            (0.88 - 0.12 * ease) * height,
        ],
        -1,
    )
    target = np.stack([follow[:, 0], follow[:, 1], np.full(count, 0.51 * height)], -1)
    margin = 0.55 * height
    column = _between("column", mid_hip, camera, round(0.1 * (count - 1)), 0.25, height)
    return Layout(
        camera, target, 50.0, height, mid_hip[:, :2].min(0) - margin, mid_hip[:, :2].max(0) + margin,
        (
            _aside(column, mid_hip, camera, height),
            _between("planter", mid_hip, camera, round(0.55 * (count - 1)), 0.25, height),
        ),
    )  # fmt: skip


def _aside(prop: Prop, mid_hip: Array, camera: Array, height: float) -> Prop:
    """The prop, moved to the right as the camera sees it until it hides the person in a third of the frames at most, or
    as seldom as it can: who moves little would stay behind it. The camera travels to the left, which takes it further
    away from them."""
    eye, person = camera[:, :2], mid_hip[:, :2]
    to_person = person - eye
    away = np.linalg.norm(to_person, axis=1)
    right = np.stack([to_person[:, 1], -to_person[:, 0]], -1) / away[:, None]
    best, least = prop, np.inf
    for offset in np.linspace(0, 0.6 * height, 13):
        place = prop.place[:2] + offset * right[len(right) // 2]
        if offset and np.linalg.norm(person - place, axis=1).min() <= _CLEAR * height:
            continue
        to_prop = place - eye
        # How far beside the person it is seen, in metres where the person stands.
        beside = (to_prop * right).sum(1) / (to_prop * to_person).sum(1) * away**2
        hidden = float((np.abs(beside) < 0.15 * height).mean())
        if hidden < least:
            best, least = replace(prop, place=np.array([*place, 0.0])), hidden
        if hidden <= 1 / 3:
            break
    return best


def _between(kind: str, mid_hip: Array, camera: Array, frame: int, share: float, height: float) -> Prop:
    """A prop on the line from the person to the camera at a frame, moved until nobody walks into it."""
    person, eye = mid_hip[frame, :2], camera[frame, :2]
    for share_ in np.linspace(share, 0.8, 20):
        place = person + share_ * (eye - person)
        if np.linalg.norm(mid_hip[:, :2] - place, axis=1).min() > _CLEAR * height:
            break
    toward = eye - person
    return Prop(kind, np.array([place[0], place[1], 0.0]), float(np.arctan2(toward[1], toward[0]) + np.pi / 2))
