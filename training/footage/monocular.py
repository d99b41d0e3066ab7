# SPDX-License-Identifier: GPL-3.0-or-later
"""3D from one camera that stands still: one sparse least-squares fit over the clip.

What one camera cannot see is assumed, and said: the distance of everything follows from the person's height (an option)
and from the focal length (an option, else 1.2 times the picture's longer side).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.body import REQUIRED_JOINTS
from ...neural_backend.interface.camera import Array, Camera
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from . import sides, world
from .bones import RIGID_BONES, body_height, columns, mirrored
from .calibrate import fit_camera
from .clip_fit import Bones, Leaning, fit_clip
from .multiview import Progress
from .optics import to_rays
from .records import CalibratedCamera, Detections, Motion, Reconstruction
from .reprojection import reprojection_errors
from .smooth import fill_short_gaps, low_pass
from .windows import LENGTH, OVERLAP, in_windows

_BODY = len(BODY_JOINTS)
_TRUNK = [INDEX[name] for name in REQUIRED_JOINTS]
#: Distances that change a little as the back and the neck bend.
_SOFT_BONES = (
    ("Neck", "MidHip"), ("Neck", "Nose"), ("RShoulder", "LShoulder"),
    ("RShoulder", "RHip"), ("LShoulder", "LHip"), ("RShoulder", "LHip"), ("LShoulder", "RHip"),
)  # fmt: skip
_PAIRS = (*RIGID_BONES, *_SOFT_BONES)
#: Metres (one standard deviation): across the rays, of rigid and soft bones, of the pose model's own vectors.
_SOFT, _RIGID_SIGMA, _SOFT_SIGMA, _LEANING_SIGMA = 0.01, 0.004, 0.03, 0.08
#: While the lengths themselves are searched, bones give way.
_SEARCH_SIGMA, _SEARCH_ROWS = 0.03, 200
#: m/s², one standard deviation.
_ACCELERATION = 15.0
#: Degrees by which the person may lean before the camera is taken to be tilted instead.
_TILT = 10.0


@dataclass(frozen=True)
class MonocularOptions:
    """height: the person's, metres; it alone sets the scale. focal: pixels of the film, None for the camera's, else 1.2
    times the longer side. cutoff: of the low-pass, Hz, 0 for none. up: see world.settle, for a camera whose calibration
    has a world. window, overlap: frames."""

    height: float = 1.75
    focal: float | None = None
    cutoff: float = 6.0
    up: str = ""
    window: int = LENGTH
    overlap: int = OVERLAP


def reconstruct_single(
    detections: Detections,
    camera: CalibratedCamera | None = None,
    options: MonocularOptions | None = None,
    progress: Progress | None = None,
) -> Reconstruction:
    """Joints of one person in the world from one camera that stands still.

    detections: with the pose model's own guess in 3D (``world``). camera: its lens, and its place where R and t are not
    the identity and 0; None for a camera without lens. progress: called with (frames done, frames).

    Unknown are the body's joints in every frame and the lengths of its bones. The fit weighs the detections (robustly),
    bones of constant, left and right equal length, the directions of the pose model's own guess, and small
    accelerations; long clips are fitted in overlapping windows with the same bones. Hands and face lie on their rays,
    at the wrist's and the nose's depth plus the pose model's own. Left and right are put right where they jump.

    Rows that lack a joint of the trunk have confidence 0, as has every joint that was not detected; gaps of up to 0.2 s
    are interpolated, with half the neighbours' confidence.

    The world: where the camera has a place, its world (world.settle); else the camera is taken to be level, unless the
    person stands tilted by over 10 degrees, the origin lies on the floor under the person, Y points away from the
    camera.

    Raises BackendError 'footage-depth' (no 3D guess), 'footage-nobody' (no frame with a whole trunk) or
    'calibration-size'.
    """
    options = options or MonocularOptions()
    placed, notes = _camera(detections, camera, options)
    if detections.world is None:
        raise BackendError(
            "footage-depth",
            f"The 2D poses of {detections.source} have no depth: with one camera, lift them with a trained perceptron "
            "(--lift), let the embedded pose model look at the film, or film with two calibrated cameras.",
        )
    seen = np.asarray(detections.confidence, np.float64)
    guessed = np.isfinite(detections.world[:, _TRUNK]).all((1, 2))
    trunk = np.asarray((seen[:, _TRUNK] > 0).all(1) & guessed, bool)
    if not trunk.any():
        raise BackendError(
            "footage-nobody",
            f"Nobody's hips and shoulders are all seen in any frame of {detections.source}; film the whole "
            "person, upright in the picture.",
        )
    seen = np.where(trunk[:, None], seen, 0)
    rays = to_rays(detections.points, placed)
    guess = _turned_to_camera(np.asarray(detections.world, np.float64), rays)
    flipped = sides.find_jumps(rays, seen, detections.times)
    rays, seen, guess = (sides.swap(values, flipped) for values in (rays, seen, guess))
    body = _fit_body(rays, seen, guess, np.asarray(detections.times, np.float64), options, progress)
    joints = np.zeros((len(seen), JOINT_COUNT, 3))
    joints[:, :_BODY] = body
    confidence = _confidence(joints, rays, seen)
    _hang(joints, confidence, rays, seen, guess, LEFT_HAND, RIGHT_HAND, INDEX["LWrist"])
    _hang(joints, confidence, rays, seen, guess, RIGHT_HAND, FACE, INDEX["RWrist"])
    _hang(joints, confidence, rays, seen, guess, FACE, JOINT_COUNT, INDEX["Nose"])
    joints, confidence = fill_short_gaps(joints, confidence, detections.times)
    joints = low_pass(joints, confidence, detections.times, options.cutoff)
    confidence[~(confidence[:, _TRUNK] > 0).all(1)] = 0
    found = body_height(joints, confidence)
    joints *= options.height / found if found > 0 else 1.0
    joints, placed, world_notes = _world(placed, joints, confidence, options)
    motion = Motion(
        np.where(confidence[..., None] > 0, joints, 0).astype(np.float32),
        confidence.astype(np.float32),
        detections.times - detections.times[0],
        detections.source,
    )
    frames = np.arange(len(motion), dtype=np.int64)[:, None]
    errors = reprojection_errors(motion, (placed,), frames, (detections,))
    return Reconstruction(motion, (placed,), frames, errors, (0.0,), notes + world_notes)


def _camera(
    detections: Detections, camera: CalibratedCamera | None, options: MonocularOptions
) -> tuple[CalibratedCamera, tuple[str, ...]]:
    """The camera of the film, and what was assumed of it."""
    width, height = detections.width, detections.height
    notes: tuple[str, ...] = (
        f"One camera: it is taken to stand still, and the person to be {options.height:.2f} m tall, which sets the "
        "scale.",
    )
    if camera is None:
        focal = options.focal or 1.2 * max(width, height)
        k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        if not options.focal:
            notes += (
                f"The focal length was not given: {focal:.0f} px are assumed (1.2 x the longer side); --focal sets it.",
            )
        name = Path(detections.source).stem or "camera"
        return CalibratedCamera(name, Camera(k, np.eye(3), np.zeros(3), width, height)), notes
    fitted, note = fit_camera(camera, width, height)
    if options.focal:
        k = fitted.camera.K.copy()
        k[0, 0], k[1, 1] = options.focal, options.focal * k[1, 1] / k[0, 0]
        fitted = replace(fitted, camera=replace(fitted.camera, K=k))
    return fitted, notes + ((note,) if note else ())


def _turned_to_camera(guess: Array, rays: Array) -> Array:
    """The pose model looks at the person straight on, whatever the place in the picture: turn its guess (T, 137, 3)
    from the line of sight to MidHip into the camera's axes."""
    hip = INDEX["MidHip"]
    sight = np.concatenate([rays[:, hip], np.ones((len(rays), 1))], -1)
    sight /= np.linalg.norm(sight, axis=-1, keepdims=True)
    # The smallest rotation that takes z to the sight.
    axis = np.stack([-sight[:, 1], sight[:, 0], np.zeros(len(sight))], -1)
    cross = np.zeros((len(sight), 3, 3))
    for i, j, k, sign in ((0, 1, 2, -1), (0, 2, 1, 1), (1, 0, 2, 1), (1, 2, 0, -1), (2, 0, 1, -1), (2, 1, 0, 1)):
        cross[:, i, j] = sign * axis[:, k]
    turn = np.eye(3) + cross + cross @ cross / (1 + sight[:, 2])[:, None, None]
    return np.asarray(np.einsum("tij,tkj->tki", turn, guess))


def _fit_body(
    rays: Array,
    seen: Array,
    guess: Array,
    times: npt.NDArray[np.float64],
    options: MonocularOptions,
    progress: Progress | None,
) -> Array:
    """Body joints (T, 25, 3) in the camera's axes, at the scale of the pose model's guess."""
    weight, guess = seen[:, :_BODY], guess[:, :_BODY]
    known = (weight > 0) & np.isfinite(guess).all(-1)
    guess = np.where(known[..., None], guess, 0)
    start = _start(rays[:, :_BODY], weight * known, guess, times)
    lengths = _equal_sides(_medians(guess, known))
    rows = np.nonzero(known[:, _TRUNK].all(1))[0]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SEARCH_ROWS)).round().astype(np.int64))]
    identity = Camera(np.eye(3), np.eye(3), np.zeros(3), 1, 1)
    pairs = columns(_PAIRS)
    soft = np.arange(len(_PAIRS)) >= len(RIGID_BONES)

    def fit(x: Array, at: npt.NDArray[np.int64] | slice, length: Array, sigma: float, timed: bool) -> Array:
        bones_known = np.isfinite(length)
        bones = Bones(pairs[bones_known], length[bones_known], np.where(soft, _SOFT_SIGMA, sigma)[bones_known])
        return fit_clip(
            x, rays[at, None, :_BODY], weight[at, None], (identity,), bones,
            soft=_SOFT, leaning=_leaning(guess[at], known[at], weight[at], length),
            times=times[at] if timed else None, acceleration=_ACCELERATION,
        )  # fmt: skip

    x = start[rows]
    for _ in range(4):
        x = fit(x, rows, lengths, _SEARCH_SIGMA, False)
        lengths = _equal_sides(_medians(x, known[rows]))
    return in_windows(
        len(start),
        lambda at: fit(start[at], at, lengths, _RIGID_SIGMA, True),
        options.window,
        options.overlap,
        progress,
    )


def _start(rays: Array, weight: Array, guess: Array, times: npt.NDArray[np.float64]) -> Array:
    """The guess (T, J, 3) moved to where it projects best; rows without one lie between their neighbours."""
    robust = weight.copy()
    place = np.zeros((len(rays), 3))
    rows = np.zeros((*rays.shape[:2], 2, 3))
    rows[..., 0, 0] = rows[..., 1, 1] = 1
    rows[..., 2] = -rays
    for _ in range(5):
        # x + px = ray (z + pz): linear in the place p.
        off = rays * guess[..., 2:] - guess[..., :2]
        normal = np.einsum("tj,tjki,tjkl->til", robust, rows, rows, optimize=True) + 1e-9 * np.eye(3)
        right = np.einsum("tj,tjki,tjk->ti", robust, rows, off, optimize=True)
        place = np.linalg.solve(normal, right[..., None])[..., 0]
        residual = np.linalg.norm(np.einsum("tjki,ti->tjk", rows, place) - off, axis=-1)
        robust = weight / np.sqrt(1 + (residual / 0.03) ** 2)
    good = (weight > 0).any(1) & (place[:, 2] > 0.2)
    x = guess + place[:, None]
    if not good.any():
        return x + (0, 0, 3.0)
    for j in range(x.shape[1]):
        own = good & (weight[:, j] > 0)
        if own.any():
            for i in range(3):
                x[:, j, i] = np.interp(times, times[own], x[own, j, i])
    return np.asarray(x)


def _medians(joints: Array, known: npt.NDArray[np.bool_]) -> Array:
    """Median lengths of _PAIRS, NaN where never seen."""
    a, b = columns(_PAIRS).T
    table = np.where(known[:, a] & known[:, b], np.linalg.norm(joints[:, a] - joints[:, b], axis=-1), np.nan)
    out = np.full(len(_PAIRS), np.nan)
    ever = np.isfinite(table).any(0)
    out[ever] = np.nanmedian(table[:, ever], 0)
    return out


def _equal_sides(lengths: Array) -> Array:
    """Each bone as long as the mean of both sides."""
    at = {frozenset(pair): i for i, pair in enumerate(_PAIRS)}
    other = lengths[[at[frozenset(mirrored(pair))] for pair in _PAIRS]]
    return np.where(np.isfinite(other) & np.isfinite(lengths), (lengths + other) / 2, lengths)


def _leaning(guess: Array, known: npt.NDArray[np.bool_], weight: Array, lengths: Array) -> Leaning:
    """The guess's vectors along all pairs, at the lengths found."""
    a, b = columns(_PAIRS).T
    vector = guess[:, b] - guess[:, a]
    size = np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-6)
    vector = np.where(np.isfinite(lengths)[:, None], vector / size * np.nan_to_num(lengths)[:, None], vector)
    # Where the picture tells little, the guess tells as much as elsewhere.
    trust = np.where(known[:, a] & known[:, b], 0.3 + 0.7 * np.minimum(weight[:, a], weight[:, b]), 0)
    return Leaning(columns(_PAIRS), vector, trust, _LEANING_SIGMA)


def _confidence(joints: Array, rays: Array, seen: Array) -> Array:
    """(T, 137) the detections' confidence, less where the fit leaves them; hands and face are still 0."""
    off = joints[..., :2] - joints[..., 2:] * rays
    out = seen / (1 + (off**2).sum(-1) / 0.05**2)
    out[:, _BODY:] = 0
    return np.asarray(out)


def _hang(
    joints: Array, confidence: Array, rays: Array, seen: Array, guess: Array, first: int, last: int, anchor: int
) -> None:
    """Puts joints first:last on their rays, at the anchor's depth plus what the guess says, where both are seen."""
    part = slice(first, last)
    deeper = np.nan_to_num(guess[:, part, 2] - guess[:, anchor, None, 2])
    depth = np.maximum(joints[:, anchor, None, 2] + deeper, 0.1)
    joints[:, part] = np.concatenate([rays[:, part] * depth[..., None], depth[..., None]], -1)
    confidence[:, part] = np.where(confidence[:, anchor, None] > 0, seen[:, part], 0)


def _world(
    camera: CalibratedCamera, joints: Array, confidence: Array, options: MonocularOptions
) -> tuple[Array, CalibratedCamera, tuple[str, ...]]:
    """Joints (T, 137, 3) from the camera's axes into the world, and the camera in it."""
    k = camera.camera
    if not (np.allclose(k.R, np.eye(3)) and np.allclose(k.t, 0)):
        joints = (joints - k.t) @ k.R
        turn, shift, notes = world.settle((camera,), joints, confidence, options.up)
        return joints @ turn.T + shift, replace(world.move_camera(camera, turn, shift), up="z"), notes
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    person, _ = world.upright(joints @ turn.T, confidence)
    tilt = float(np.degrees(np.arccos(np.clip(person[2], -1, 1))))
    if tilt > _TILT:
        turn = world.rotation_onto_z(person) @ turn
        notes = (f"The person stands tilted by {tilt:.0f} degrees in the picture: the camera is taken to be tilted.",)
    else:
        notes = ("The camera is taken to be level.",)
    joints = joints @ turn.T
    hips = joints[confidence[:, INDEX["MidHip"]] > 0, INDEX["MidHip"]]
    shift = np.array([*-np.median(hips[:, :2], 0), -world.floor_height(joints, confidence)])
    return joints + shift, replace(world.move_camera(camera, turn, shift), up="z"), notes
