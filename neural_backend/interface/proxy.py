# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy surface: tapered capsules of elliptic cross-section on the skeleton, with the 24 charts of the textures.

It stands in for DensePose (paper section 3, Initialization): part, (u, v) and depth of every pixel come from joints
alone. Parts are numbered as DensePose numbers them; where DensePose has two parts for one limb, the first is the
back, the second the front. This module is plain data: :mod:`neural_backend.proxy_maps` casts the rays,
``training.proxy_fit`` fits the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .body import FRAME_INDEX

PART_COUNT = 24

#: Half of the angle that a front or back chart spans (radians): beyond a quarter turn, so that neighbouring charts
#: overlap.
CHART_HALF_ANGLE = 0.625 * np.pi

Rect = tuple[float, float, float, float]
_WHOLE: Rect = (0.0, 1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Capsule:
    """One tapered capsule of the proxy.

    frame: the segment it hangs on. span: its ends along that segment, 0 at the origin, 1 at the end. params: index of
    its fitted numbers (left and right share theirs, mirrored). chart_frame: the frame whose angle and axis give (u,
    v). axial: extent of the chart along the chart frame, in avatar metres before its origin and beyond its end.
    parts: DensePose numbers of the back and the front chart; rects: their place (x0, x1, y0, y1) on the textures.
    """

    name: str
    frame: int
    span: tuple[float, float]
    params: int
    mirrored: bool
    chart_frame: int
    axial: tuple[float, float]
    parts: tuple[int, int]
    rects: tuple[Rect, Rect]


#: Names of a capsule's fitted numbers: offsets of both ends (left, front, along) and radii in avatar metres, the
#: ratio of the left-right radius to the front-back one.
PARAMS: tuple[str, ...] = ("l0", "f0", "a0", "l1", "f1", "a1", "r0", "r1", "ratio")
RADII = slice(6, 8)


@dataclass(frozen=True)
class ProxyGeometry:
    """The numbers that fitting changes: params (P, 9) float, see PARAMS, in metres of the avatar's own body size. A
    capsule whose radii are 0 is absent."""

    params: npt.NDArray[np.float64]

    def present(self, capsule: Capsule) -> bool:
        """Whether a capsule is a part of this body."""
        return bool((self.params[capsule.params, RADII] > 0).any())

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the avatar file's header."""
        return {
            "params": {
                name: [round(float(x), 6) for x in row] for name, row in zip(PARAM_NAMES, self.params, strict=True)
            }
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ProxyGeometry:
        """Reads what to_dict wrote. Raises ValueError when primitives are missing or malformed."""
        rows = data.get("params", {})
        try:
            params = np.array([[float(x) for x in rows[name]] for name in PARAM_NAMES], np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the proxy geometry lacks a usable primitive: {error}") from error
        if params.shape != DEFAULT_PARAMS.shape or not np.isfinite(params).all():
            raise ValueError(
                f"the proxy geometry has shape {params.shape}, expected {DEFAULT_PARAMS.shape}, all finite"
            )
        return ProxyGeometry(params)


#: name: (radius at origin, radius at end, left/front ratio, offsets of origin and end (left, front, along))
_DEFAULTS: dict[str, tuple[float, float, float, tuple[float, float, float], tuple[float, float, float]]] = {
    "belly": (0.125, 0.115, 1.25, (0, 0, -0.02), (0, 0, 0)),
    "chest": (0.115, 0.095, 1.35, (0, 0, 0), (0, 0, 0)),
    "pelvis": (0.105, 0.105, 1.0, (0, -0.01, 0), (0, -0.01, 0)),
    "neck": (0.055, 0.052, 1.0, (0, 0, 0), (0, -0.02, 0)),
    "clavicle": (0.06, 0.065, 1.0, (0, 0, 0), (0, 0, 0)),
    "skull": (0.085, 0.085, 0.9, (0, -0.015, -0.01), (0, -0.015, 0.0)),
    "face": (0.06, 0.075, 0.95, (0, 0.035, -0.09), (0, 0.03, 0.0)),
    "hair": (0.08, 0.09, 1.1, (0, -0.06, -0.10), (0, -0.03, -0.17)),
    "locks": (0.05, 0.06, 1.6, (0, -0.07, -0.28), (0, -0.07, -0.27)),
    "uarm": (0.06, 0.05, 1.0, (0, 0, 0), (0, 0, 0)),
    "farm0": (0.047, 0.042, 1.0, (0, 0, 0), (0, 0, 0)),
    "farm1": (0.042, 0.032, 1.0, (0, 0, 0), (0, 0, 0)),
    "palm": (0.024, 0.02, 1.5, (0, 0, 0.01), (0, 0, 0)),
    "thigh0": (0.095, 0.08, 1.0, (0, 0, 0), (0, 0, 0)),
    "thigh1": (0.08, 0.06, 1.0, (0, 0, 0), (0, 0, 0)),
    "calf0": (0.06, 0.058, 1.0, (0, -0.01, 0), (0, -0.01, 0)),
    "calf1": (0.058, 0.042, 1.0, (0, -0.01, 0), (0, 0, 0)),
    "foot": (0.042, 0.03, 1.1, (0, 0.02, 0), (0, 0.0, 0.01)),
    **{f"finger{f}0": (0.0105, 0.0095, 1.0, (0, 0, 0), (0, 0, 0)) for f in range(5)},
    **{f"finger{f}1": (0.0095, 0.0075, 1.0, (0, 0, 0), (0, 0, 0)) for f in range(5)},
}  # fmt: skip
PARAM_NAMES: tuple[str, ...] = tuple(_DEFAULTS)
#: The capsules for hair that stands off the skull.
HAIR = ("hair", "locks")
DEFAULT_PARAMS = np.array([[*o0, *o1, r0, r1, q] for r0, r1, q, o0, o1 in _DEFAULTS.values()], np.float64)


def _capsules() -> tuple[Capsule, ...]:
    out: list[Capsule] = []

    def add(
        name: str, frame: str, parts: tuple[int, int], axial: tuple[float, float],
        span: tuple[float, float] = (0.0, 1.0), side: str = "", chart: str | None = None,
        rects: tuple[Rect, Rect] = (_WHOLE, _WHOLE),
    ) -> None:  # fmt: skip
        out.append(
            Capsule(
                name + side, FRAME_INDEX[frame + side], span, PARAM_NAMES.index(name), side == "R",
                FRAME_INDEX[chart or frame + side], axial, parts, rects,
            )
        )  # fmt: skip

    trunk: Rect = (0.0, 1.0, 0.0, 0.86)
    torso = {"chart": "torso", "parts": (1, 2), "axial": (0.20, 0.12), "rects": (trunk, trunk)}
    add("belly", "torso", span=(0.0, 0.5), **torso)  # type: ignore[arg-type]
    add("chest", "torso", span=(0.5, 0.88), **torso)  # type: ignore[arg-type]
    add("pelvis", "pelvis", **torso)  # type: ignore[arg-type]
    collar: Rect = (0.0, 1.0, 0.88, 1.0)
    add("neck", "neck", (1, 2), (0.05, 0.05), rects=(collar, collar))
    # Hair hangs beside the face at the same angle: it has places of its own, so that cheeks and locks do not mix.
    skull = {"parts": (23, 24), "axial": (0.17, 0.0), "rects": ((0.0, 1.0, 0.0, 0.48), _WHOLE)}
    hair = {"parts": (23, 23), "axial": (0.38, 0.0), "rects": ((0.0, 0.48, 0.52, 1.0), (0.52, 1.0, 0.52, 1.0))}
    add("skull", "head", **skull)  # type: ignore[arg-type]
    add("face", "head", **skull)  # type: ignore[arg-type]
    add("hair", "head", **hair)  # type: ignore[arg-type]
    add("locks", "head", **hair)  # type: ignore[arg-type]
    for side, parts in (("L", (15, 17, 19, 21, 8, 10, 12, 14, 4, 5)), ("R", (16, 18, 20, 22, 7, 9, 11, 13, 3, 6))):
        ub, uf, fb, ff, tb, tf, cb, cf, hand, foot = parts
        add("clavicle", "clavicle", side=side, **torso)  # type: ignore[arg-type]
        add("uarm", "uarm", (ub, uf), (0.07, 0.05), side=side)
        for i in range(2):
            half = (i / 2, i / 2 + 0.5)
            add(f"farm{i}", "farm", (fb, ff), (0.05, 0.04), half, side=side)
            add(f"thigh{i}", "thigh", (tb, tf), (0.10, 0.06), half, side=side)
            add(f"calf{i}", "calf", (cb, cf), (0.06, 0.05), half, side=side)
        halves = ((0.52, 1.0), (0.0, 0.48))
        add(
            "foot",
            "foot",
            (foot, foot),
            (0.05, 0.04),
            side=side,
            rects=((*halves[0], 0.0, 1.0), (*halves[1], 0.0, 1.0)),
        )
        add(
            "palm",
            "hand",
            (hand, hand),
            (0.03, 0.03),
            side=side,
            rects=((*halves[0], 0.0, 0.55), (*halves[1], 0.0, 0.55)),
        )
        for f in range(5):
            for i in range(2):
                y = (0.57, 0.77) if i == 0 else (0.79, 1.0)
                rects = tuple((x0 + 0.096 * f + 0.004, x0 + 0.096 * f + 0.092, *y) for x0, _ in halves)
                add(f"finger{f}{i}", f"finger{f}{i}", (hand, hand), (0.01, 0.01), side=side, rects=rects)  # type: ignore[arg-type]
    return tuple(out)


CAPSULES: tuple[Capsule, ...] = _capsules()

#: How far the network may move each part's coordinates away from the proxy's, as a fraction of the chart: hands, feet
#: and hair hold several charts on one texture.
RESIDUAL_REACH: npt.NDArray[np.float32] = np.full(PART_COUNT, 0.15, np.float32)
RESIDUAL_REACH[[2, 3]] = 0.04
RESIDUAL_REACH[[4, 5, 22]] = 0.08


def default_proxy(hair: bool = True) -> ProxyGeometry:
    """The proxy of an adult of average build, before it is fitted to anybody's masks; without its hair where that is
    not wanted."""
    params = DEFAULT_PARAMS.copy()
    if not hair:
        params[[PARAM_NAMES.index(name) for name in HAIR], RADII] = 0
    return ProxyGeometry(params)
