# SPDX-License-Identifier: GPL-3.0-or-later
"""Training the lifting perceptron on 3D motion, seen by orthographic cameras from everywhere around the person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import BODY_BONES, BODY_JOINTS, INDEX, SIZE_BONES
from .lift import BODY, FRAMES, HIP, LiftConfig, Lifter, LiftNetwork, normalise
from .records import Motion

#: Seconds between two consecutive frames: from film at 60 a second to pictures taken three times a second.
_STEPS = (1 / 60, 1 / 3)
#: Share of each motion, at its end, that is kept back to tell how well the perceptron does.
_HELD = 0.15
_MIRROR = [
    INDEX[{"L": "R", "R": "L"}[n[0]] + n[1:]] if n[0] in "LR" and n[1].isupper() else INDEX[n] for n in BODY_JOINTS
]
#: Radians: how far cameras look up or down, and are tilted sideways (one standard deviation).
_PITCH, _ROLL = 0.2, 0.06


@dataclass(frozen=True)
class LiftOptions:
    """steps: of the optimiser; batch: windows in one; rate: at the start, falling to 0 along a cosine. noise: of 2D
    joints (one standard deviation), as a share of the body's size in the picture. dropout: probability that a joint,
    and that a whole limb, is missing in a window. seed: of everything random."""

    steps: int = 10000
    batch: int = 128
    rate: float = 1e-3
    noise: float = 0.02
    dropout: float = 0.05
    config: LiftConfig = field(default_factory=LiftConfig)
    seed: int = 0


def train_lift(
    motions: Sequence[Motion], options: LiftOptions | None = None, progress: Callable[[int, int], None] | None = None
) -> Lifter:
    """Learns to lift. progress: called with (steps done, steps).

    ``about`` of the result tells the error (mm, mean per joint, root aligned, orthographic, with noise) on the last
    15 % of each motion, which are not trained on. Raises BackendError 'lift-motion' when there is too little motion.
    """
    options = options or LiftOptions()
    clips = [_Clip(motion) for motion in motions]
    short = [clip for clip in clips if clip.held < FRAMES]
    if not clips or short:
        name = short[0].source if short else "The list of motions"
        raise BackendError("lift-motion", f"{name} is too short to learn from; give a second or two.")
    joints = torch.stack([clip.known.any(0) for clip in clips]).any(0)
    size = float(np.median(np.concatenate([clip.sizes for clip in clips])))
    random = torch.Generator().manual_seed(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = LiftNetwork(options.config).train()
        optimiser = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(options.steps, 1))
        for step in range(options.steps):
            windows, known = _sample(clips, options.batch, random, held=False)
            loss = _error(network, *_view(_vary(windows, random), known, options, random)).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if progress:
                progress(step + 1, options.steps)
    network.eval()
    with torch.inference_mode():
        windows, known = _sample(clips, 1000, random, held=True)
        plain = replace(options, dropout=0.0)
        points, present, truth, weight = _view(windows, known, plain, random)
        _, scale = normalise(points, present)
        # One metre in the world is one unit here: orthographic cameras of scale 1.
        error = float((_error(network, points, present, truth, weight) * scale).mean()) * 1000
    about = {
        "trained_on": [clip.source for clip in clips],
        "frames": sum(len(clip.joints) for clip in clips),
        "steps": options.steps,
        "error_mm": round(error, 1),
    }
    return Lifter(network, size, joints.numpy(), about)


class _Clip:
    """One motion: joints (T, 25, 3) metres, Z up; known (T, 25) bool; the first row that is held back."""

    def __init__(self, motion: Motion) -> None:
        self.source = motion.source
        usable = motion.confidence[:, HIP] > 0
        self.joints = torch.from_numpy(np.ascontiguousarray(motion.joints[usable, :BODY], np.float32))
        self.known = torch.from_numpy(motion.confidence[usable, :BODY] > 0)
        self.times = motion.times[usable]
        self.held = int(len(self.joints) * (1 - _HELD))
        a, b = np.asarray(SIZE_BONES).T
        lengths = (self.joints[:, a] - self.joints[:, b]).norm(dim=-1)
        both = self.known[:, a] & self.known[:, b]
        self.sizes = lengths[both.all(1)].sum(1).numpy()
        if len(self.joints) and not len(self.sizes):
            raise BackendError("lift-motion", f"{self.source} has no frame with whole arms and legs.")

    def windows(self, last: Tensor, step: Tensor) -> Tensor:
        """Rows (B, 5) that end at ``last``, ``step`` seconds apart; rows before the start repeat the first."""
        back = step[:, None] * torch.arange(FRAMES - 1, -1, -1)
        wanted = torch.from_numpy(self.times)[last][:, None] - back
        # The last row whose time is not after the wanted one.
        rows = torch.searchsorted(torch.from_numpy(self.times), wanted + 1e-6, right=True) - 1
        return rows.clamp(min=0)


def _sample(clips: Sequence[_Clip], count: int, random: torch.Generator, held: bool) -> tuple[Tensor, Tensor]:
    """Windows (B, 5, 25, 3) centred on each frame's MidHip, and known joints (B, 5, 25); clips by their length."""
    starts = [(clip.held, len(clip.joints)) if held else (0, clip.held) for clip in clips]
    weight = torch.tensor([float(last - first) for first, last in starts])
    chosen = torch.multinomial(weight, count, True, generator=random)
    windows, known = [], []
    for i, clip in enumerate(clips):
        n = int((chosen == i).sum())
        first, last = starts[i]
        if n == 0:
            continue
        row = torch.randint(first, last, (n,), generator=random)
        low, high = np.log(_STEPS)
        rows = clip.windows(row, torch.exp(low + (high - low) * torch.rand(n, generator=random, dtype=torch.float64)))
        windows.append(clip.joints[rows] - clip.joints[rows][:, :, HIP, None])
        known.append(clip.known[rows])
    return torch.cat(windows), torch.cat(known)


def _vary(windows: Tensor, random: torch.Generator) -> Tensor:
    """Mirrored people, and people of other builds: each bone longer or shorter, the same on both sides."""
    count = len(windows)
    mirrored = windows[:, :, _MIRROR] * torch.tensor([-1.0, 1.0, 1.0])
    flip = torch.rand(count, generator=random) < 0.5
    windows = torch.where(flip[:, None, None, None], mirrored, windows)
    overall = 1 + 0.1 * torch.randn(count, 1, generator=random)
    factor = overall * (1 + 0.06 * torch.randn(count, BODY, generator=random)).clamp(0.8, 1.2)
    factor = torch.maximum(factor, torch.tensor(0.5))
    out = torch.zeros_like(windows)
    for parent, child in _TREE:
        both = (factor[:, child] + factor[:, _MIRROR[child]]) / 2
        out[:, :, child] = out[:, :, parent] + both[:, None, None] * (windows[:, :, child] - windows[:, :, parent])
    return out


def _tree() -> list[tuple[int, int]]:
    """Bones from MidHip outwards."""
    order, reached, left = [], {HIP}, [*BODY_BONES]
    while left:
        for a, b in left:
            if (a in reached) != (b in reached):
                bone = (a, b) if a in reached else (b, a)
                order.append(bone)
                reached.add(bone[1])
                left.remove((a, b))
                break
    return order


_TREE = _tree()
#: Joints that go missing together: what hangs on each elbow, each knee, and the head.
_FOOT = ("BigToe", "SmallToe", "Heel")
_GROUPS = [
    [INDEX[f"{side}{name}"] for name in names]
    for side in "LR"
    for names in (("Elbow", "Wrist"), ("Knee", "Ankle", *_FOOT), _FOOT, ("Eye", "Ear"))
]


def _view(
    windows: Tensor, known: Tensor, options: LiftOptions, random: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a camera anywhere sees: points (B, 5, 25, 2), present (B, 5, 25), truth (B, 25, 3) in its axes, and the
    weight (B, 25) of each joint's error."""
    count = len(windows)
    yaw = 2 * torch.pi * torch.rand(count, generator=random)
    pitch, roll = (s * torch.randn(count, generator=random) for s in (_PITCH, _ROLL))
    # A level camera's axes in the world: x right, y down, z forward.
    level = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    rotation = _about(2, roll) @ _about(0, pitch) @ level @ _about(2, yaw)
    seen = windows @ rotation.transpose(-1, -2)[:, None]
    extent = seen[..., :2].flatten(1, 2).square().sum(-1).mean(1).sqrt()
    # Detectors err in part the same way from frame to frame.
    steady = torch.randn(count, 1, BODY, 2, generator=random)
    shaky = torch.randn(count, FRAMES, BODY, 2, generator=random)
    level_of_noise = options.noise * torch.rand(count, generator=random) * 2 * extent
    points = seen[..., :2] + level_of_noise[:, None, None, None] * (0.7 * steady + 0.7 * shaky)
    present = known & (torch.rand(known.shape, generator=random) >= options.dropout)
    for group in _GROUPS:
        gone = torch.rand(count, generator=random) < options.dropout
        present[:, :, group] &= ~gone[:, None, None]
    present[:, :, HIP] = known[:, :, HIP]
    return points, present, seen[:, -1], known[:, -1].to(points.dtype)


def _error(network: LiftNetwork, points: Tensor, present: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean distance of the joints (B,), root aligned, in the unit of ``normalise``."""
    features, size = normalise(points, present)
    pose: Tensor = network(features)
    pose = pose - pose[:, HIP, None]
    distance = (pose - (truth - truth[:, HIP, None]) / size[:, None, None]).norm(dim=-1)
    error: Tensor = (distance * weight).sum(1) / weight.sum(1).clamp(min=1)
    return error


def _about(axis: int, angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about a coordinate axis."""
    c, s = torch.cos(angle), torch.sin(angle)
    out = torch.eye(3).repeat(len(angle), 1, 1)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out[:, a, a], out[:, a, b], out[:, b, a], out[:, b, b] = c, -s, s, c
    return out
