# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as inline SVG, coloured by the page's style sheet so that they read in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from .quality import SECTORS

_WIDTH, _HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22
#: Points of a curve that are drawn at most; beyond it several rows share one (their middle value).
_POINTS = 400
#: Dots that are drawn at most.
_DOTS = 1500
#: Colours of the style sheet, for cameras in turn.
COLOURS = 8


@dataclass(frozen=True)
class Curve:
    """name; values (T,), NaN where there is none; colour: number of the style sheet's colour."""

    name: str
    values: npt.NDArray[np.floating]
    colour: int


def line_plot(
    curves: Sequence[Curve], unit: str, limit: float | None = None, split: int | None = None, zero: bool = True
) -> str:
    """Curves over rows. limit: a dashed line at a threshold. split: the row from which on nothing is trained on. zero:
    the axis begins at 0."""
    known = np.concatenate([c.values[np.isfinite(c.values)] for c in curves] or [np.zeros(0)])
    if not known.size:
        return '<p class="quiet">Nothing was measured.</p>'
    low, high = (0.0 if zero else float(known.min())), float(np.percentile(known, 99.5))
    if limit is not None and limit < 4 * high:
        high = max(high, limit * 1.15)
    room = 0.06 * (high - low) or 0.5
    low, high = (low if zero else low - room), high + room
    count = max(len(c.values) for c in curves)
    across = (_WIDTH - _LEFT - _RIGHT) / max(count - 1, 1)

    def x(row: float) -> float:
        return _LEFT + row * across

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    out = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    if split is not None and 0 < split < count:
        out.append(f'<rect class="test" x="{x(split):.1f}" y="{_TOP}" width="{x(count - 1) - x(split):.1f}" '
                   f'height="{_HEIGHT - _TOP - _BOTTOM}"><title>not trained on</title></rect>')  # fmt: skip
    for tick in _ticks(low, high):
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
                   f'<text x="{_LEFT - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')  # fmt: skip
    for tick in _ticks(0, count - 1):
        if tick == int(tick):
            out.append(f'<text x="{x(tick):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{tick:g}</text>')
    if limit is not None and low < limit < high:
        out.append(f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(limit):.1f}" y2="{y(limit):.1f}">'
                   f"<title>limit {limit:g} {escape(unit)}</title></line>")  # fmt: skip
    for curve in curves:
        paths = "".join(_pieces(curve.values, x, y))
        if paths:
            out.append(
                f'<path class="curve c{curve.colour % COLOURS}" d="{paths}"><title>{escape(curve.name)}</title></path>'
            )
    out.append(f'<text x="4" y="{_TOP + 8}">{escape(unit)}</text></svg>')
    return "".join(out)


def _pieces(values: npt.NDArray[np.floating], x: object, y: object) -> list[str]:
    """Path commands; a gap in the values is a gap in the curve."""
    step = -(-len(values) // _POINTS)
    out, pen = [], False
    for start in range(0, len(values), step):
        part = values[start : start + step]
        part = part[np.isfinite(part)]
        if not part.size:
            pen = False
            continue
        place = f"{x(start + (step - 1) / 2):.1f} {y(float(np.median(part))):.1f}"  # type: ignore[operator]
        # A lone point is a short line, or it would not be seen.
        out.append(f"L{place}" if pen else f"M{place}h0.1")
        pen = True
    return out


def _ticks(low: float, high: float) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    step = 10 ** np.floor(np.log10(span / 3))
    for factor in (5, 2, 1):
        if span / (step * factor) >= 3:
            step *= factor
            break
    first = np.ceil(low / step) * step
    return [float(f"{first + i * step:.6g}") for i in range(int((high - first) / step + 1e-6) + 1)]


def direction_plot(
    azimuth: npt.NDArray[np.floating], elevation: npt.NDArray[np.floating], colours: npt.NDArray[np.integer],
    shares: npt.NDArray[np.floating], missing: Sequence[str],
) -> str:  # fmt: skip
    """From where the body is seen, looking down on a person who faces up the page.

    azimuth, elevation: (N,) degrees, see quality.Directions. colours: (N,) numbers of the views. shares: (8,) of
    SECTORS. missing: names of the sectors to mark as gaps. The rim is 30° below the trunk, the centre above it.
    """
    size, rim = 420, 150.0
    middle = size / 2
    out = [f'<svg viewBox="0 0 {size} {size}" role="img" class="round">']
    for i, name in enumerate(SECTORS):
        a, b = np.radians((i * 45 - 22.5, i * 45 + 22.5))
        corners = [(middle - np.sin(t) * rim, middle - np.cos(t) * rim) for t in (a, b)]
        (x0, y0), (x1, y1) = corners
        kind = "gap" if name in missing else "seen"
        # Counter-clockwise on the page: the person's left is at the page's left.
        out.append(f'<path class="sector {kind}" d="M{middle} {middle}L{x0:.1f} {y0:.1f}A{rim} {rim} 0 0 0 {x1:.1f} '
                   f'{y1:.1f}Z"><title>{name}: {shares[i]:.0%} of the training pictures</title></path>')  # fmt: skip
        t = np.radians(i * 45)
        x, y = middle - np.sin(t) * (rim + 30), middle - np.cos(t) * (rim + 24)
        for down, words in ((0, name), (14, f"{shares[i]:.0%}")):
            out.append(f'<text x="{x:.1f}" y="{y + down:.1f}" text-anchor="middle">{words}</text>')
    for angle in (60, 30, 0):
        radius = rim * (90 - angle) / 120
        out.append(
            f'<circle class="grid" cx="{middle}" cy="{middle}" r="{radius:.1f}"><title>{angle}° up</title></circle>'
        )
    known = np.flatnonzero(np.isfinite(azimuth) & np.isfinite(elevation))
    for i in known[:: -(-len(known) // _DOTS) or 1]:
        radius, t = rim * min(max((90 - float(elevation[i])) / 120, 0), 1), np.radians(float(azimuth[i]))
        out.append(f'<circle class="dot c{int(colours[i]) % COLOURS}" cx="{middle - np.sin(t) * radius:.1f}" '
                   f'cy="{middle - np.cos(t) * radius:.1f}" r="2.4"/>')  # fmt: skip
    out.append(f'<ellipse class="body" cx="{middle}" cy="{middle}" rx="11" ry="6"/>'
               f'<circle class="body" cx="{middle}" cy="{middle - 5}" r="4"/></svg>')  # fmt: skip
    return "".join(out)
