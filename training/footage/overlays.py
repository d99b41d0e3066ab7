# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures for the report: skeleton and mask over a dataset's sample frames, the worst and some evenly spread."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.skeleton import BODY_BONES, BODY_JOINTS, FACE_BONES, LEFT_HAND_BONES, RIGHT_HAND_BONES
from ..dataset import View
from .survey import Survey, straight

Image = npt.NDArray[np.uint8]

#: The longer side of an overlay, pixels.
SIZE = 384
#: Samples of each camera.
EVEN, WORST = 3, 3

_RIGHT, _LEFT, _MIDDLE, _MASK = (255, 110, 60), (60, 170, 255), (240, 240, 120), (60, 255, 120)
_FINE = 4  # binary digits behind the point in OpenCV's drawing


def sample_rows(seen: npt.NDArray[np.bool_], badness: npt.NDArray[np.floating]) -> list[int]:
    """Rows of one camera to show: the WORST by badness (higher is worse), apart from one another, then EVEN spread.

    seen: (T,) rows with a picture. badness: (T,), NaN where it is not known.
    """
    rows = np.flatnonzero(seen)
    if not rows.size:
        return []
    chosen: list[int] = []
    apart = max(2, len(rows) // 20)
    for row in rows[np.argsort(-np.nan_to_num(badness[rows], nan=-1.0), kind="stable")]:
        if len(chosen) < WORST and np.isfinite(badness[row]) and all(abs(row - c) >= apart for c in chosen):
            chosen.append(int(row))
    for i in range(EVEN):
        row = int(rows[(2 * i + 1) * len(rows) // (2 * EVEN)])
        if row not in chosen:
            chosen.append(row)
    return chosen


def overlay(survey: Survey, view: View) -> Image | None:
    """(H, W, 3) RGB: the frame with its surroundings where they were kept, else before grey; the mask's outline, the
    skeleton (right side orange, left side blue). None where the picture cannot be read."""
    data = survey.dataset
    if not survey.stored[view.row, view.camera]:
        return None
    rgba = straight(data.picture(view))
    sample = data.path / "samples" / data.camera_names[view.camera] / f"{view.row:05d}.jpg"
    around = cv2.imdecode(np.fromfile(sample, np.uint8), cv2.IMREAD_COLOR) if sample.is_file() else None
    if around is not None and around.shape[:2] == rgba.shape[:2]:
        alpha = rgba[..., 3:].astype(np.float32) / 255
        picture = around[..., ::-1] * (0.55 + 0.45 * alpha) + 12 * (1 - alpha)
    else:
        alpha = rgba[..., 3:].astype(np.float32) / 255
        picture = rgba[..., :3] * alpha + 90 * (1 - alpha)
    scale = SIZE / max(rgba.shape[:2])
    size = (round(rgba.shape[1] * scale), round(rgba.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(picture.clip(0, 255).astype(np.uint8), size, interpolation=method)
    canvas = np.ascontiguousarray(shown, np.uint8)
    mask = cv2.resize(rgba[..., 3], size, interpolation=cv2.INTER_LINEAR) > 127
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, _MASK, 1, cv2.LINE_AA)
    _skeleton(canvas, survey.pixels[view.row, view.camera] * scale, data.confidence[view.row])
    return canvas


def _skeleton(canvas: Image, pixels: npt.NDArray[np.float32], confidence: npt.NDArray[np.float32]) -> None:
    limit = 4.0 * max(canvas.shape)
    known = (confidence > 0) & np.isfinite(pixels).all(1) & (np.abs(np.nan_to_num(pixels)) < limit).all(1)
    fixed = np.rint((np.nan_to_num(pixels) - 0.5) * 2**_FINE).clip(-(2**26), 2**26).astype(int)
    for bones, thickness in ((FACE_BONES, 1), (LEFT_HAND_BONES + RIGHT_HAND_BONES, 1), (BODY_BONES, 2)):
        for a, b in bones:
            if known[a] and known[b]:
                colour = _colour(b) if bones is BODY_BONES else _MIDDLE
                cv2.line(canvas, fixed[a].tolist(), fixed[b].tolist(), colour, thickness, cv2.LINE_AA, _FINE)
    for joint in np.flatnonzero(known[: len(BODY_JOINTS)]):
        cv2.circle(canvas, fixed[joint].tolist(), 3 << _FINE, _colour(int(joint)), -1, cv2.LINE_AA, _FINE)


def _colour(joint: int) -> tuple[int, int, int]:
    name = BODY_JOINTS[joint]
    return _RIGHT if name[0] == "R" else _LEFT if name[0] == "L" else _MIDDLE
