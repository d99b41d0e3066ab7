# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar lift-train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_lift_command(subparsers: Any) -> None:
    """Add the command; torch is imported only when it is run."""
    parser = subparsers.add_parser(
        "lift-train",
        help="learn to lift 2D poses to 3D from your own motion capture",
        description="Train the perceptron that lifts five consecutive 2D poses to the 3D pose of the last one, on 3D "
        "motion: BVH or TRC files, or CMU Panoptic folders. `footage --lift FILE` uses it for films from one camera. "
        "It needs motion like the film's, hours of it rather than minutes, to do better than the pose model that "
        "`footage` uses without it. The last 15 % of each motion are kept back to measure it.",
    )
    parser.add_argument("motions", type=Path, nargs="+", metavar="MOTION", help="BVH, TRC or a CMU Panoptic folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.lift", help="the perceptron to write")
    parser.add_argument("--steps", type=_count, default=10000, metavar="N", help="training steps (default: 10000)")
    parser.add_argument("--width", type=_count, default=256, metavar="N", help="hidden units (default: 256)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    parser.add_argument(
        "--person", type=int, metavar="ID", help="whom of several people in a Panoptic folder (default: seen most)"
    )
    parser.add_argument("--up", default="", metavar="AXIS", help="the files' axis that points up (default: found)")
    parser.set_defaults(run=_train)


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 10_000_000:
        raise argparse.ArgumentTypeError("must be a whole number above zero")
    return value


def _train(options: argparse.Namespace) -> int:
    from ...neural_backend.interface.messages import BackendError
    from .lift import LiftConfig, save_lift
    from .lift_train import LiftOptions, train_lift
    from .progress import Voice
    from .readers.poses import read_motion

    if not options.output.parent.is_dir():
        raise BackendError("lift-unwritable", f"There is no folder {options.output.parent}; make it first.")
    motions = [read_motion(path, options.person, options.up) for path in options.motions]
    voice = Voice()
    seconds = sum(float(motion.times[-1] - motion.times[0]) for motion in motions)
    voice.tell(f"Learning from {len(motions)} motions, {seconds:.0f} seconds in all.")
    config = LiftConfig(width=options.width)
    lifter = train_lift(
        motions,
        LiftOptions(steps=options.steps, config=config, seed=options.seed),
        voice.progress("Training"),
    )
    save_lift(options.output, lifter)
    voice.tell(
        f"Wrote {options.output}. On the ends of the motions, which it has not learned from, joints are "
        f"{lifter.about['error_mm']:.0f} mm off on average; on other people and other motion it will be more."
    )
    return 0
