# SPDX-License-Identifier: GPL-3.0-or-later
"""A procedural walk for any body, from its rest joints alone.

Feet are planted and roll from heel to toe without sliding, knees come from two-bone inverse kinematics, the pelvis
rides as high as both legs allow (which gives its bob), sways over the standing foot and turns with the leading leg;
shoulders and arms swing against it. Bone lengths are those of the rest skeleton, so that the walk fits the person.
Phases and angles follow the usual gait tables (heel strike at 0, toe-off at 61 % of the cycle).

Axes as everywhere: metres, Z up; at heading 0 the person walks towards -Y.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

STANCE = 0.61  # share of the cycle in which a foot stands
STRIKE_AHEAD = 0.27  # where a foot is planted before the pelvis, in strides

#: Pitch of the foot over the cycle, degrees, toes up positive.
_PITCH = ((0.0, 18.0), (0.09, 0.0), (0.36, 0.0), (STANCE, -44.0), (0.66, -50.0), (0.86, 4.0), (0.96, 18.0), (1.0, 18.0))


@dataclass(frozen=True)
class Style:
    """How the person walks. Angles in degrees; stride in leg lengths; cycle in seconds."""

    stride: float = 1.32
    cycle: float = 1.08
    pelvis_turn: float = 6.0
    pelvis_list: float = 3.5
    lean: float = 4.0
    shoulder_turn: float = 7.0
    arm_swing: float = 21.0
    arm_out: float = 9.0
    elbow: float = 22.0


def walk(
    rest: npt.ArrayLike, index: Mapping[str, int], times: npt.ArrayLike, heading: float = 0.0, curvature: float = 0.0,
    style: Style | None = None,
) -> Array:  # fmt: skip
    """Joints of a person walking over the plane z = 0.

    rest: (J, 3) rest joints in metres, facing -Y; index: joint name (BODY_25, hands) to row; times: (T,) seconds.
    heading: direction at time 0, radians around Z; curvature: of the path, radians a metre, left positive.
    Returns (T, J, 3). At time 0 the pelvis is over the origin.
    """
    style = style or Style()
    body = _Body(np.asarray(rest, np.float64), dict(index))
    t = np.asarray(times, np.float64)
    margin = style.cycle
    dense = np.arange(t.min() - margin, t.max() + margin, 1 / 240)
    height = _ride_height(body, style, dense, heading, curvature)
    return np.stack([_pose(body, style, x, float(np.interp(x, dense, height)), heading, curvature) for x in t])


class _Body:
    """Rest skeleton with the lengths the walk needs."""

    def __init__(self, rest: Array, index: dict[str, int]) -> None:
        self.rest, self.index = rest, index
        self.leg = min(self.length(f"{s}Hip", f"{s}Knee") + self.length(f"{s}Knee", f"{s}Ankle") for s in "LR")
        self.hip_width = self.length("LHip", "RHip")

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self.rest[self.index[name]])

    def length(self, a: str, b: str) -> float:
        return float(np.linalg.norm(self[a] - self[b]))

    def sole(self, side: str) -> tuple[Array, Array]:
        """Heel and toe contact points relative to the ankle, foot flat on the ground."""
        heel, big, small = (self[side + name] - self[f"{side}Ankle"] for name in ("Heel", "BigToe", "SmallToe"))
        ground = min(big[2], small[2])
        return np.array([heel[0], heel[1], ground]), np.array([(big[0] + small[0]) / 2, min(big[1], small[1]), ground])


def _rotation(axis: str, degrees: float) -> Array:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return {
        "x": np.array([[1, 0, 0], [0, c, -s], [0, s, c]]),
        "y": np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]),
        "z": np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]),
    }[axis]


def _between(a: Array, b: Array) -> Array:
    """The smallest rotation that turns direction a into direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    v, c = np.cross(a, b), float(a @ b)
    if c < -0.999999:
        raise ValueError("opposite directions have no smallest rotation")
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.asarray(np.eye(3) + k + k @ k / (1 + c))


def _path(distance: float, heading: float, curvature: float) -> tuple[Array, float]:
    """Point on the ground and heading (radians) after walking a distance along an arc."""
    turned = heading + curvature * distance
    if abs(curvature) < 1e-9:
        return distance * np.array([np.sin(heading), -np.cos(heading), 0.0]), turned
    d = np.array([np.cos(heading) - np.cos(turned), np.sin(heading) - np.sin(turned), 0.0]) / curvature
    return d, turned


def _keyed(keys: tuple[tuple[float, float], ...], phase: float) -> float:
    """Smooth curve through (phase, value) keys, level at each of them."""
    phases, values = np.array(keys).T
    i = int(np.clip(np.searchsorted(phases, phase, side="right") - 1, 0, len(keys) - 2))
    u = (phase - phases[i]) / (phases[i + 1] - phases[i])
    return float(values[i] + (values[i + 1] - values[i]) * u * u * (3 - 2 * u))


def _planted(body: _Body, side: str, phase: float) -> Array:
    """The ankle relative to its place over the flat foot, while the foot stands; at heading 0."""
    heel, toe = body.sole(side)
    pitch = _keyed(_PITCH, phase)
    pivot = heel if pitch > 0 else toe
    return np.asarray(pivot - _rotation("x", -pitch) @ pivot)


def _foot(
    body: _Body, style: Style, side: str, t: float, heading: float, curvature: float
) -> tuple[Array, Array, float]:
    """Ankle (3,), rotation (3, 3) of the foot, and phase of its leg, at time t."""
    cycles = t / style.cycle + (0.25 if side == "L" else 0.75)
    step, phase = int(np.floor(cycles)), cycles % 1.0
    stride = style.stride * body.leg

    def plant(k: int) -> tuple[Array, Array]:
        strike = (k - (0.25 if side == "L" else 0.75) + STRIKE_AHEAD) * stride
        point, turned = _path(strike, heading, curvature)
        turn = _rotation("z", np.degrees(turned))
        out = (0.42 if side == "L" else -0.42) * body.hip_width
        ankle_height = -float(body.sole(side)[1][2])
        return point + turn @ np.array([out, 0, ankle_height]), turn

    here, turn = plant(step)
    ahead, turn_ahead = plant(step + 1)
    pitch = _rotation("x", -_keyed(_PITCH, phase))
    if phase <= STANCE:
        return here + turn @ _planted(body, side, phase), turn @ pitch, phase
    # Swing: a Hermite curve from toe-off to the next strike with the foot's own speeds at both ends, lifted.
    u, tiny, span = (phase - STANCE) / (1 - STANCE), 1e-3, 1 - STANCE
    start, end = here + turn @ _planted(body, side, STANCE), ahead + turn_ahead @ _planted(body, side, 0.0)
    v0 = turn @ (_planted(body, side, STANCE) - _planted(body, side, STANCE - 0.05)) / 0.05 * span
    v1 = turn_ahead @ (_planted(body, side, tiny) - _planted(body, side, 0.0)) / tiny * span
    u2, u3 = u * u, u * u * u
    ankle = (2 * u3 - 3 * u2 + 1) * start + (u3 - 2 * u2 + u) * v0 + (3 * u2 - 2 * u3) * end + (u3 - u2) * v1
    ankle[2] += 0.035 * body.leg * np.sin(np.pi * u) ** 2
    mixed = _rotation(
        "z", np.degrees(heading + curvature * (step - (0.25 if side == "L" else 0.75) + STRIKE_AHEAD + u) * stride)
    )
    return ankle, mixed @ pitch, phase


def _pelvis(body: _Body, style: Style, t: float, heading: float, curvature: float) -> tuple[Array, Array, Array, float]:
    """Point over the ground (z = 0), rotation of the pelvis, rotation of the path, phase of the left leg in radians."""
    left = 2 * np.pi * (t / style.cycle + 0.25)
    point, turned = _path(style.stride * body.leg * t / style.cycle, heading, curvature)
    turn = _rotation("z", np.degrees(turned))
    sway = 0.022 * body.leg * np.cos(left - 2 * np.pi * 0.3)
    rotation = (
        turn
        @ _rotation("z", -style.pelvis_turn * np.cos(left))
        @ _rotation("y", -style.pelvis_list * np.cos(left - 2 * np.pi * 0.25))
        @ _rotation("x", 0.5 * style.lean)
    )
    return point + turn @ np.array([sway, 0, 0]), rotation, turn, left


def _ride_height(body: _Body, style: Style, times: Array, heading: float, curvature: float) -> Array:
    """Height of MidHip at each time: as high as the legs reach, smoothed from below."""
    limit = np.empty(len(times))
    for i, t in enumerate(times):
        point, rotation, _, _ = _pelvis(body, style, t, heading, curvature)
        reach = []
        for side in "LR":
            hip = point + rotation @ (body[f"{side}Hip"] - body["MidHip"])
            ankle, _, _ = _foot(body, style, side, t, heading, curvature)
            longest = 0.998 * (body.length(f"{side}Hip", f"{side}Knee") + body.length(f"{side}Knee", f"{side}Ankle"))
            level = float(np.sum((hip - ankle)[:2] ** 2))
            reach.append(ankle[2] + np.sqrt(max(longest**2 - level, 0.0)) - hip[2])
        limit[i] = min(reach)
    # A running minimum, then means over the same window: smooth, and never above the limit.
    half = round(0.07 * style.cycle * 240)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(limit, 2 * half, mode="edge"), 2 * half + 1)
    kernel = np.hanning(2 * half + 3)[1:-1]
    return np.convolve(windows.min(-1), kernel / kernel.sum(), mode="valid")


def _knee(hip: Array, ankle: Array, thigh: float, shin: float, forward: Array) -> Array:
    """Where the knee is: bent towards `forward`."""
    axis = ankle - hip
    distance = float(np.linalg.norm(axis))
    axis /= distance
    along = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    bend = forward - (forward @ axis) * axis
    return np.asarray(hip + along * axis + np.sqrt(max(thigh**2 - along**2, 0.0)) * bend / np.linalg.norm(bend))


def _pose(body: _Body, style: Style, t: float, height: float, heading: float, curvature: float) -> Array:
    out = body.rest.copy()
    place = body.index
    point, pelvis, turn, left = _pelvis(body, style, t, heading, curvature)
    mid = point + np.array([0, 0, height])

    spine = turn @ _rotation("z", 0.3 * style.shoulder_turn * np.cos(left)) @ _rotation("x", style.lean)
    chest = turn @ _rotation("z", style.shoulder_turn * np.cos(left)) @ _rotation("x", style.lean)
    head = turn @ _rotation("x", 0.4 * style.lean)
    neck = mid + spine @ (body["Neck"] - body["MidHip"])
    hands = {side: [i for name, i in place.items() if name.startswith(f"{side}Hand_")] for side in "LR"}
    limbs = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "BigToe", "SmallToe", "Heel")
    moved = {place["MidHip"], place["Neck"], *(place[s + n] for s in "LR" for n in limbs), *hands["L"], *hands["R"]}
    of_head = [i for i in range(len(out)) if i not in moved]
    out[of_head] = neck + (body.rest[of_head] - body["Neck"]) @ head.T
    out[place["MidHip"]], out[place["Neck"]] = mid, neck

    for side, sign in (("L", 1.0), ("R", -1.0)):
        hip = mid + pelvis @ (body[f"{side}Hip"] - body["MidHip"])
        ankle, foot, _ = _foot(body, style, side, t, heading, curvature)
        forward = turn @ np.array([0.06 * sign, -1.0, 0.0])
        thigh, shin = body.length(f"{side}Hip", f"{side}Knee"), body.length(f"{side}Knee", f"{side}Ankle")
        out[place[f"{side}Hip"]], out[place[f"{side}Ankle"]] = hip, ankle
        out[place[f"{side}Knee"]] = _knee(hip, ankle, thigh, shin, forward)
        for name in ("BigToe", "SmallToe", "Heel"):
            out[place[side + name]] = ankle + foot @ (body[side + name] - body[f"{side}Ankle"])

        # The arm swings with the other leg; the elbow bends as the arm comes forward.
        swing = -np.cos(left) * sign  # 1 when this arm is foremost
        upper = (
            _rotation("y", -sign * style.arm_out)
            @ _rotation("x", -(style.arm_swing * swing + 2))
            @ np.array([0, 0, -1.0])
        )
        bent = _rotation("x", -(style.elbow + 0.6 * style.arm_swing * swing))
        lower = _rotation("z", -8 * sign) @ (bent @ (_rotation("y", 0.55 * sign * style.arm_out) @ upper))
        shoulder = neck + chest @ (body[f"{side}Shoulder"] - body["Neck"])
        elbow = shoulder + body.length(f"{side}Shoulder", f"{side}Elbow") * (chest @ upper)
        wrist = elbow + body.length(f"{side}Elbow", f"{side}Wrist") * (chest @ lower)
        for name, value in (("Shoulder", shoulder), ("Elbow", elbow), ("Wrist", wrist)):
            out[place[side + name]] = value
        hand = chest @ _between(body[f"{side}Wrist"] - body[f"{side}Elbow"], lower)
        out[hands[side]] = wrist + (body.rest[hands[side]] - body[f"{side}Wrist"]) @ hand.T
    return out
