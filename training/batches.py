# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of training crops. What a step sees depends on the seed and the step alone, so that a resumed run sees the
same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..neural_backend.interface.camera import Camera
from ..neural_backend.virtual_camera import crop_camera
from .crops import Augmentation, Crop, cut_crop, vary_camera
from .dataset import Dataset, View
from .disturbance import Disturbance, disturb
from .losses import Truth
from .prefetch import Prefetch, workers_for
from .sequences import FORGET, FROM_TRUTH, Before
from .sides import FilmedSides, turned


@dataclass(frozen=True)
class Shot:
    """A view that can be trained on: its dataset, the virtual camera that frames the body in it, and the body's size
    (m)."""

    dataset: Dataset
    view: View
    camera: Camera
    body_size: float

    @property
    def joints(self) -> npt.NDArray[np.float32]:
        """(137, 3) float32, world metres."""
        return np.asarray(self.dataset.joints[self.view.row])

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """(137,) float32."""
        return np.asarray(self.dataset.confidence[self.view.row])

    @property
    def film(self) -> tuple[int, int]:
        """What tells apart the films that shots come from: the dataset's identity, and the camera."""
        return id(self.dataset), self.view.camera

    @property
    def magnification(self) -> float:
        """Pixels of the tight crop for each of the picture's; below 1 the footage is finer than the crop."""
        return float(self.camera.K[1, 1] / self.dataset.camera(self.view).K[1, 1])

    def crop(self, camera: Camera | None = None) -> Crop:
        """The picture as ``camera`` sees it; the tight crop by default."""
        dataset, view = self.dataset, self.view
        return cut_crop(dataset.picture(view), dataset.camera(view), camera or self.camera, dataset.filmed(view))


def shots_of(dataset: Dataset, views: Sequence[View], size: tuple[int, int], body_sizes: npt.ArrayLike) -> list[Shot]:
    """The views in which the body can be seen. size: (H, W) of the network; body_sizes: (T,) metres, a size for each
    row."""
    sizes = np.asarray(body_sizes)
    shots = []
    for view in views:
        row, body_size = view.row, float(sizes[view.row])
        camera = crop_camera(dataset.camera(view), dataset.joints[row], dataset.confidence[row], size, body_size)
        if camera is not None:
            shots.append(Shot(dataset, view, camera, body_size))
    return shots


def enlarged(camera: Camera, factor: int) -> Camera:
    """The same view in a picture of ``factor`` times the size."""
    w, h = camera.width, camera.height
    return camera.crop(0, 0, w, h, w * factor, h * factor)


#: One step in so many looks at unseen sides too, where it is asked to.
UNSEEN_EVERY = 4

#: Joints (B, 137, 3), confidence (B, 137) and cameras, without pictures.
Poses = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], tuple[Camera, ...]]


@dataclass(frozen=True)
class Batch:
    """joints: (B, 137, 3) world metres; confidence: (B, 137); cameras: B cameras of the network's size; truth: see
    Truth; which: places of the B shots in the source's list; before: the rows before, where the source gives them;
    unseen: poses from sides that were not filmed, in some steps, where the source gives them."""

    joints: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    cameras: tuple[Camera, ...]
    truth: Truth
    which: tuple[int, ...] = ()
    before: Before | None = None
    unseen: Poses | None = None


def stack(
    shots: Sequence[Shot], crops: Sequence[Crop], backgrounds: npt.NDArray[np.float32], device: torch.device
) -> Batch:
    """A batch of crops. backgrounds: (N, B, 3)."""

    def put(arrays: Sequence[npt.NDArray[np.float32]] | npt.NDArray[np.float32]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(arrays))
        # From pinned memory a GPU fetches by itself, in the order of its other work: no thread waits for it.
        return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

    truth = Truth(put(np.stack([c.rgba for c in crops])), put(np.stack([c.valid for c in crops])), put(backgrounds))
    joints, confidence = np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots])
    return Batch(joints, confidence, tuple(c.camera for c in crops), truth)


class BatchSource:
    """Makes the batch of any step from at least one shot, ahead of time in threads of its own.

    part: this process's number and how many train together. What is random is drawn for the whole batch, of which each
    process makes its part: together they see what one alone would. before: how many rows before each
    shot's own a batch holds as well. sides: given where batches are to hold poses from unseen sides.
    """

    def __init__(
        self, shots: Sequence[Shot], batch: int, seed: int, augmentation: Augmentation, device: torch.device,
        disturbance: Disturbance | None = None, before: int = 0, part: tuple[int, int] = (0, 1),
        workers: int | None = None, sides: FilmedSides | None = None,
    ) -> None:  # fmt: skip
        self._shots, self._batch, self._seed = tuple(shots), batch, seed
        self._augmentation, self._device = augmentation, device
        self._disturbance, self._sides = disturbance or Disturbance(), sides
        self._before, self._shot_before = before, _shots_before(self._shots) if before else ()
        own = batch // part[1]
        self._own = slice(part[0] * own, (part[0] + 1) * own)
        self._ahead = Prefetch(workers or workers_for(device), partial(_use, device))

    @property
    def shots(self) -> tuple[Shot, ...]:
        """What is trained on; a batch's ``which`` are places in it."""
        return self._shots

    def fingerprint(self) -> str:
        """A digest of what is trained on: pictures, joints and cameras; equal for equal data wherever it lies."""
        digest = hashlib.sha256()
        for shot in self._shots:
            digest.update(f"{shot.dataset.picture_path(shot.view).parent.name}/{shot.view.row}".encode())
            for array in (shot.joints, shot.confidence, shot.camera.K, shot.camera.R, shot.camera.t):
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(shot.dataset.picture_digest(shot.view))
        return digest.hexdigest()

    def batch(self, step: int, attempt: int = 0, detail: int = 1) -> Batch:
        """The batch of a step. attempt: raised after a rollback, so that a failed step sees other crops. detail: the
        truth is this many times larger than the network's pictures."""
        made: Batch = self._get(self._make, step, attempt, detail)
        return made

    def poses(self, step: int, attempt: int = 0) -> Poses:
        """Joints (B, 137, 3), confidence (B, 137) and cameras without pictures, the cameras turned around the body at
        random: pre-training towards the proxy needs no pictures, so it is not bound to the cameras that took them."""
        made: Poses = self._get(self._make_poses, step, attempt)
        return made

    def waiting(self) -> float:
        """The share of the time since this was last asked that steps have waited for their batches."""
        return self._ahead.waiting()

    def _get(self, make: Callable[..., Any], step: int, *rest: int) -> Any:
        ahead = range(step + 1, step + 1 + self._ahead.depth)
        return self._ahead.get((make, step, *rest), [(make, later, *rest) for later in ahead])

    def _make_poses(self, step: int, attempt: int) -> Poses:
        rng = np.random.default_rng((self._seed, 3, step, attempt))
        shots = [self._shots[i] for i in self._choose(step)]
        cameras = [vary_camera(turned(shot, rng), rng, self._augmentation) for shot in shots]
        shots, cameras = shots[self._own], cameras[self._own]
        return np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots]), tuple(cameras)

    def close(self) -> None:
        """End the threads."""
        self._ahead.close()

    def _make(self, step: int, attempt: int, detail: int) -> Batch:
        rng = np.random.default_rng((self._seed, 1, step, attempt))
        which, own = self._choose(step), self._own
        shots = [self._shots[i] for i in which]
        cameras = [vary_camera(shot.camera, rng, self._augmentation) for shot in shots]
        random = rng.uniform(0, 1, (self._batch, 3)).astype(np.float32)
        joints, confidence = np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots])
        joints, confidence = disturb(joints, confidence, rng, self._disturbance)
        shots, cameras, random = shots[own], cameras[own], random[own]
        crops = [shot.crop(enlarged(camera, detail)) for shot, camera in zip(shots, cameras, strict=True)]
        batch = stack(shots, crops, np.stack([np.ones_like(random), random]), self._device)
        before = self._rows_before(which, cameras, step, attempt, detail) if self._before else None
        unseen = self._unseen(step, attempt) if step % UNSEEN_EVERY == UNSEEN_EVERY - 1 else None
        return replace(batch, joints=joints[own], confidence=confidence[own], cameras=tuple(cameras),
                       which=tuple(which[own]), before=before, unseen=unseen)  # fmt: skip

    def _unseen(self, step: int, attempt: int) -> Poses | None:
        """Poses from unseen sides, as many as a batch has; None where there are none."""
        if self._sides is None:
            return None
        rng = np.random.default_rng((self._seed, 5, step, attempt))
        found = [self._sides.unseen(rng) for _ in range(self._batch)]
        some = [pair for pair in found if pair is not None]
        if not some:
            return None
        pairs = [some[i % len(some)] for i in range(self._batch)]  # every process needs as many
        cameras = [vary_camera(camera, rng, self._augmentation) for _, camera in pairs][self._own]
        shots = [shot for shot, _ in pairs][self._own]
        return np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots]), tuple(cameras)

    def _rows_before(
        self, which: Sequence[int], cameras: Sequence[Camera], step: int, attempt: int, detail: int
    ) -> Before:
        """The rows before those of the shots, seen by the shots' own cameras: what stands still is at rest. which:
        of the whole batch; cameras: this process's."""
        rng = np.random.default_rng((self._seed, 4, step, attempt))
        forgotten, from_truth = rng.random((len(which), self._before)) < FORGET, rng.random() < FROM_TRUTH
        poses, truths, there, places = [], [], [], list(which)
        for _ in range(self._before):
            found = [self._shot_before[i] for i in places]
            there.append([i is not None for i in found])
            places = [old if new is None else new for old, new in zip(places, found, strict=True)]
            shots = [self._shots[i] for i in places]
            joints, confidence = np.stack([s.joints for s in shots]), np.stack([s.confidence for s in shots])
            joints, confidence = disturb(joints, confidence, rng, self._disturbance)
            shots = shots[self._own]
            crops = [shot.crop(enlarged(camera, detail)) for shot, camera in zip(shots, cameras, strict=True)]
            batch = stack(shots, crops, np.zeros((1, len(shots), 3), np.float32), self._device)
            poses.append((joints[self._own], confidence[self._own]))
            truths.append(batch.truth)
        joints, confidence = (np.stack(x, 1) for x in zip(*poses, strict=True))
        known = np.logical_and.accumulate(np.array(there).T[self._own], axis=1)
        return Before(joints, confidence, tuple(truths), known, forgotten[self._own], from_truth)

    def _choose(self, step: int) -> list[int]:
        """Every shot once in each epoch, in an order drawn from the seed and the epoch."""
        count, out = len(self._shots), []
        for k in range(step * self._batch, (step + 1) * self._batch):
            epoch, place = divmod(k, count)
            out.append(int(_order(self._seed, epoch, count)[place]))
        return out


def _shots_before(shots: Sequence[Shot]) -> tuple[int | None, ...]:
    """For each shot the place of the same camera's shot of the row before; None where there is none."""
    places = {(id(shot.dataset), shot.view): i for i, shot in enumerate(shots)}
    rows = [shot.dataset.row_before(shot.view.row) for shot in shots]
    return tuple(
        None if row is None else places.get((id(shot.dataset), View(row, shot.view.camera)))
        for shot, row in zip(shots, rows, strict=True)
    )


def _order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng((seed, 2, epoch)).permutation(count)


def _use(device: torch.device) -> None:
    """What a thread does first: without it, pinning memory would take a share of the first GPU."""
    if device.index is not None:
        torch.cuda.set_device(device)
