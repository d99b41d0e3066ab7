# SPDX-License-Identifier: GPL-3.0-or-later
"""The world of a capture: Z up, in metres, the floor near Z = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Array
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import INDEX
from .readers.axes import AXES, to_z_up
from .records import CalibratedCamera

#: Degrees within which the person's upright direction is taken for an axis of the calibration.
_NEAR_AXIS = 25.0
_FEET = [INDEX[s + n] for s in "LR" for n in ("Ankle", "Heel", "BigToe", "SmallToe")]


def upright(joints: npt.ArrayLike, confidence: npt.ArrayLike) -> tuple[Array, float]:
    """The person's mean upright direction, (3,) unit, and the median angle (degrees) of the frames to it.

    joints: (T, 137, 3); confidence: (T, 137). The mean of hips-to-neck and ankles-to-hips, the latter where a leg is
    known. The direction is 0 and the angle 180 where no frame shows the trunk.
    """
    j, c = np.asarray(joints, np.float64), np.asarray(confidence)

    def unit(v: Array) -> Array:
        return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))

    hip, neck = INDEX["MidHip"], INDEX["Neck"]
    ankles = [INDEX["LAnkle"], INDEX["RAnkle"]]
    rows = np.asarray((c[:, [hip, neck]] > 0).all(1), bool)
    if not rows.any():
        return np.zeros(3), 180.0
    direction = unit(j[rows, neck] - j[rows, hip])
    legs = (c[rows][:, ankles] > 0).all(1)[:, None]
    direction = unit(direction + np.where(legs, unit(j[rows, hip] - j[rows][:, ankles].mean(1)), 0))
    mean = unit(np.median(direction, 0))
    for _ in range(5):  # towards the geometric median: a somersault does not turn the world
        angle = np.arccos(np.clip(direction @ mean, -1, 1))
        mean = unit((direction / np.maximum(angle, 0.05)[:, None]).sum(0))
    return mean, float(np.degrees(np.median(np.arccos(np.clip(direction @ mean, -1, 1)))))


def rotation_onto_z(up: npt.ArrayLike) -> Array:
    """The smallest rotation (3, 3) that brings the direction (3,) onto Z."""
    u = np.asarray(up, np.float64) / np.linalg.norm(np.asarray(up, np.float64))
    axis, cosine = np.array([u[1], -u[0], 0.0]), float(u[2])
    if cosine < -1 + 1e-9:
        return to_z_up("-z")
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.asarray(np.eye(3) + k + k @ k / (1 + cosine))


def floor_height(joints: npt.ArrayLike, confidence: npt.ArrayLike) -> float:
    """Height (Z, metres) of the floor: what the lower foot of a frame stands on, as the 5th percentile of all frames.
    0 where no foot was seen."""
    z, c = np.asarray(joints, np.float64)[:, _FEET, 2], np.asarray(confidence)[:, _FEET]
    seen = (c > 0).any(1)
    if not seen.any():
        return 0.0
    return float(np.percentile(np.where(c > 0, z, np.inf)[seen].min(1), 5))


def move_camera(camera: CalibratedCamera, turn: Array, shift: npt.ArrayLike) -> CalibratedCamera:
    """The camera in the world X' = turn X + shift."""
    r = camera.camera.R @ turn.T
    return replace(camera, camera=replace(camera.camera, R=r, t=camera.camera.t - r @ np.asarray(shift)))


def settle(
    cameras: Sequence[CalibratedCamera], joints: Array, confidence: Array, up: str = ""
) -> tuple[Array, Array, tuple[str, ...]]:
    """How the calibrated world becomes one with Z up: X' = turn X + shift; returns turn (3, 3), shift (3,), sentences.

    up: one of AXES, what the person at the keyboard says; else what the calibration says; else it is found from the
    filmed person. A world whose up is an axis is only turned by quarter turns, and not at all where that axis is Z: its
    floor and origin are the calibration's. Only where the upright direction lies near no axis (the calibration's board
    leant somewhere) the world is turned freely and the floor put under the feet. Raises BackendError 'up-axis' for
    another ``up``, 'world-up' for cameras that contradict one another.
    """
    said = {camera.up for camera in cameras if camera.up}
    if len(said) > 1 and not up:
        raise BackendError(
            "world-up",
            f"The calibration's cameras name different axes as up: {', '.join(sorted(said))}; say which with --up.",
        )
    person, _ = upright(joints, confidence)
    axis = up or next(iter(said), "")
    if axis:
        turn = to_z_up(axis)
        notes = _contradiction(turn @ person, axis)
    elif not person.any():
        return (
            np.eye(3),
            np.zeros(3),
            ("Nobody was seen upright: the calibration's Z is taken as up; --up says otherwise.",),
        )
    else:
        angles = {name: float(np.degrees(np.arccos(np.clip(to_z_up(name)[2] @ person, -1, 1)))) for name in AXES}
        axis = min(angles, key=lambda name: angles[name])
        if angles[axis] > _NEAR_AXIS:
            turn = rotation_onto_z(person)
            floor = floor_height(joints @ turn.T, confidence)
            note = (
                "The calibration does not say what is up and the person stands along none of its axes: the world was "
                "turned until the person stands upright, and the floor put under the feet; --up says otherwise."
            )
            return turn, np.array([0, 0, -floor]), (note,)
        turn = to_z_up(axis)
        notes = (
            f"The calibration does not say what is up; the person stands along its {axis}, which is taken; --up says "
            "otherwise.",
        )
    floor = floor_height(joints @ turn.T, confidence)
    if abs(floor) > 0.5:
        notes += (f"The feet stand {floor:.2f} m above the calibration's origin; its height was kept.",)
    return turn, np.zeros(3), notes


def _contradiction(person: Array, axis: str) -> tuple[str, ...]:
    if not person.any() or person[2] > 0.5:
        return ()
    return (f"{axis} is said to point up, but the person does not stand along it; say which axis does with --up.",)
