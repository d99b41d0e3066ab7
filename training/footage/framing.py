# SPDX-License-Identifier: GPL-3.0-or-later
"""The square window of the film that is stored of each frame: it follows the person calmly, and undoes the lens.

A window is a virtual camera: only the intrinsics K change, R and t stay the real camera's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from .optics import to_rays
from .records import CalibratedCamera

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

#: Room around the person as a share of the window's side, and at least so many pixels of the film.
_MARGIN, _MARGIN_PIXELS = 0.04, 4.0
#: The stored side is a multiple of this many pixels and no less than one of them.
_STEP, _SMALLEST = 16, 64
#: Points along each edge of the film that are followed through the lens.
_EDGE = 17
#: A pixel of the film is spread over at most this many samples a side where the lens map is drawn.
_MOST_SAMPLES = 8
#: Alpha below is no mask, and above the remainder full: a sensor's noise in a soft mask costs disk and helps nobody.
_FAINT = 6


@dataclass(frozen=True)
class Framing:
    """The windows of one camera.

    size: side of the stored pictures, pixels. K: (T, 3, 3) intrinsics of each. filmed: (T, 4) float32 box x0, y0, x1,
    y1 in stored pixels that the camera filmed; outside it there is no picture.
    """

    size: int
    K: Array
    filmed: npt.NDArray[np.float32]


def undistort(camera: CalibratedCamera, points: npt.ArrayLike) -> Array:
    """Pixels (..., 2) of the filmed picture to those of the perfect lens with the same K."""
    rays, K = to_rays(points, camera), camera.camera.K
    return np.asarray(rays @ K[:2, :2].T + K[:2, 2])


def undistort_box(camera: CalibratedCamera, box: npt.ArrayLike) -> Array:
    """The box (4,) around what a box of the filmed picture becomes under the perfect lens."""
    edges = undistort(camera, _edge_points(np.asarray(box, np.float64)))
    return np.concatenate([edges.reshape(-1, 2).min(0), edges.reshape(-1, 2).max(0)])


def plan(camera: CalibratedCamera, boxes: npt.ArrayLike, limit: int, radius: int) -> Framing:
    """Windows that hold the boxes with some room.

    boxes: (T, 4) x0, y0, x1, y1 of the person in pixels of the perfect lens, NaN where nobody is seen. limit: longest
    side of a stored picture. radius: rows to each side over which the window's way is smoothed; a box is never cut by
    it. The film is never enlarged: where the person is small, a picture has fewer pixels or shows more around.
    """
    given = np.asarray(boxes, np.float64)
    film = film_box(camera)
    seen = np.isfinite(given).all(1)
    if not seen.any():
        given, seen = np.broadcast_to(film, given.shape).copy(), np.ones(len(given), bool)
    inside = np.clip(given, film[[0, 1, 0, 1]], film[[2, 3, 2, 3]])
    rows = np.arange(len(given))
    whole = np.stack([np.interp(rows, rows[seen], inside[seen, i]) for i in range(4)], 1)
    room = np.maximum(_MARGIN * np.maximum(*(whole[:, 2:] - whole[:, :2]).T), _MARGIN_PIXELS)[:, None]
    low = _smooth_floor(whole[:, :2] - room, radius)
    high = -_smooth_floor(-(whole[:, 2:] + room), radius)
    side = (high - low).max(1)
    size = int(np.clip(np.ceil(side.max() / _STEP) * _STEP, _SMALLEST, max(limit, _SMALLEST)))
    side = np.maximum(side, size)
    corner = (low + high) / 2 - side[:, None] / 2
    K = np.stack([_window(camera.camera.K, c, s, size) for c, s in zip(corner, side, strict=True)])
    filmed = (_sharp_film_box(camera)[None] - np.tile(corner, 2)) * (size / side)[:, None]
    return Framing(size, K, np.clip(filmed, 0, size).astype(np.float32))


def _smooth_floor(values: Array, radius: int) -> Array:
    """A smooth curve that is nowhere above (T, n) values: a mean over the lowest of each neighbourhood."""
    if radius < 1:
        return values
    lowest = minimum_filter1d(values, 2 * radius + 1, axis=0, mode="nearest")
    out: Array = gaussian_filter1d(lowest, radius / 2, axis=0, mode="nearest", radius=radius)
    return out


def _window(K: Array, corner: Array, side: float, size: int) -> Array:
    shift = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]])
    return np.asarray(np.diag([size / side, size / side, 1.0]) @ shift @ K)


def _edge_points(box: Array) -> Array:
    """(4, n, 2) points along the left, top, right and bottom edge."""
    x, y = np.linspace(box[0], box[2], _EDGE), np.linspace(box[1], box[3], _EDGE)
    return np.stack([
        np.stack([np.full(_EDGE, box[0]), y], 1), np.stack([x, np.full(_EDGE, box[1])], 1),
        np.stack([np.full(_EDGE, box[2]), y], 1), np.stack([x, np.full(_EDGE, box[3])], 1),
    ])  # fmt: skip


def film_box(camera: CalibratedCamera) -> Array:
    """The box (4,) around everything filmed, in pixels of the perfect lens."""
    return undistort_box(camera, (0, 0, camera.camera.width, camera.camera.height))


def _sharp_film_box(camera: CalibratedCamera) -> Array:
    """The largest upright box inside everything filmed: a bent edge is left out."""
    left, top, right, bottom = undistort(
        camera, _edge_points(np.array([0, 0, camera.camera.width, camera.camera.height], np.float64))
    )
    return np.array([left[:, 0].max(), top[:, 1].max(), right[:, 0].min(), bottom[:, 1].min()])


def mask_box(alpha: Image, width: int, height: int) -> Array:
    """The box (4,) of a mask of any size in pixels of the width x height film; NaN where it is empty."""
    solid = alpha > 127
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not rows.size:
        return np.full(4, np.nan)
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    return np.asarray(box * np.tile((width / alpha.shape[1], height / alpha.shape[0]), 2))


def cut(camera: CalibratedCamera, K: Array, size: int, film: Image, alpha: Image | None) -> Image:
    """The stored picture of one frame, in a single resampling: lens undone, cut, and shrunk without aliasing.

    K: (3, 3) of the window. film: (H, W, 3) RGB. alpha: mask (h, w) of any size, or None for the picture without one.
    Returns (size, size, 4) RGBA with straight alpha and RGB zero where it is 0, or (size, size, 3) RGB without a mask.
    """
    x0, y0, x1, y1 = (0, 0, size, size) if alpha is None else _mask_window(camera, K, size, alpha)
    out = np.zeros((size, size, 3 if alpha is None else 4), np.uint8)
    if x1 <= x0 or y1 <= y0:
        return out
    ratio = camera.camera.K[1, 1] / K[1, 1]  # pixels of the film to one stored pixel
    samples = int(np.clip(np.ceil(ratio - 0.1), 1, _MOST_SAMPLES))
    x, y = _lens_map(camera, K, (x0, y0, x1, y1), samples)
    method = cv2.INTER_CUBIC if samples == 1 else cv2.INTER_LINEAR
    part = out[y0:y1, x0:x1]
    target = (x1 - x0, y1 - y0)
    if alpha is None:
        part[...] = _shrink(cv2.remap(film, x, y, method, borderMode=cv2.BORDER_CONSTANT), target)
        return out
    # The film's edge goes on outside it, so that no black is mixed into colours there; the mask ends at the edge.
    part[..., :3] = _shrink(cv2.remap(film, x, y, method, borderMode=cv2.BORDER_REPLICATE), target)
    h, w = alpha.shape
    across, down = np.float32(w / camera.camera.width), np.float32(h / camera.camera.height)
    mask = cv2.remap(alpha, (x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    outside = (x < -0.5) | (y < -0.5) | (x > camera.camera.width - 0.5) | (y > camera.camera.height - 0.5)
    mask[outside] = 0
    soft = _shrink(mask, target)
    soft[soft <= _FAINT] = 0
    soft[soft >= 255 - _FAINT] = 255
    part[..., 3] = soft
    part[soft == 0] = 0
    return out


def _shrink(image: npt.NDArray[Any], target: tuple[int, int]) -> Image:
    if (image.shape[1], image.shape[0]) == target:
        return np.asarray(image, np.uint8)
    return np.asarray(cv2.resize(image, target, interpolation=cv2.INTER_AREA), np.uint8)


def _mask_window(camera: CalibratedCamera, K: Array, size: int, alpha: Image) -> tuple[int, int, int, int]:
    """The part of the stored picture that the mask may reach."""
    rows, columns = np.flatnonzero((alpha > 0).any(1)), np.flatnonzero((alpha > 0).any(0))
    if not rows.size:
        return 0, 0, 0, 0
    h, w = alpha.shape
    scale = np.tile((camera.camera.width / w, camera.camera.height / h), 2)
    box = np.array([columns[0] - 1, rows[0] - 1, columns[-1] + 2, rows[-1] + 2], np.float64) * scale
    film = np.array([0, 0, camera.camera.width, camera.camera.height], np.float64)
    box = undistort_box(camera, np.clip(box, film[[0, 1, 0, 1]], film[[2, 3, 2, 3]]))
    turn = K @ np.linalg.inv(camera.camera.K)
    low, high = turn[:2, :2] @ box[:2] + turn[:2, 2], turn[:2, :2] @ box[2:] + turn[:2, 2]
    x0, y0 = np.clip(np.floor(low) - 1, 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(high) + 1, 0, size).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _lens_map(
    camera: CalibratedCamera, K: Array, window: tuple[int, int, int, int], samples: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Where each sample of the window lies in the film, in OpenCV's pixels (centres at whole numbers)."""
    x0, y0, x1, y1 = window
    fine = np.diag([samples, samples, 1.0]) @ np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1.0]]) @ K
    size = ((x1 - x0) * samples, (y1 - y0) * samples)
    half = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    source, target = camera.camera.K - half, fine - half
    if camera.fisheye and camera.distortion:
        x, y = cv2.fisheye.initUndistortRectifyMap(
            source, np.array(camera.distortion[:4]), np.eye(3), target, size, cv2.CV_32FC1
        )
    else:
        lens = np.array(camera.distortion or (0.0, 0.0, 0.0, 0.0))
        x, y = cv2.initUndistortRectifyMap(source, lens, np.eye(3), target, size, cv2.CV_32FC1)
    return np.asarray(x, np.float32), np.asarray(y, np.float32)
