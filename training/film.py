# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataset's views as an avatar draws them; a network that reads the past is shown its own frames before, in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..neural_backend.avatar import Avatar
from ..neural_backend.layer import body_maps
from ..neural_backend.past import PAST_FRAMES, DrawnFrame, past_of
from ..neural_backend.renderer import crop_of, paint
from .dataset import Dataset, View

#: A film is drawn in pieces of so many rows, each begun so many rows earlier: what a frame looks like then depends on
#: the dataset alone, not on which frames were asked for before, and no frame costs more than both together.
PIECE, RUN_IN = 16, 4


class Film:
    """Draws views of a dataset. Fastest when the rows of each camera are asked for in order; equal in any order."""

    def __init__(self, avatar: Avatar, dataset: Dataset) -> None:
        self._avatar, self._dataset = avatar, dataset
        self._memory: dict[int, _Memory] = {}  # by camera

    def draw(self, view: View) -> npt.NDArray[np.float32]:
        """(H, W, 4) float32, straight alpha, display sRGB: the avatar as the view's camera should have seen it. Empty
        where the real camera saw nothing, as the truth is."""
        dataset = self._dataset
        if not self._avatar.config.reads_past:
            image = self._drawn(view, [])[0]
        else:
            memory = self._memory_before(view)
            image, frame = self._drawn(view, memory.frames)
            memory.add(view.row, frame)
        x0, y0, x1, y1 = dataset.filmed(view)
        x, y = np.arange(image.shape[1]) + 0.5, np.arange(image.shape[0]) + 0.5
        inside = ((x >= x0) & (x <= x1)) & ((y >= y0) & (y <= y1))[:, None]
        return np.asarray(image * inside[..., None], np.float32)

    def _memory_before(self, view: View) -> _Memory:
        """The frames before a view, drawn as far as they are not yet."""
        first = self._first_row(view.row)
        memory = self._memory.get(view.camera)
        if memory is None or memory.first != first or memory.next > view.row:
            memory = self._memory[view.camera] = _Memory(first)
        for row in range(memory.next, view.row):
            memory.add(row, self._drawn(View(row, view.camera), memory.frames)[1])
        return memory

    def _first_row(self, row: int) -> int:
        """Where the piece of film with a row begins: no earlier than its clip, and never before a gap."""
        begin = row // PIECE * PIECE - RUN_IN
        while row > begin and self._dataset.row_before(row) is not None:
            row -= 1
        return row

    @torch.inference_mode()
    def _drawn(self, view: View, before: list[DrawnFrame | None]) -> tuple[npt.NDArray[np.float32], DrawnFrame | None]:
        avatar, dataset = self._avatar, self._dataset
        joints, confidence = dataset.joints[view.row], dataset.confidence[view.row]
        known = dataset.frames is None or bool(dataset.frames.valid[view.row, view.camera])
        camera = dataset.camera(view) if known else dataset.cameras[view.camera]
        crop = crop_of(avatar, joints, confidence, camera) if known else None
        if crop is None:
            return np.zeros((camera.height, camera.width, 4), np.float32), None
        past = past_of(before, crop) if any(before) else None
        maps = body_maps(avatar, joints, confidence, crop, past)
        frame = None
        if avatar.config.reads_past:
            assert maps.rgb is not None
            alpha = torch.sigmoid(maps.mask_logits)
            frame = DrawnFrame(joints, confidence, crop, torch.cat([maps.rgb * alpha, alpha], 1)[0])
        return paint(avatar, maps, crop, camera), frame


class _Memory:
    """The last frames of a camera's film. first: the row it began with; next: the row that is to come."""

    def __init__(self, first: int) -> None:
        self.first, self.next = first, first
        self.frames: list[DrawnFrame | None] = []

    def add(self, row: int, frame: DrawnFrame | None) -> None:
        """Remember the frame of a row as the nearest."""
        self.next, self.frames = row + 1, [frame, *self.frames[: PAST_FRAMES - 1]]
