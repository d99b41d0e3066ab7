# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual camera: a crop of the picture that the body fills, so that scale and framing never change for the
network.

This is the remedy that the paper's section 5 proposes for its sensitivity to scale; here it is used always.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .interface import skeleton
from .interface.camera import Camera

_BODY, _HANDS = len(skeleton.BODY_JOINTS), skeleton.FACE
_ARMS = np.array([[skeleton.INDEX[f"{s}Wrist"], skeleton.INDEX[f"{s}Elbow"]] for s in "LR"])


def _outline(joints: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Joints that bound the body; fingertips are guessed from the forearm where hands are absent."""
    wrist, elbow = _ARMS.T
    guessed = known[wrist] & known[elbow]
    tips = joints[wrist] + 0.7 * (joints[wrist] - joints[elbow])
    has_hands = known[_BODY:_HANDS].any()
    return np.concatenate([joints[:_HANDS][known[:_HANDS]], tips[guessed & ~has_hands]])


def body_box(
    camera: Camera, joints: npt.ArrayLike, confidence: npt.ArrayLike, body_size: float
) -> tuple[float, float, float, float] | None:
    """The body's box (x0, y0, x1, y1) in pixels, from unclipped joints with room for flesh, hair and hands; None when
    no joint lies in front of the camera's near plane.

    joints: (137, 3) world; confidence: (137,); body_size: the length of trunk and limbs in world units (see Avatar),
    from which the margin is taken.
    """
    points = _outline(np.asarray(joints, np.float64), np.asarray(confidence) > 0)
    if not len(points):
        return None
    pixels, depth = camera.project(points)
    ahead = np.ones(len(points), bool) if camera.orthographic else depth > max(camera.near, 1e-6)
    if not ahead.any():
        return None
    pixels, depth = pixels[ahead], depth[ahead]
    focal = np.sqrt(abs(camera.K[0, 0] * camera.K[1, 1]))
    room = 0.042 * body_size * focal / (1.0 if camera.orthographic else np.maximum(depth, 0.042 * body_size))
    low, high = (pixels - np.reshape(room, (-1, 1))).min(0), (pixels + np.reshape(room, (-1, 1))).max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def crop_camera(
    camera: Camera,
    joints: npt.ArrayLike,
    confidence: npt.ArrayLike,
    size: tuple[int, int],
    body_size: float,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Camera | None:
    """The virtual camera that frames the body in ``size`` = (height, width) pixels with square pixels of the
    original's aspect.

    zoom: above 1 draws the body larger; shift: moves the box, as fractions of its size (both for augmentation).
    Returns None when the body is behind the camera or its box lies wholly outside the picture.
    """
    box = body_box(camera, joints, confidence, body_size)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    if x1 <= 0 or y1 <= 0 or x0 >= camera.width or y0 >= camera.height:
        return None
    height, width = size
    # Pixels may not be square (pixel aspect): the box is measured in units of the vertical focal length.
    aspect = abs(camera.K[0, 0] / camera.K[1, 1])
    tall = max(y1 - y0, (x1 - x0) / aspect * height / width) / zoom
    wide = tall * aspect * width / height
    centre_x = (x0 + x1) / 2 + shift[0] * wide
    centre_y = (y0 + y1) / 2 + shift[1] * tall
    return camera.crop(centre_x - wide / 2, centre_y - tall / 2, wide, tall, width, height)
