# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture that grows as a run trains: a row for each look, truth | render | parts for a few fixed views."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.interface.proxy import PART_COUNT
from ..neural_backend.png import encode_png, write_png
from .atlas import read_picture
from .batches import Shot, stack
from .dataset import Dataset, View
from .initialise import frame_views
from .losses import composite
from .metrics import psnr
from .reporting import Reporter

#: Shares of a run at which the preview is drawn: often at first, when most changes.
LOOKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
#: Colours of the parts, (25, 3): background white last, neighbouring numbers far apart in hue.
PALETTE = np.array(
    [colorsys.hsv_to_rgb(i * 0.618 % 1, 0.65, 0.95 if i % 2 else 0.75) for i in range(PART_COUNT)] + [(1, 1, 1)]
)


def preview_shots(
    avatar: Avatar, datasets: Sequence[Dataset], shots: Sequence[Shot], say: Callable[[str], None]
) -> list[Shot]:
    """One view that is trained on, and two that are not where there are any and they can be read: for the eye, never
    for training."""
    dataset = datasets[0]
    cameras = dataset.heldout_cameras or tuple(range(len(dataset.cameras)))
    rows = [i for i, name in enumerate(dataset.split) if name != "train" and dataset.usable[i]]
    rows = rows or [i for i in range(len(dataset.split)) if dataset.usable[i]]
    places = [(rows[len(rows) // 4], cameras[0]), (rows[len(rows) * 3 // 4], cameras[-1])]
    views = [View(row, camera) for row, camera in places]
    unseen = [view for view in views if dataset.has_picture(view) and _can_be_read(dataset, view, say)]
    return [shots[len(shots) // 3], *frame_views(avatar, [dataset], [unseen])]


def _can_be_read(dataset: Dataset, view: View, say: Callable[[str], None]) -> bool:
    try:
        dataset.picture(view)
    except BackendError as error:
        say(f"{error.message} The preview goes without it.")
        return False
    return True


@torch.no_grad()
def thumbnail(avatar: Avatar, shot: Shot, height: int = 192) -> bytes:
    """A small PNG with alpha of the avatar as a shot sees it."""
    was_training = avatar.training
    avatar.eval()
    prediction = avatar(shot.joints[None], shot.confidence[None], [shot.camera])
    avatar.train(was_training)
    premultiplied = (
        torch.cat([prediction.rgb * prediction.alpha, prediction.alpha], 1)[0].permute(1, 2, 0).cpu().numpy()
    )
    width = round(height * shot.camera.width / shot.camera.height)
    small = np.asarray(cv2.resize(premultiplied, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    return encode_png(small)


class Preview:
    """Draws ``preview.png`` in a run's folder. Rows are kept as files of their own, so that a resumed run goes on with
    them."""

    def __init__(self, folder: Path, shots: Sequence[Shot], reporter: Reporter) -> None:
        self._folder, self._shots, self._reporter = folder, tuple(shots), reporter

    @torch.no_grad()
    def look(self, avatar: Avatar, step: int) -> float:
        """Add the row of a step. Returns the mean PSNR over white of the views, in dB."""
        device = avatar.proxy_params.device
        crops = [shot.crop() for shot in self._shots]
        batch = stack(self._shots, crops, np.ones((1, len(crops), 3), np.float32), device)
        was_training = avatar.training
        avatar.eval()
        prediction = avatar(batch.joints, batch.confidence, batch.cameras)
        avatar.train(was_training)
        white = batch.truth.backgrounds[0]
        images = composite(prediction.rgb, prediction.alpha, white).clamp(0, 1)
        true_alpha = batch.truth.rgba[:, 3:]
        truths = batch.truth.rgba[:, :3] + white[:, :, None, None] * (1 - true_alpha)
        logits = prediction.maps.logits
        parts = logits.argmax(1).cpu().numpy() if logits.shape[1] > 1 else None
        mask = (prediction.maps.mask_logits > 0)[:, 0].cpu().numpy()
        cells, scores = [], []
        for i in range(len(crops)):
            truth, image = (x[i].permute(1, 2, 0).cpu().numpy() for x in (truths, images))
            coloured = PALETTE[parts[i]] if parts is not None else 1 - mask[i][..., None] * np.full(3, 0.6)
            cells += [truth, image, coloured]
            scores.append(psnr(image, truth))
        row = np.rint(np.concatenate(cells, 1).clip(0, 1) * 255).astype(np.uint8)
        cv2.putText(row, f"step {step}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        with self._reporter.side_product("preview"):
            (self._folder / "preview").mkdir(exist_ok=True)
            write_png(self._folder / "preview" / f"{step:08d}.png", row / 255)
            self._stack()
        return float(np.mean(scores))

    def _stack(self) -> None:
        # A row that a power cut left empty is passed over.
        files = sorted((self._folder / "preview").glob("*.png"))
        rows = [row for path in files if (row := read_picture(path)) is not None]
        same = [row for row in rows if row.shape == rows[-1].shape]
        write_png(self._folder / "preview.png", np.concatenate(same) / 255)
