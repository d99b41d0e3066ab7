# SPDX-License-Identifier: GPL-3.0-or-later
"""Plots as inline SVG, coloured by the page's style sheet so that they read in light and dark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT = 640, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 22
#: Points of a curve that are drawn at most; beyond it several rows share one (their middle value).
_POINTS = 400
#: Colours of the style sheet (training.page), for curves in turn.
COLOURS = 8


@dataclass(frozen=True)
class Curve:
    """name; values (T,), NaN where there is none; colour: number of the style sheet's colour."""

    name: str
    values: npt.NDArray[np.floating]
    colour: int


def line_plot(
    curves: Sequence[Curve],
    unit: str,
    limit: float | None = None,
    split: int | None = None,
    zero: bool = True,
    places: npt.ArrayLike | None = None,
) -> str:
    """Curves over rows. limit: a dashed line at a threshold. split: the row from which on nothing is trained on. zero:
    the axis begins at 0. places: (T,) rising, where the values stand across, such as steps; else their
    numbers."""
    known = np.concatenate([c.values[np.isfinite(c.values)] for c in curves] or [np.zeros(0)])
    if not known.size:
        return '<p class="quiet">Nothing was measured.</p>'
    low, high = (0.0 if zero else float(known.min())), float(np.percentile(known, 99.5))
    if limit is not None and limit < 4 * high:
        high = max(high, limit * 1.15)
    room = 0.06 * (high - low) or 0.5
    low, high = (low if zero else low - room), high + room
    count = max(len(c.values) for c in curves)
    at = np.arange(count, dtype=float) if places is None else np.asarray(places, float)
    first, last = float(at[0]), float(at[-1])

    def x(row: float) -> float:
        return across(float(np.interp(row, np.arange(count), at)))

    def across(place: float) -> float:
        return _LEFT + (place - first) / max(last - first, 1e-9) * (_WIDTH - _LEFT - _RIGHT)

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
    for tick in _ticks(first, last):
        if tick == int(tick):
            anchor = "middle" if across(tick) < _WIDTH - 24 else "end"
            out.append(f'<text x="{across(tick):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{tick:g}</text>')
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


def _pieces(values: npt.NDArray[np.floating], x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    """Path commands; a gap in the values is a gap in the curve."""
    step = -(-len(values) // _POINTS)
    out, pen = [], False
    for start in range(0, len(values), step):
        part = values[start : start + step]
        part = part[np.isfinite(part)]
        if not part.size:
            pen = False
            continue
        place = f"{x(start + (step - 1) / 2):.1f} {y(float(np.median(part))):.1f}"
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
