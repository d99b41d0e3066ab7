# SPDX-License-Identifier: GPL-3.0-or-later
"""Long clips in overlapping windows, so that ten minutes need no more memory than ten seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...neural_backend.interface.camera import Array

#: Frames of a window, and those that it shares with its neighbour.
LENGTH, OVERLAP = 300, 60


def in_windows(
    count: int,
    solve: Callable[[slice], Array],
    length: int = LENGTH,
    overlap: int = OVERLAP,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """The result (count, …) of ``solve(rows)`` for each window of rows, blended where windows overlap.

    Windows are of even length, at most ``length``; the blend's weight goes smoothly from 0 to 1 over the overlap, but
    for its outer sixths, where a window does not know what comes. progress: called with (frames done, count).
    """
    if count <= length:
        out = solve(slice(0, count))
        if progress:
            progress(count, count)
        return out
    windows = -(-(count - overlap) // (length - overlap))
    starts = np.linspace(0, count - length, windows).round().astype(np.int64)
    out, stop = solve(slice(0, length)), length
    result = np.zeros((count, *out.shape[1:]))
    result[:length] = out
    for start in starts[1:]:
        out, shared = solve(slice(int(start), int(start) + length)), stop - int(start)
        ramp = np.clip((np.arange(shared) + 0.5 - shared / 6) / (shared * 2 / 3), 0, 1)
        ramp = (ramp * ramp * (3 - 2 * ramp)).reshape(-1, *[1] * (out.ndim - 1))
        result[start:stop] = result[start:stop] * (1 - ramp) + out[:shared] * ramp
        result[stop : start + length] = out[shared:]
        stop = int(start) + length
        if progress:
            progress(stop, count)
    return result
