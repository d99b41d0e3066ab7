# SPDX-License-Identifier: GPL-3.0-or-later
"""The light of each take: a slowly changing gain per colour for each clip and camera, learned beside the avatar.

Exposure and white balance differ from camera to camera and drift within a clip. A texture that is compared with all of
them learns their average, and is greyer than any. With a gain that belongs to the take, the texture keeps the
person's own colour; the avatar is exported without gains.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .batches import Shot

#: Rows of a clip between two knots of its gain, linear in between: two seconds of a common film.
ROWS_PER_KNOT = 60
#: No take is taken to be more than this many times brighter or darker than the mean of all.
MOST = 2.0


class LightGains(nn.Module):
    """Gains for the shots of a run, 1 at the start. ``log_gains``: (K, 3), a row for each knot of each take."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        super().__init__()
        takes: dict[tuple[str, str, int], list[int]] = {}
        for i, shot in enumerate(shots):
            dataset, view = shot.dataset, shot.view
            takes.setdefault((str(dataset.path), dataset.clip[view.row], view.camera), []).append(i)
        knot, share, neighbours = np.zeros(len(shots), np.int64), np.zeros(len(shots), np.float32), []
        count = 0
        for places in takes.values():
            rows = np.array([shots[i].view.row for i in places])
            at = (rows - rows.min()) / ROWS_PER_KNOT
            last = int(np.ceil(at.max())) + 1  # at least two knots, so that every shot lies between two
            knot[places] = count + np.minimum(np.floor(at).astype(np.int64), last - 1)
            share[places] = at - np.minimum(np.floor(at), last - 1)
            neighbours += [(count + k, count + k + 1) for k in range(last)]
            count += last + 1
        self.log_gains = nn.Parameter(torch.zeros(count, 3))
        self.register_buffer("knot", torch.from_numpy(knot), persistent=False)
        self.register_buffer("share", torch.from_numpy(share), persistent=False)
        self.register_buffer("neighbours", torch.tensor(neighbours), persistent=False)

    knot: Tensor
    share: Tensor
    neighbours: Tensor

    def forward(self, which: Sequence[int]) -> Tensor:
        """The gains of shots, by their places in the run's list: (B, 3, 1, 1), for display sRGB in 0..1."""
        first, share = self.knot[list(which)], self.share[list(which), None]
        bounded = torch.tanh(self.log_gains) * float(np.log(MOST))
        return torch.exp(torch.lerp(bounded[first], bounded[first + 1], share))[:, :, None, None]

    def penalty(self) -> Tensor:
        """Pulls the mean of all gains to 1, so that they and the textures cannot drift apart, and each to its
        neighbours in time."""
        steps = self.log_gains[self.neighbours[:, 1]] - self.log_gains[self.neighbours[:, 0]]
        return (
            self.log_gains.mean(0).square().sum() + 0.1 * steps.square().mean() + 1e-3 * self.log_gains.square().mean()
        )
