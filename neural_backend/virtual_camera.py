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

_INDEX = skeleton.INDEX
_SIDES = {"L": skeleton.LEFT_HAND, "R": skeleton.RIGHT_HAND}

#: Room around each joint for flesh, hair and clothes, as a share of the body's size.
_ROOM = 0.042


def _outline(joints: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Joints that bound the body, the crown of the head, and guesses for the head, hands and feet that are absent."""

    def at(name: str) -> npt.NDArray[np.float64]:
        return np.asarray(joints[_INDEX[name]])

    def has(*names: str) -> bool:
        return bool(known[[_INDEX[name] for name in names]].all())

    points = [joints[: skeleton.FACE][known[: skeleton.FACE]]]
    if has("Neck", "MidHip"):
        spine = at("Neck") - at("MidHip")
        if has("LEar", "REar"):
            ears = (at("LEar") + at("REar")) / 2
            points.append(ears + 0.25 * (ears - at("Neck")))
        else:
            points.append(at("Neck") + 0.55 * spine)
        across = np.cross(at("LHip") - at("RHip"), spine) if has("LHip", "RHip") else np.zeros(3)
        front = across / max(float(np.linalg.norm(across)), 1e-9) * np.linalg.norm(spine)
        points += [at(f"{s}Ankle") + 0.4 * front for s in _SIDES if has(f"{s}Ankle") and not has(f"{s}BigToe")]
    for s, hand in _SIDES.items():
        if has(f"{s}Wrist", f"{s}Elbow") and not known[hand + 1 : hand + 21].any():
            points.append(at(f"{s}Wrist") + 0.7 * (at(f"{s}Wrist") - at(f"{s}Elbow")))
    return np.concatenate([np.atleast_2d(p) for p in points])


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
    ahead = depth > max(camera.near, 1e-6)
    if not ahead.any():
        return None
    reach = _ROOM * body_size
    if camera.orthographic:
        tangent = np.full(len(points), reach)
    else:
        pixels, depth = pixels[ahead], depth[ahead]
        tangent = reach / np.maximum(depth, reach)
    room = tangent[:, None] * np.abs(np.diag(camera.K)[:2])
    low, high = (pixels - room).min(0), (pixels + room).max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def crop_camera(
    camera: Camera,
    joints: npt.ArrayLike,
    confidence: npt.ArrayLike,
    size: tuple[int, int],
    body_size: float,
) -> Camera | None:
    """The virtual camera that frames the body in ``size`` = (height, width) pixels with square pixels of the
    original's aspect.

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
    tall = max(y1 - y0, (x1 - x0) / aspect * height / width)
    wide = tall * aspect * width / height
    centre_x = (x0 + x1) / 2
    centre_y = (y0 + y1) / 2
    return camera.crop(centre_x - wide / 2, centre_y - tall / 2, wide, tall, width, height)
