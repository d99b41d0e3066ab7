# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures on the footage of a dataset: what each picture is like, from where the body was seen, how steady it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.camera import Camera
from ...neural_backend.interface.skeleton import BODY_JOINTS, INDEX

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int, int], None]

#: What is measured of one stored picture. area: of the mask, pixels. x0 … y1: the mask's box, pixels. sharpness: fine
#: detail as a share of coarser detail inside the mask. brightness, red, green, blue: means inside the mask, 0..1.
#: blown: share of the mask that is all but white. touches: 1 where the mask runs into the edge of what was filmed.
FIGURES = (
    "area", "x0", "y0", "x1", "y1", "sharpness", "brightness", "red", "green", "blue", "blown", "touches",
)  # fmt: skip
FIGURE = {name: i for i, name in enumerate(FIGURES)}

#: Bones that are rigid in a real body, as pairs of joint names.
BONES: tuple[tuple[str, str], ...] = (
    ("RShoulder", "RElbow"), ("RElbow", "RWrist"), ("LShoulder", "LElbow"), ("LElbow", "LWrist"), ("RHip", "RKnee"),
    ("RKnee", "RAnkle"), ("LHip", "LKnee"), ("LKnee", "LAnkle"), ("RShoulder", "LShoulder"), ("RHip", "LHip"),
)  # fmt: skip
BONE_NAMES = (
    "right upper arm", "right forearm", "left upper arm", "left forearm", "right thigh", "right shin", "left thigh",
    "left shin", "shoulders", "hips",
)  # fmt: skip

#: Directions around the body, from its front over its left, 45° each, centred on 0°, 45°, …
SECTORS = (
    "front", "front left", "left side", "back left", "back", "back right", "right side", "front right",
)  # fmt: skip

_BODY = len(BODY_JOINTS)


def picture_figures(rgba: npt.NDArray[np.uint8], filmed: npt.ArrayLike | None = None) -> Floats:
    """(12,) FIGURES of an (H, W, 4) picture with straight alpha; only the area, 0, where the mask is empty.

    filmed: box x0, y0, x1, y1 in pixels that the camera filmed; None for all of the picture.
    """
    out = np.full(len(FIGURES), np.nan, np.float32)
    alpha = rgba[..., 3]
    solid = alpha > 127
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    if not rows.size:
        out[FIGURE["area"]] = 0
        return out
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    part, inside = rgba[y0:y1, x0:x1, :3], solid[y0:y1, x0:x1]
    colour = cv2.mean(part, inside.astype(np.uint8))[:3]
    gray = np.asarray(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), np.float32)
    film = (0.0, 0.0, rgba.shape[1], rgba.shape[0]) if filmed is None else np.asarray(filmed, np.float64)
    near = x0 <= film[0] + 1 or y0 <= film[1] + 1 or x1 >= film[2] - 1 or y1 >= film[3] - 1
    out[:] = (
        alpha.sum(dtype=np.int64) / 255, x0, y0, x1, y1, _sharpness(gray, inside), gray[inside].mean() / 255,
        *(c / 255 for c in colour), (gray[inside] > 250).mean(), near,
    )  # fmt: skip
    return out


def _sharpness(gray: Floats, inside: Bools) -> float:
    """The strength of detail under about 2 px, as a share of detail of 2 to 6 px, away from the mask's edge."""
    core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=0) > 0
    if core.sum() < 200:
        return float("nan")
    fine, coarse = cv2.GaussianBlur(gray, (0, 0), 1.0), cv2.GaussianBlur(gray, (0, 0), 3.0)
    return float((gray - fine)[core].std() / max(float((fine - coarse)[core].std()), 1e-3))


def project(cameras: tuple[Camera, ...], K: Array, joints: Floats) -> Floats:
    """Joints (T, J, 3) in the stored pictures, (T, C, J, 2) pixels; NaN behind a camera. K: (T, C, 3, 3)."""
    out = np.empty((len(joints), len(cameras), joints.shape[1], 2), np.float32)
    for c, camera in enumerate(cameras):
        points = camera.to_camera(joints)
        depth = points[..., 2:]
        with np.errstate(divide="ignore", invalid="ignore"):
            flat = np.where(depth > 1e-6, points / depth, np.nan)
        out[:, c] = np.einsum("tij,tkj->tki", K[:, c, :2], flat)
    return out


@dataclass(frozen=True)
class Directions:
    """From where the body is seen. azimuth, elevation: (T, C) degrees of the camera as the trunk sees it: 0 in front,
    90 at the person's left; NaN where the trunk is unknown."""

    azimuth: Floats
    elevation: Floats

    def shares(self, counted: Bools) -> Array:
        """(8,) share of the counted (T, C) views in each of SECTORS."""
        angles = self.azimuth[counted & np.isfinite(self.azimuth)]
        sector = np.floor((angles + 22.5) / 45).astype(int) % 8
        counts: Array = np.bincount(sector, minlength=8).astype(np.float64)
        return np.asarray(counts / max(counts.sum(), 1))


def directions(cameras: tuple[Camera, ...], joints: Floats, confidence: Floats) -> Directions:
    """Directions of the cameras around the trunk, frame by frame."""
    j = joints.astype(np.float64)

    def at(name: str) -> Array:
        return np.asarray(j[:, INDEX[name]])

    def unit(v: Array) -> Array:
        return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))

    up = unit(at("Neck") - at("MidHip"))
    across = at("LHip") - at("RHip") + at("LShoulder") - at("RShoulder")
    left = unit(across - (across * up).sum(-1, keepdims=True) * up)
    front = np.cross(left, up)
    middle = (at("Neck") + at("MidHip")) / 2
    known = (confidence[:, [INDEX[n] for n in ("Neck", "MidHip", "LHip", "RHip", "LShoulder", "RShoulder")]] > 0).all(1)
    azimuth = np.full((len(j), len(cameras)), np.nan, np.float32)
    elevation = azimuth.copy()
    for c, camera in enumerate(cameras):
        to = unit(-camera.R.T @ camera.t - middle)
        a = np.degrees(np.arctan2((to * left).sum(1), (to * front).sum(1))) % 360
        e = np.degrees(np.arcsin(np.clip((to * up).sum(1), -1, 1)))
        azimuth[known, c], elevation[known, c] = a[known], e[known]
    return Directions(azimuth, elevation)


#: Ways in which a body moves: what is said of it, and the joints whose angle at the middle one is measured.
MOVES: tuple[tuple[str, tuple[str, str, str], str], ...] = (
    ("right elbow", ("RShoulder", "RElbow", "RWrist"), "bend and stretch it"),
    ("left elbow", ("LShoulder", "LElbow", "LWrist"), "bend and stretch it"),
    ("right knee", ("RHip", "RKnee", "RAnkle"), "squat or lift the knee"),
    ("left knee", ("LHip", "LKnee", "LAnkle"), "squat or lift the knee"),
    ("right arm", ("RHip", "RShoulder", "RElbow"), "raise it to the side and over the head"),
    ("left arm", ("LHip", "LShoulder", "LElbow"), "raise it to the side and over the head"),
)


def ranges_of_motion(joints: Floats, confidence: Floats) -> Array:
    """(6,) degrees between the 2nd and 98th percentile of each of MOVES; NaN where a joint is never known."""
    out = np.full(len(MOVES), np.nan)
    for i, (_, names, _) in enumerate(MOVES):
        a, b, c = (INDEX[n] for n in names)
        known = (confidence[:, [a, b, c]] > 0).all(1)
        if known.sum() < 5:
            continue
        u, v = joints[known, a] - joints[known, b], joints[known, c] - joints[known, b]
        cosine = (u * v).sum(1) / np.maximum(np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1), 1e-9)
        low, high = np.percentile(np.degrees(np.arccos(np.clip(cosine, -1, 1))), (2, 98))
        out[i] = high - low
    return out


def inside_share(pixels: Floats, confidence: Floats, alpha: npt.NDArray[np.uint8], reach: int) -> float:
    """Share of the known body joints that lie in the mask widened by ``reach`` pixels, of those inside the picture; NaN
    where there is none. pixels: (137, 2); confidence: (137,); alpha: (H, W)."""
    points = np.floor(pixels[:_BODY])
    h, w = alpha.shape
    counted = (confidence[:_BODY] > 0) & np.isfinite(points).all(1)
    counted &= (points >= 0).all(1) & (points[:, 0] < w) & (points[:, 1] < h)
    if not counted.any():
        return float("nan")
    size = 2 * reach + 1
    wide = cv2.dilate(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    x, y = points[counted].astype(int).T
    return float((wide[y, x] > 127).mean())
