# SPDX-License-Identifier: GPL-3.0-or-later
"""A segmentation and a skeleton become a mask with a soft border."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.skeleton import BODY_BONES, INDEX, LEFT_HAND, LEFT_HAND_BONES, RIGHT_HAND_BONES
from .records import Floats
from .video import Bytes

Bools = npt.NDArray[np.bool_]

#: Bones are drawn between joints surer than this.
SURE = 0.5

#: Parts of the body's size (the longer side of the box around its joints): how thick bones are drawn, and how far from
#: every bone the person (with hair and skirts) ends.
_THICK, _REACH = 0.02, 0.3

#: Parts of the mask's area: smaller pieces are dropped, smaller holes are closed.
_PIECE, _HOLE = 0.02, 0.002

#: Where the segmentation is under this, fingers and toes do not count as seen.
_HINT = 12

#: Width of the border from clear to solid, pixels.
_BORDER = 2.0

#: The border at its widest, to each side.
_AROUND = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(3 * _BORDER) + 1,) * 2)

_FEET = {INDEX[f"{side}{name}"] for side in "LR" for name in ("BigToe", "SmallToe", "Heel")}
_LIMBS = tuple(bone for bone in BODY_BONES if not _FEET & set(bone))
_ENDS = tuple(bone for bone in BODY_BONES if _FEET & set(bone)) + LEFT_HAND_BONES + RIGHT_HAND_BONES


def clean(segmentation: Bytes, points: Floats, confidence: Floats) -> Bytes:
    """The mask of a frame, (h, w) uint8.

    segmentation: (h, w) uint8, 255 where the model is sure. points: (137, 2) in its pixels, centres at +0.5;
    confidence: (137,). Segmentation counts from 0.5 on; pieces under 2 % of the whole that hold no bone, and whatever
    lies far from every bone, are dropped; small holes are closed; bones are always foreground (paper, section 4),
    those of fingers and feet where the segmentation does not deny it. The border is 2 pixels wide.
    """
    sharp = segmentation >= 128
    limbs, ends, reach = _skeleton(points, confidence, segmentation.shape)
    bones = limbs | (ends & (segmentation >= _HINT))
    solid = _close_holes(_drop_pieces((sharp & reach) | bones, bones))
    level = np.asarray(segmentation / np.float32(255), np.float32)
    level[solid & ~sharp] = 1
    level[~solid & sharp] = 0
    # What is in doubt is soft at the border alone: nothing pale floats beside the person, nothing shines through them.
    level[cv2.erode(solid.astype(np.uint8), _AROUND) > 0] = 1
    level[cv2.dilate(solid.astype(np.uint8), _AROUND) == 0] = 0
    return soften(level)


def soften(level: Floats) -> Bytes:
    """A mask (h, w) uint8 whose border lies where ``level`` (h, w) is 0.5, _BORDER pixels wide.

    The border's place within a pixel comes from the level's slope; where motion blur makes it flat the border stays
    wide, but no wider than three times that.
    """
    smooth = cv2.GaussianBlur(level, (0, 0), 0.7)
    dx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
    dy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
    slope = np.maximum(cv2.magnitude(dx, dy), 1 / (3 * _BORDER))
    return np.asarray(np.rint(np.clip((smooth - 0.5) / (slope * _BORDER) + 0.5, 0, 1) * 255), np.uint8)


def body_size(points: Floats, confidence: Floats) -> float:
    """The longer side of the box around the body's sure joints, pixels; 0 where there are none."""
    known = points[:LEFT_HAND][confidence[:LEFT_HAND] > SURE]
    return float((known.max(0) - known.min(0)).max()) if len(known) else 0.0


def _skeleton(points: Floats, confidence: Floats, shape: tuple[int, ...]) -> tuple[Bools, Bools, Bools]:
    """Limbs and trunk; fingers and feet; and all that is near enough to a bone to be the person."""
    size = body_size(points, confidence)
    limbs, ends = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    thick = max(round(_THICK * size), 1)
    _draw(limbs, _LIMBS, points, confidence, thick)
    _draw(ends, _ENDS, points, confidence, max(thick // 3, 1))
    if size == 0:
        return limbs > 0, ends > 0, np.ones(shape, bool)
    reach = cv2.distanceTransform(255 - np.maximum(limbs, ends), cv2.DIST_L2, 3) < _REACH * size
    return limbs > 0, ends > 0, np.asarray(reach, np.bool_)


def _draw(
    canvas: Bytes, bones: tuple[tuple[int, int], ...], points: Floats, confidence: Floats, thickness: int
) -> None:
    for a, b in bones:
        if confidence[a] > SURE and confidence[b] > SURE:
            start, end = (tuple(int(v * 16) for v in points[j] - 0.5) for j in (a, b))
            cv2.line(canvas, start, end, 255, thickness, cv2.LINE_8, 4)


def _drop_pieces(mask: Bools, bones: Bools) -> Bools:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    keep = np.zeros(count, bool)
    keep[1:] = areas >= _PIECE * areas.sum()
    if bones.any():
        keep[np.unique(labels[bones])] = True
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def _close_holes(mask: Bools) -> Bools:
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < max(_HOLE * mask.sum(), 4)
    small[0] = False
    if count <= 2 or not small.any():
        return mask
    return np.asarray(mask | small[labels], np.bool_)
