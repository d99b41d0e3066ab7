# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture coordinates of all parts at every pixel, worked out where they are read.

Of the 48 numbers that a pixel has, its colour reads six, those of its three likeliest parts, and outside the person
none at all. What the network's answer goes through on its way to coordinates is therefore left until then.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .interface.proxy import PART_COUNT, RESIDUAL_REACH

#: Neighbours whose coordinates differ by more than this lie on different charts: hands, feet and hair hold several on
#: one part, and where a part ends it has none. A limb of less than five pixels' width has such neighbours on one chart;
#: there the nearest pixel's coordinates do.
_SAME_CHART = 0.2


@dataclass(frozen=True)
class Coordinates:
    """Coordinates (B, 48, H, W) in 0..1, x and y of each part in turn; residuals may lead a little beyond.

    answer: (B, 48, H, W) of the network, None where there is none. proxy: (B, 48, H, W), the proxy's, over which the
    answer is a residual of limited reach (interface.proxy.RESIDUAL_REACH); None where the answer stands alone.
    """

    answer: Tensor | None
    proxy: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        maps = self._maps
        return maps.shape[-2], maps.shape[-1]

    @property
    def _maps(self) -> Tensor:
        maps = self.proxy if self.answer is None else self.answer
        assert maps is not None
        return maps

    def of(self, bodies: slice) -> Coordinates:
        """Those of some of the bodies."""
        return Coordinates(*(None if maps is None else maps[bodies] for maps in (self.answer, self.proxy)))

    def at(self, body: Tensor | int, part: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """At pixels: (..., 2), x and y. All four (int64; part 0..23) are broadcast against each other.

        Differentiable with respect to the answer.
        """
        height, width = self.size
        first = ((body * PART_COUNT + part) * 2 * height + row) * width + column
        places = torch.stack([first, first + height * width], -1)
        if self.answer is None:
            assert self.proxy is not None
            return self.proxy.reshape(-1)[places]
        answer = self.answer.reshape(-1)[places]
        answer = answer.to(torch.promote_types(answer.dtype, torch.float32))
        if self.proxy is None:
            return torch.sigmoid(answer)
        reach = answer.new_tensor(RESIDUAL_REACH)[part][..., None]
        return torch.addcmul(self.proxy.reshape(-1)[places], reach, torch.tanh(answer))

    def between(self, body: Tensor | int, part: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """At places between pixels: (K, N, 2) for part (K, N), x and y (N,); pixel centres at +0.5, and what lies
        beyond the outermost takes theirs.

        Bilinear on the chart of the nearest pixel: a mean of two charts would lie on neither.
        """
        height, width = self.size
        x, y = (x - 0.5).clamp(0, width - 1), (y - 0.5).clamp(0, height - 1)
        left, top = x.floor().clamp(max=width - 2), y.floor().clamp(max=height - 2)
        fx, fy = x - left, y - top
        weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy])
        left, top = left.long(), top.long()
        rows, columns = torch.stack([top, top, top + 1, top + 1]), torch.stack([left, left + 1, left, left + 1])
        corners = self.at(body, part, rows[:, None], columns[:, None])
        nearest = ((fx > 0.5) + 2 * (fy > 0.5).long())[None, None, :, None].expand(1, *corners.shape[1:])
        beside = (corners - corners.gather(0, nearest)).detach().abs().amax(-1) < _SAME_CHART
        shares = weights[:, None] * beside
        return (corners * (shares / shares.sum(0))[..., None]).sum(0)
