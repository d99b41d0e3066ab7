# SPDX-License-Identifier: GPL-3.0-or-later
"""A dataset's views as an avatar draws them; a network that reads the past is shown its own frames before, in order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ..neural_backend.avatar import Avatar, BodyMaps
from ..neural_backend.interface.camera import Camera
from ..neural_backend.layer import body_maps
from ..neural_backend.past import PAST_FRAMES, DrawnFrame, Past, past_of
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

    @torch.inference_mode()
    def draw(self, view: View) -> npt.NDArray[np.float32]:
        """(H, W, 4) float32, straight alpha, display sRGB: the avatar as the view's camera should have seen it. Empty
        where the real camera saw nothing, as the truth is."""
        avatar, dataset, camera = self._avatar, self._dataset, self._dataset.camera(view)
        joints, confidence = dataset.joints[view.row], dataset.confidence[view.row]
        memory = self._memory_before(view) if avatar.config.reads_past else None
        crop = self._crop(view)
        image, frame = np.zeros((camera.height, camera.width, 4), np.float32), None
        if crop is not None:
            past = memory.seen_by(crop) if memory is not None else None
            maps = body_maps(avatar, joints, confidence, crop, past)
            image, frame = paint(avatar, maps, crop, camera), self._kept(view, crop, maps)
        if memory is not None:
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
            before = View(row, view.camera)
            crop, frame = self._crop(before), None
            if crop is not None:
                joints, confidence = self._dataset.joints[row][None], self._dataset.confidence[row][None]
                frame = self._kept(before, crop, self._avatar.maps(joints, confidence, [crop], memory.seen_by(crop)))
            memory.add(row, frame)
        return memory

    def _first_row(self, row: int) -> int:
        """Where the piece of film with a row begins: no earlier than its clip, and never before a gap."""
        begin = row // PIECE * PIECE - RUN_IN
        while row > begin and self._dataset.row_before(row) is not None:
            row -= 1
        return row

    def _crop(self, view: View) -> Camera | None:
        """The virtual camera of a view; None where nobody is seen."""
        dataset = self._dataset
        if dataset.frames is not None and not dataset.frames.valid[view.row, view.camera]:
            return None
        return crop_of(self._avatar, dataset.joints[view.row], dataset.confidence[view.row], dataset.camera(view))

    def _kept(self, view: View, crop: Camera, maps: BodyMaps) -> DrawnFrame | None:
        """What the network is to remember of a frame."""
        if maps.rgb is None:
            return None
        alpha = torch.sigmoid(maps.mask_logits)
        picture = torch.cat([maps.rgb * alpha, alpha], 1)[0]
        return DrawnFrame(self._dataset.joints[view.row], self._dataset.confidence[view.row], crop, picture)


class _Memory:
    """The last frames of a camera's film. first: the row it began with; next: the row that is to come."""

    def __init__(self, first: int) -> None:
        self.first, self.next = first, first
        self.frames: list[DrawnFrame | None] = []

    def add(self, row: int, frame: DrawnFrame | None) -> None:
        """Remember the frame of a row as the nearest."""
        self.next, self.frames = row + 1, [frame, *self.frames[: PAST_FRAMES - 1]]

    def seen_by(self, camera: Camera) -> Past | None:
        """The past as a crop of the present frame sees it."""
        return past_of(self.frames, camera) if any(self.frames) else None
