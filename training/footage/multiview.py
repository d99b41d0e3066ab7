# SPDX-License-Identifier: GPL-3.0-or-later
"""3D from several calibrated cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.body import REQUIRED_JOINTS
from ...neural_backend.interface.camera import Array
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import BODY_JOINTS, INDEX, JOINT_COUNT
from . import sides, synchronise, world
from .bones import RIGID_BONES, median_lengths
from .calibrate import fit_cameras
from .clip_fit import Bones, fit_clip
from .optics import to_rays
from .records import CalibratedCamera, Detections, Motion, Reconstruction
from .refine import refine_cameras
from .reprojection import SURE, nearest_frames, reprojection_errors
from .smooth import fill_short_gaps, frame_rate, low_pass
from .triangulate import SOFT, triangulate
from .windows import in_windows

_BODY = len(BODY_JOINTS)
_TRUNK = [INDEX[name] for name in REQUIRED_JOINTS]
#: Metres by which a bone may differ from its median length, one standard deviation: a mild prior.
_BONE_SIGMA = 0.01
#: Frames a second below which half a frame out of step shows in moving hands.
_COARSE = 20.0
#: m/s², one standard deviation: hands of dancers reach some 50. It tells at film rates, and hardly under ten a second.
_ACCELERATION = 30.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MultiviewOptions:
    """synchronise: search by how many frames the cameras are out of step, over sync_seconds to both sides. refine:
    correct where the cameras stand. cutoff: of the low-pass, Hz, 0 for none. up: the calibration's axis that points up
    (world.AXES), '' to go by the calibration, else by the person."""

    synchronise: bool = True
    sync_seconds: float = 0.5
    refine: bool = True
    cutoff: float = 6.0
    up: str = ""


def reconstruct(
    detections: Sequence[Detections],
    cameras: Sequence[CalibratedCamera],
    options: MultiviewOptions | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Joints of one person in the world from two or more calibrated cameras.

    detections, cameras: one of each per film, in the same order; sizes are fitted (calibrate.fit_cameras), lengths and
    frame rates may differ. progress: called with (steps done, steps).

    The rows of the motion are the frames of the slowest camera (the first of them), as far as two cameras filmed.
    Every joint, hands and face included, is triangulated by itself; one that fewer than two agreeing cameras see has
    confidence 0, but for gaps of up to 0.2 s, which are interpolated with half the neighbours' confidence. Body bones
    are then held near their median lengths, and everything passes a low-pass. Rows in which a joint of the trunk is
    missing have confidence 0 throughout.

    Raises BackendError 'footage-cameras' (fewer than two), 'calibration-size', 'world-up', 'footage-overlap' (no moment
    was filmed by two cameras) or 'footage-nobody' (no row with a whole trunk).
    """
    options = options or MultiviewOptions()
    tell = progress or (lambda done, total: None)
    if len(detections) < 2 or len(detections) != len(cameras):
        raise BackendError(
            "footage-cameras",
            f"{len(detections)} films and {len(cameras)} cameras: several cameras need one film each, two or more.",
        )
    filmed = detections
    fitted, notes = fit_cameras(cameras, [(d.width, d.height) for d in detections])
    detections = [_untangled(d) for d in detections]
    rays = [to_rays(d.points, camera) for d, camera in zip(detections, fitted, strict=True)]
    tell(1, 6)
    offsets = _offsets(detections, rays, fitted, options)
    times = _timeline(detections, offsets)
    sampled = [
        synchronise.sample(ray, np.asarray(d.confidence, np.float64), d.times, times + offset)
        for ray, d, offset in zip(rays, detections, offsets, strict=True)
    ]
    seen = np.stack([ray for ray, _ in sampled], 1)  # (T, C, 137, 2)
    weight = np.stack([confidence for _, confidence in sampled], 1)
    tell(2, 6)
    if options.refine:
        fitted, refined_notes = _refine(fitted, seen, weight)
        notes += refined_notes
    tell(3, 6)
    seen, weight = _sides_agreed(fitted, seen, weight)
    joints, confidence = _triangulate(fitted, seen, weight)
    tell(4, 6)
    joints = _hold_bones(fitted, seen, weight, joints, confidence, times)
    joints, confidence = fill_short_gaps(joints, confidence, times)
    joints = low_pass(joints, confidence, times, options.cutoff)
    tell(5, 6)
    confidence[~(confidence[:, _TRUNK] > 0).all(1)] = 0
    if not confidence.any():
        raise BackendError(
            "footage-nobody",
            "In no frame do two cameras agree on where a person's hips and shoulders are; check that the calibration "
            "belongs to these films and that they show the same moments.",
        )
    turn, shift, world_notes = world.settle(fitted, joints, confidence, options.up)
    joints = np.where(confidence[..., None] > 0, joints @ turn.T + shift, 0)
    fitted = tuple(replace(world.move_camera(camera, turn, shift), up="z") for camera in fitted)
    frames = nearest_frames(detections, times, offsets)
    motion = Motion(
        joints.astype(np.float32),
        confidence.astype(np.float32),
        times - times[0],
        ", ".join(d.source for d in detections),
    )
    rate = frame_rate(times)
    if options.synchronise and 0 < rate < _COARSE:
        world_notes += (
            f"The cameras were brought into step at {rate:.3g} frames a second, which tells it to about "
            f"{500 / rate:.0f} ms; unless they started together, use more frames (--every, --fps).",
        )
    result = Reconstruction(
        motion,
        fitted,
        frames,
        reprojection_errors(motion, fitted, frames, filmed),
        tuple(float(offset * rate) for offset in offsets),
        notes + world_notes,
    )
    tell(6, 6)
    return result


def _untangled(d: Detections) -> Detections:
    """Detections with left and right put right where they jump."""
    flipped = sides.find_jumps(d.points, d.confidence, d.times)
    if not flipped.any():
        return d
    points, confidence = (
        sides.swap(np.asarray(values, np.float64), flipped).astype(np.float32) for values in (d.points, d.confidence)
    )
    return replace(d, points=points, confidence=confidence)


def _sides_agreed(cameras: Sequence[CalibratedCamera], rays: Array, weight: Array) -> tuple[Array, Array]:
    """Rays (T, C, 137, 2) and weights (T, C, 137), left and right exchanged where one camera contradicts the others."""
    body = weight.copy()
    body[..., _BODY:] = 0
    joints, confidence = _triangulate(cameras, rays, body)
    joints[confidence <= 0] = np.nan
    flip = np.ones((len(rays), 2), bool)
    distance, swapped = np.zeros((2, *weight.shape))
    for c, camera in enumerate(cameras):
        for out, at in ((distance, rays[:, c]), (swapped, sides.swap(rays[:, c], flip))):
            p = camera.camera.to_camera(joints)
            out[:, c] = np.linalg.norm(p[..., :2] - p[..., 2:] * at, axis=-1)
    flipped = sides.find_contradictions(distance, swapped, weight)
    if flipped.any():
        per_camera = range(len(cameras))
        rays = np.stack([sides.swap(rays[:, c], flipped[:, c]) for c in per_camera], 1)
        weight = np.stack([sides.swap(weight[:, c], flipped[:, c]) for c in per_camera], 1)
    return rays, weight


def _offsets(
    detections: Sequence[Detections],
    rays: Sequence[Array],
    cameras: Sequence[CalibratedCamera],
    options: MultiviewOptions,
) -> Array:
    if not options.synchronise:
        return np.zeros(len(detections))
    return synchronise.find_offsets(
        [ray[:, :_BODY] for ray in rays],
        [np.asarray(d.confidence[:, :_BODY], np.float64) for d in detections],
        [d.times for d in detections],
        [camera.camera for camera in cameras],
        options.sync_seconds,
    )


def _timeline(detections: Sequence[Detections], offsets: Array) -> npt.NDArray[np.float64]:
    """Moments (T,) seconds on the first camera's clock: the slowest camera's frames, and on at its rate, as far as two
    cameras filmed."""
    rates = [frame_rate(d.times) for d in detections]
    slowest = min(range(len(rates)), key=lambda c: (round(rates[c], 2), c))
    step = 1 / rates[slowest] if rates[slowest] > 0 else 1.0
    spans = sorted((d.times[0] - o, d.times[-1] - o) for d, o in zip(detections, offsets, strict=True) if len(d))
    starts, stops = sorted(s for s, _ in spans), sorted(e for _, e in spans)
    if len(spans) < 2:
        raise BackendError("footage-overlap", "Fewer than two of the films have a frame; give films of the same scene.")
    first, last = starts[1] - step / 2, stops[-2] + step / 2
    own = detections[slowest].times - offsets[slowest]
    before = own[0] - step * np.arange(max(int((own[0] - first) / step), 0), 0, -1)
    after = own[-1] + step * np.arange(1, max(int((last - own[-1]) / step), 0) + 1)
    times = np.concatenate([before, own, after])
    times = times[(times >= first) & (times <= last)]
    if not len(times):
        raise BackendError(
            "footage-overlap", "No moment was filmed by two cameras; give films that were taken at the same time."
        )
    return np.asarray(times)


def _refine(
    cameras: tuple[CalibratedCamera, ...], rays: Array, weight: Array
) -> tuple[tuple[CalibratedCamera, ...], tuple[str, ...]]:
    """Cameras refined on the body joints that are surely seen, of up to 500 rows."""
    rows = np.unique(np.linspace(0, len(rays) - 1, 500).round().astype(np.int64))
    count = len(cameras)
    r = rays[rows, :, :_BODY].transpose(0, 2, 1, 3).reshape(-1, count, 2)
    w = weight[rows, :, :_BODY].transpose(0, 2, 1).reshape(-1, count)
    w = np.where(w > SURE, w, 0)
    pinholes = [camera.camera for camera in cameras]
    points = triangulate(r, w, pinholes)
    known = points.confidence > 0
    refined, change = refine_cameras(points.position[known], r[known], w[known], pinholes)
    notes = tuple(
        f"{camera.name} was turned by {turn:.1f} degrees and moved by {100 * way:.0f} cm against its calibration: it "
        "may have been touched since; calibrate again if the overlays are off."
        for camera, (turn, way) in zip(cameras, change, strict=True)
        if turn > 1.5 or way > 0.06
    )
    return tuple(replace(camera, camera=c) for camera, c in zip(cameras, refined, strict=True)), notes


def _triangulate(cameras: Sequence[CalibratedCamera], rays: Array, weight: Array) -> tuple[Array, Array]:
    count = len(cameras)
    points = triangulate(
        rays.transpose(0, 2, 1, 3).reshape(-1, count, 2),
        weight.transpose(0, 2, 1).reshape(-1, count),
        [camera.camera for camera in cameras],
    )
    return points.position.reshape(-1, JOINT_COUNT, 3), points.confidence.reshape(-1, JOINT_COUNT)


def _hold_bones(
    cameras: Sequence[CalibratedCamera],
    rays: Array,
    weight: Array,
    joints: Array,
    confidence: Array,
    times: npt.NDArray[np.float64],
) -> Array:
    """Body joints fitted again with their bones near their median lengths and without jumps; absent joints stay so."""
    body, known = joints[:, :_BODY], confidence[:, :_BODY]
    pairs, length = median_lengths(body, known, RIGID_BONES)
    if not len(pairs):
        return joints
    seen = weight[:, :, :_BODY] * (known > 0)[:, None]
    bones = Bones(pairs, length, np.full(len(pairs), _BONE_SIGMA))
    pinholes = [camera.camera for camera in cameras]

    def solve(rows: slice) -> Array:
        return fit_clip(
            body[rows], rays[rows, :, :_BODY], seen[rows], pinholes, bones,
            soft=SOFT, times=times[rows], acceleration=_ACCELERATION,
        )  # fmt: skip

    out = joints.copy()
    out[:, :_BODY] = in_windows(len(joints), solve)
    return out
