# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole and orthographic cameras.

Conventions (docs/conventions.md): the world is right-handed, Z up. Camera axes are OpenCV's: x right, y down, z
forward; ``x_cam = R x_world + t``. Pixel centres lie at +0.5, the origin is the picture's top left corner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    K: (3, 3) intrinsics, in pixels. Perspective: ``u = K x_cam`` then divide by depth. Orthographic: K[0,0] and
    K[1,1] are pixels per world unit, and ``u = K[0,0] x + K[0,2]``, ``v = K[1,1] y + K[1,2]``. R: (3, 3) rotation,
    world to camera. t: (3,) translation in world units. width, height: picture size in pixels. near: distance in
    world units in front of which nothing is drawn. far: distance beyond which nobody is drawn; it does not cross the
    border, since whoever asks for a frame leaves out who is beyond it.
    """

    K: Array
    R: Array
    t: Array
    width: int
    height: int
    orthographic: bool = False
    near: float = 1e-3
    far: float = np.inf

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))):
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise ValueError(f"camera {name} must be finite and of shape {shape}, not {value.shape}")
            object.__setattr__(self, name, value)
        if self.width < 1 or self.height < 1:
            raise ValueError(f"camera picture size {self.width}x{self.height} is empty")

    def to_camera(self, points: npt.ArrayLike) -> Array:
        """World points (..., 3) to camera axes (..., 3), in world units."""
        return np.asarray(np.asarray(points, np.float64) @ self.R.T + self.t)

    def project(self, points: npt.ArrayLike) -> tuple[Array, Array]:
        """World points (..., 3) to pixels (..., 2) and depth along the camera's axis (...), in world units.

        The pixels of a point at or behind the camera's plane (perspective) are NaN.
        """
        p = self.to_camera(points)
        depth = p[..., 2]
        if self.orthographic:
            scaled = p[..., :2]
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                scaled = np.where(depth[..., None] > 1e-9, p[..., :2] / depth[..., None], np.nan)
        skew = np.stack([scaled[..., 1] * self.K[0, 1], np.zeros_like(depth)], -1)
        return scaled * np.diag(self.K)[:2] + skew + self.K[:2, 2], depth

    def crop(self, x: float, y: float, width: float, height: float, out_width: int, out_height: int) -> Camera:
        """The virtual camera that sees the box (x, y, width, height), in this camera's pixels, as out_width x
        out_height."""
        scale = np.diag([out_width / width, out_height / height, 1.0])
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        return replace(self, K=scale @ shift @ self.K, width=out_width, height=out_height)

    @staticmethod
    def from_orthographic_scale(K: npt.ArrayLike, R: Array, t: Array, width: int, height: int, scale: float) -> Camera:
        """An orthographic camera whose larger picture side spans ``scale`` world units; K gives the principal point."""
        pixels = max(width, height) / scale
        k = np.asarray(K, np.float64).copy()
        k[:2, :2] = np.diag([pixels, pixels])
        return Camera(k, R, t, width, height, orthographic=True)


def check_calibration(camera: Camera) -> None:
    """Raises ValueError with a clause for people when a camera from a file cannot be one: R must be a rotation, K
    ((fx, skew, cx), (0, fy, cy), (0, 0, 1)) with positive fx and fy."""
    if np.abs(camera.R @ camera.R.T - np.eye(3)).max() > 1e-3 or np.linalg.det(camera.R) < 0:
        raise ValueError("'R' is not a rotation")
    if not (camera.K[2] == (0, 0, 1)).all() or camera.K[1, 0] != 0:
        raise ValueError("'K' is not ((fx, skew, cx), (0, fy, cy), (0, 0, 1))")
    if min(camera.K[0, 0], camera.K[1, 1]) <= 0:
        raise ValueError("'K' has no positive focal length")
