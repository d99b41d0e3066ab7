# SPDX-License-Identifier: GPL-3.0-or-later
"""From where a body was seen, as inline SVG beside training.plots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..plots import COLOURS
from .quality import SECTORS

#: Dots that are drawn at most.
_DOTS = 1500


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
