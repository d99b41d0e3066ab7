# SPDX-License-Identifier: GPL-3.0-or-later
"""Other ways to a mask: GrabCut as a refinement, DeepLabV3 where the user has torchvision and its weights.

Both are slower than the pose model's segmentation and off by default. Nothing is downloaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...neural_backend.interface.messages import BackendError
from .video import Bytes
from .views import Box, cut, place_mask

#: The person in the 21 classes of Pascal VOC.
_PERSON = 15

#: The longer side of the pictures DeepLab looks at; it was trained at 520.
_DEEPLAB_SIZE = 520

_BACKBONES = ("deeplabv3_resnet101", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large")


def refine_grabcut(rgb: Bytes, mask: Bytes, rounds: int = 3) -> Bytes:
    """GrabCut (Rother et al. 2004) on colours, seeded by a mask (h, w) uint8; a band around its border is decided anew.

    rgb: (h, w, 3) uint8. Returns (h, w) uint8, 0 or 255. A mask that leaves nothing to decide comes back as it is.
    """
    rows, columns = np.flatnonzero((mask > 127).any(1)), np.flatnonzero((mask > 127).any(0))
    if not rows.size:
        return mask
    size = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    band = max(int(0.015 * size), 2)
    y0, y1 = max(rows[0] - 4 * band, 0), rows[-1] + 4 * band + 1
    x0, x1 = max(columns[0] - 4 * band, 0), columns[-1] + 4 * band + 1
    part = (mask[y0:y1, x0:x1] > 127).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    inside, around = cv2.erode(part, kernel), cv2.dilate(part, kernel)
    labels = np.where(part > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside > 0], labels[around == 0] = cv2.GC_FGD, cv2.GC_BGD
    if not (inside.any() and (around == 0).any()):
        return mask
    picture = np.ascontiguousarray(rgb[y0:y1, x0:x1, ::-1])
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, labels, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
    out = np.zeros_like(mask)
    out[y0:y1, x0:x1] = np.where((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), 255, 0)
    return out


class DeepLab:
    """torchvision's DeepLabV3, trained on COCO with Pascal VOC's classes.

    weights: its .pth file, or a folder that holds one; a path that does not exist and has no ending stands for
    torchvision's own cache. Raises BackendError 'deeplab-missing' (torchvision), 'deeplab-weights'.
    """

    def __init__(self, weights: Path) -> None:
        try:
            import torch
            from torchvision.models import segmentation
        except (ImportError, OSError, RuntimeError) as error:  # the latter where it was built for another torch
            raise BackendError(
                "deeplab-missing",
                "--deeplab needs torchvision: install the release that fits your torch (pip install torchvision), or "
                "leave the option away.",
                str(error),
            ) from error
        file = _weights(weights, Path(torch.hub.get_dir()) / "checkpoints")
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever the bytes lead to
            raise _bad_weights(file, str(error)) from error
        if not isinstance(state, dict):
            raise _bad_weights(file, f"holds a {type(state).__name__}")
        state = {k: v for k, v in state.items() if not k.startswith("aux_classifier.")}
        build = getattr(segmentation, _backbone(state))
        self._model = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=False)
        try:
            self._model.load_state_dict(state)
        except RuntimeError as error:
            raise _bad_weights(file, str(error)) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.eval().to(self._device)

    def segment(self, rgb: Bytes, box: Box, size: tuple[int, int]) -> Bytes:
        """The people around ``box`` (pixels of the film), (h, w) uint8; size: width and height of the result."""
        import torch

        height, width = rgb.shape[:2]
        room = 0.2 * max(box[2] - box[0], box[3] - box[1])
        view: Box = (
            max(int(box[0] - room), 0), max(int(box[1] - room), 0),
            min(int(box[2] + room), width), min(int(box[3] + room), height),
        )  # fmt: skip
        picture = torch.from_numpy(cut(rgb, view, _DEEPLAB_SIZE)).permute(2, 0, 1).float()[None] / 255
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        picture = (picture - mean[:, None, None]) / deviation[:, None, None]
        with torch.inference_mode():
            chance = self._model(picture.to(self._device))["out"].softmax(1)[0, _PERSON].cpu().numpy()
        return place_mask(np.asarray(chance, np.float32), view, (width, height), size)


def _weights(given: Path, cache: Path) -> Path:
    if given.is_file():
        return given
    folder = given if given.is_dir() else cache if not given.suffix else None
    if folder is None:
        raise BackendError("deeplab-weights", f"There is no file {given}; give DeepLabV3's weights (.pth).")
    for name in _BACKBONES:
        found = sorted(folder.glob(f"{name}*.pth"))
        if found:
            return found[0]
    raise BackendError(
        "deeplab-weights",
        f"There are no weights of DeepLabV3 in {folder}; nothing is downloaded on its own: fetch torchvision's "
        f"{_BACKBONES[0]} (COCO_WITH_VOC_LABELS_V1) and give its .pth file to --deeplab.",
    )


def _backbone(state: dict[str, Any]) -> str:
    """Which of torchvision's DeepLabs these weights are of."""
    if any(k.startswith("backbone.0.") for k in state):
        return _BACKBONES[2]
    layers = {int(m[1]) for k in state if (m := re.match(r"backbone\.layer3\.(\d+)\.", k))}
    return _BACKBONES[0] if max(layers, default=0) > 5 else _BACKBONES[1]


def _bad_weights(file: Path, why: str) -> BackendError:
    return BackendError(
        "deeplab-weights",
        f"{file} does not hold the weights of torchvision's DeepLabV3 (21 classes); give the .pth that torchvision "
        "itself loads.",
        why,
    )
