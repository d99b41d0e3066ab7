# SPDX-License-Identifier: GPL-3.0-or-later
"""One least-squares fit of all joints over all frames of a clip, for one camera or several.

The unknowns of a frame form a block; frames are tied by the second difference alone, so the normal matrix is banded
and one Gauss-Newton step over 300 frames costs about a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded

from ...neural_backend.interface.camera import Array, Camera

#: Standard deviations of acceleration from which on a tie gives way: a wrong detection must not bend its neighbours.
_JOLT = 3.0


@dataclass(frozen=True)
class Bones:
    """Distances that stay. pairs: (B, 2) joint columns; length: (B,) metres; sigma: (B,) metres."""

    pairs: npt.NDArray[np.int64]
    length: Array
    sigma: Array


@dataclass(frozen=True)
class Leaning:
    """Vectors between joints that another source proposes. pairs: (P, 2) joint columns, vector: (T, P, 3) metres from
    the first to the second, world axes; weight: (T, P), 0 where unknown; sigma: metres, soft-L1 beyond it."""

    pairs: npt.NDArray[np.int64]
    vector: Array
    weight: Array
    sigma: float


def fit_clip(
    start: Array,
    rays: Array,
    weight: Array,
    cameras: Sequence[Camera],
    bones: Bones,
    *,
    soft: float,
    leaning: Leaning | None = None,
    times: npt.NDArray[np.float64] | None = None,
    acceleration: float = 0.0,
    rounds: int = 20,
) -> Array:
    """Joints (T, J, 3) in world metres that fit best.

    start: (T, J, 3). rays: (T, C, J, 2), see optics.to_rays; weight: (T, C, J), 0 where a camera does not see the
    joint. Residuals: metres across the rays, with the soft-L1 loss of scale ``soft``; bone lengths; leaning; and, where
    ``times`` (T,) seconds is given, accelerations over ``acceleration`` (m/s², one standard deviation; soft-L1 beyond
    three). Joints of which nothing is known stay where they start; a bone counts only where both its joints are known.
    Levenberg-Marquardt with iterative reweighting.
    """
    problem = _Problem(start, rays, weight, cameras, bones, soft, leaning)
    ties = None if times is None else _ties(times, acceleration)
    x, damping = start.copy(), 1e-3
    cost = problem.cost(x) + _tie_cost(x, ties)
    for _ in range(rounds):
        h, g = problem.normal(x)
        # Tried again from the same linearisation with more damping until it goes down.
        while damping < 1e8:
            trial = x - _solve(h, g, x, ties, damping)
            trial_cost = problem.cost(trial) + _tie_cost(trial, ties)
            if trial_cost <= cost:
                break
            damping *= 10
        else:
            return x
        gain, x, cost, damping = cost - trial_cost, trial, trial_cost, damping / 10
        if gain < 1e-4 * cost:
            break
    return x


class _Problem:
    """The terms within a frame: rays, bones, leaning."""

    def __init__(
        self,
        start: Array,
        rays: Array,
        weight: Array,
        cameras: Sequence[Camera],
        bones: Bones,
        soft: float,
        leaning: Leaning | None,
    ) -> None:
        self.rays, self.weight, self.bones, self.soft, self.leaning = rays, weight, bones, soft, leaning
        self.r = np.stack([camera.R for camera in cameras])
        self.t = np.stack([camera.t for camera in cameras])
        # The two rows that give (x, y) - depth * ray of a point in the camera's axes: linear in the point.
        self.rows = (self.r[:, None, :2] - rays[..., None] * self.r[:, None, 2:]) / soft
        self.constant = (self.t[:, None, :2] - rays * self.t[:, None, 2:]) / soft
        known = np.asarray((weight > 0).any(1), bool)
        if leaning is not None:
            for i, pair in enumerate(leaning.pairs):
                known[:, pair] |= leaning.weight[:, i, None] > 0
        a, b = bones.pairs.T
        self.bone_weight = (known[:, a] & known[:, b]).astype(np.float64) / bones.sigma**2

    def cost(self, x: Array) -> float:
        residual = self._across(x)
        total = (self.weight * 2 * (np.sqrt(1 + (residual**2).sum(-1)) - 1)).sum()
        total += (self.bone_weight * self._stretch(x)[0] ** 2).sum()
        if self.leaning is not None:
            squared = (self._lean(x) ** 2).sum(-1)
            total += (self.leaning.weight * 2 * (np.sqrt(1 + squared) - 1)).sum()
        return float(total)

    def normal(self, x: Array) -> tuple[Array, Array]:
        """Blocks (T, 3J, 3J) of the normal matrix and the gradient (T, J, 3)."""
        count, joints = x.shape[:2]
        h = np.zeros((count, joints, 3, joints, 3))
        residual = self._across(x)
        w = self.weight / np.sqrt(1 + (residual**2).sum(-1))
        column = np.arange(joints)
        weighted = w[..., None, None] * self.rows
        h[:, column, :, column] += np.einsum("tcjki,tcjkl->jtil", weighted, self.rows, optimize=True)
        g = np.einsum("tcjki,tcjk->tji", weighted, residual, optimize=True)
        stretch, unit = self._stretch(x)
        force = (self.bone_weight * stretch)[..., None] * unit
        stiff = self.bone_weight[..., None, None] * unit[..., :, None] * unit[..., None, :]
        for i, pair in enumerate(self.bones.pairs):
            _spring(h, g, pair, stiff[:, i], force[:, i])
        if self.leaning is not None:
            off = self._lean(x)
            w = self.leaning.weight / np.sqrt(1 + (off**2).sum(-1)) / self.leaning.sigma
            for i, pair in enumerate(self.leaning.pairs):
                stiff_i = (w[:, i] / self.leaning.sigma)[:, None, None] * np.eye(3)
                _spring(h, g, pair, stiff_i, w[:, i, None] * off[:, i])
        return h.reshape(count, 3 * joints, 3 * joints), g

    def _across(self, x: Array) -> Array:
        return np.asarray(np.einsum("tcjki,tji->tcjk", self.rows, x) + self.constant)

    def _stretch(self, x: Array) -> tuple[Array, Array]:
        a, b = self.bones.pairs.T
        d = x[:, b] - x[:, a]
        length = np.maximum(np.linalg.norm(d, axis=-1), 1e-6)
        return length - self.bones.length, d / length[..., None]

    def _lean(self, x: Array) -> Array:
        assert self.leaning is not None
        a, b = self.leaning.pairs.T
        off = (x[:, b] - x[:, a] - self.leaning.vector) / self.leaning.sigma
        return np.asarray(np.where(self.leaning.weight[..., None] > 0, off, 0))


def _spring(h: Array, g: Array, pair: npt.NDArray[np.int64], stiff: Array, force: Array) -> None:
    """Adds what pulls on the vector from pair[0] to pair[1]: stiffness (T, 3, 3), force (T, 3)."""
    a, b = int(pair[0]), int(pair[1])
    h[:, a, :, a] += stiff
    h[:, b, :, b] += stiff
    h[:, a, :, b] -= stiff
    h[:, b, :, a] -= stiff
    g[:, a] -= force
    g[:, b] += force


def _ties(times: npt.NDArray[np.float64], acceleration: float) -> Array:
    """Coefficients (T-2, 3) of the second divided difference over ``acceleration``; 0 across holes of half a second."""
    h = np.diff(times)
    before, after = h[:-1], h[1:]
    rows = 2 / np.stack([before * (before + after), -before * after, after * (before + after)], -1)
    rows[np.maximum(before, after) > 0.5] = 0
    return np.asarray(rows / acceleration)


def _tie_cost(x: Array, ties: Array | None) -> float:
    if ties is None or len(x) < 3:
        return 0.0
    squared = (_bend(x, ties) ** 2).sum(-1)
    return float(2 * _JOLT**2 * (np.sqrt(1 + squared / _JOLT**2) - 1).sum())


def _bend(x: Array, ties: Array) -> Array:
    a, b, c = ties.T[..., None, None]
    return np.asarray(a * x[:-2] + b * x[1:-1] + c * x[2:])


def _solve(h: Array, g: Array, x: Array, ties: Array | None, damping: float) -> Array:
    """The damped step (T, J, 3) to subtract."""
    count, n = h.shape[:2]
    diagonal = np.einsum("tii->ti", h) * damping + 1e-3
    if ties is None or count < 3:
        return np.asarray(np.linalg.solve(h + diagonal[..., None] * np.eye(n), g.reshape(count, n, 1))).reshape(x.shape)
    band = np.zeros((2 * n + 1, count, n))
    for k in range(n):
        band[k, :, : n - k] = np.diagonal(h, -k, 1, 2)
    band[0] += diagonal
    bend = _bend(x, ties)
    # (T-2, 3J): how much each joint's tie still holds.
    hold = np.repeat(1 / np.sqrt(1 + (bend**2).sum(-1) / _JOLT**2), 3, 1)
    g = g.copy()
    for i in range(3):
        rows = slice(i, count - 2 + i)
        g[rows] += ties[:, i, None, None] * bend * hold.reshape(bend.shape)
        for j in range(i + 1):
            # Column j of the tie at row i: below the diagonal by i - j frames.
            band[(i - j) * n, j : count - 2 + j] += (ties[:, i] * ties[:, j])[:, None] * hold
    flat = solveh_banded(
        band.reshape(2 * n + 1, count * n), g.ravel(), lower=True, overwrite_ab=True, check_finite=False
    )
    return np.asarray(flat).reshape(x.shape)
