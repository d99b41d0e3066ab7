# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar footage`: films in, a dataset out; or a look at a dataset."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ...neural_backend.interface.messages import BackendError
from .lift_command import add_lift_command


def add_commands(subparsers: Any) -> None:
    """Add this room's commands; what they need is imported only when one is run."""
    footage = subparsers.add_parser(
        "footage",
        help="turn films of a person into a dataset to train on",
        description="Turn films into a dataset: decode, pose, masks, 3D, pictures, report. The work grows in "
        "OUTPUT.partial beside it; after Ctrl-C or a kill the same command goes on, and OUTPUT appears when it is "
        "whole. docs/footage.md tells how to film.",
    )
    footage.add_argument(
        "videos", nargs="*", metavar="VIDEO", help="a video, a folder of pictures, or a quoted pattern; several are "
        "cameras that filmed the same moments, and need --calibration",
    )  # fmt: skip
    footage.add_argument("-o", "--output", type=Path, metavar="DATASET", help="the dataset folder to write")
    footage.add_argument("--check", type=Path, metavar="DATASET", help="look through a dataset instead of making one")
    footage.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="with --check: write its report.html anew",
    )
    _input_options(footage.add_argument_group("what you have"))
    _choice_options(footage.add_argument_group("which frames"))
    _space_options(footage.add_argument_group("pose and 3D"))
    _output_options(footage.add_argument_group("the dataset"))
    footage.set_defaults(run=_footage)
    add_lift_command(subparsers)


def _input_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--calibration", type=Path, metavar="FILE", help="Calib.toml (Pose2Sim), .qca.txt (Qualisys), OpenCV YAML, CMU "
        "Panoptic JSON or a dataset's cameras.json",
    )  # fmt: skip
    group.add_argument(
        "--poses", type=Path, metavar="DIR", help="poses that you have: OpenPose or COCO-WholeBody JSON (a folder for "
        "each camera), CMU Panoptic, TRC, BVH",
    )  # fmt: skip
    group.add_argument(
        "--masks", type=Path, metavar="PATH", help="masks that you have, a folder or a video for each camera: PNG, "
        "DensePose's IUV pictures or a dump of apply_net; one camera's may be named itself",
    )  # fmt: skip
    group.add_argument(
        "--credit", default="", metavar="TEXT", help="whom to credit, kept in the dataset and the avatar"
    )


def _choice_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--start", type=float, metavar="S", help="leave out what is before this second")
    group.add_argument("--end", type=float, metavar="S", help="leave out what is after this second")
    group.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th frame only (default: 1)")
    group.add_argument("--fps", type=float, default=0.0, metavar="N", help="use so many frames a second (default: all)")
    group.add_argument(
        "--rate", type=float, metavar="N", help="folders of pictures: how many a second were taken (default: 30)"
    )
    group.add_argument("--person", type=int, metavar="N", help="whom to follow: 1 the largest, 2 the next (default: 1)")


def _space_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--pose-size",
        type=int,
        default=960,
        metavar="PX",
        help="longer side of what the pose model sees (default: 960)",
    )
    group.add_argument(
        "--up", default="", metavar="AXIS", help="the calibration's axis that points up: x, y, z, -x, -y, -z (default: "
        "as the calibration says, else by the person)",
    )  # fmt: skip
    group.add_argument(
        "--focal", type=float, default=0.0, metavar="PX", help="one camera: focal length in pixels of the film "
        "(default: 1.2 times its longer side)",
    )  # fmt: skip
    group.add_argument(
        "--height", type=float, default=1.75, metavar="M", help="one camera: how tall the person is, metres, which "
        "sets the scale (default: 1.75)",
    )  # fmt: skip
    group.add_argument(
        "--lift", type=Path, metavar="FILE", help="one camera: lift poses with this network (lift-train)"
    )
    group.add_argument(
        "--cutoff", type=float, default=6.0, metavar="HZ", help="low-pass of the joints; 0 for none (default: 6)"
    )
    group.add_argument(
        "--sync",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="search by how many frames cameras are apart",
    )
    group.add_argument(
        "--refine", action=argparse.BooleanOptionalAction, default=True, help="correct where the cameras stand"
    )
    group.add_argument("--grabcut", action="store_true", help="refine masks with GrabCut (slow, seldom better)")
    group.add_argument(
        "--deeplab", type=Path, metavar="FILE", help="masks by DeepLabV3 with these weights (torchvision)"
    )


def _output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--crop", type=int, default=512, metavar="PX", help="longest side of the stored pictures (default: 512)"
    )
    group.add_argument("--heldout", nargs="+", default=[], metavar="NAME", help="cameras that are never trained on")
    group.add_argument(
        "--holdout", type=float, default=0.1, metavar="X", help="share of the frames, at the end, that are never "
        "trained on (default: 0.1)",
    )  # fmt: skip
    group.add_argument("--overwrite", action="store_true", help="replace DATASET if it exists")
    group.add_argument("--restart", action="store_true", help="forget an earlier run's work and start over")
    group.add_argument(
        "--keep", action="store_true", help="keep the work in DATASET.partial, to change an option later"
    )


def _footage(options: argparse.Namespace) -> int:
    if options.check is not None:
        if options.videos or options.output:
            raise BackendError("footage-options", "--check looks at a dataset; give no VIDEO and no -o with it.")
        return _check(options.check, options.report)
    if not options.videos or options.output is None:
        raise BackendError(
            "footage-options", "Give the VIDEO to read and the DATASET to write with -o, or --check DATASET."
        )
    # The fits solve thousands of small systems: BLAS is ten times as fast on one thread as on several that wait for one
    # another. It reads this when SciPy is loaded, which has not happened yet.
    for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from .pipeline import FootageOptions, make_dataset
    from .selection import Choice

    names = (
        "calibration", "poses", "masks", "person", "rate", "crop", "holdout", "up", "focal", "height", "cutoff", "sync",
        "refine", "lift", "grabcut", "deeplab", "pose_size", "credit", "overwrite", "restart", "keep",
    )  # fmt: skip
    return make_dataset(FootageOptions(
        videos=tuple(options.videos), output=options.output, heldout=tuple(options.heldout),
        choice=Choice(options.start, options.end, options.every, options.fps),
        **{name: getattr(options, name) for name in names},
    ))  # fmt: skip


def _check(folder: Path, report: bool) -> int:
    """Say what is wrong with a dataset; 1 where something would spoil training."""
    from .check import findings
    from .progress import Voice
    from .survey import look_through

    survey = look_through(folder, Voice().progress("check"))
    found = findings(survey)
    for finding in found:
        print(f"{'Fault' if finding.fault else 'Remark'}: {finding.text}")
    if report:
        from .report import write_report

        write_report(survey, folder / "report.html", folder.resolve().name, notes_of(folder))
        print(f"Wrote {folder / 'report.html'}.")
    data, faults = survey.dataset, sum(f.fault for f in found)
    what = f"{len(data.joints)} rows, {len(data.cameras)} cameras, {int(survey.stored.sum())} pictures"
    print(
        f"{folder}: {what}; {f'{faults} faults' if faults != 1 else '1 fault'}."
        if faults
        else f"{folder}: {what}; sound."
    )
    sys.stdout.flush()
    return 1 if faults else 0


def notes_of(folder: Path) -> list[str]:
    """What the making of a dataset said; nothing where it does not tell."""
    import json

    try:
        notes = json.loads((folder / "footage.json").read_text("utf-8"))["notes"]
        return [str(note) for note in notes]
    except (OSError, ValueError, KeyError, TypeError):
        return []
