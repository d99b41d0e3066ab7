# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands `neural-avatar train`, `evaluate` and `weights`; footage and study have theirs in their own rooms."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .config import add_config_arguments, config_from_arguments
from .footage.commands import add_commands as add_footage_commands
from .study.commands import add_commands as add_study_commands


def add_commands(subparsers: Any) -> None:
    """Add this room's commands; torch is imported only when one is run."""
    add_footage_commands(subparsers)
    _add_train(subparsers)
    _add_evaluate(subparsers)
    add_study_commands(subparsers)
    _add_weights(subparsers)


def _add_train(subparsers: Any) -> None:
    train = subparsers.add_parser(
        "train",
        help="learn an avatar from a dataset of masked pictures, cameras and joints",
        description="Learn an avatar. Checkpoints, log.csv and preview.png grow in OUTPUT.train beside it; after "
        "Ctrl-C or a kill the same command resumes. Only rows of split 'train' and the train cameras are learned from.",
    )
    train.add_argument(
        "datasets", type=Path, nargs="+", metavar="DATASET", help="dataset folder; several of one person may be given"
    )
    train.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.avatar", help="the avatar to write")
    train.add_argument("--restart", action="store_true", help="forget an earlier run of this output and start over")
    for name, text in (
        ("name", "the person's name"),
        ("license", "the footage's licence"),
        ("credit", "whom to credit"),
    ):
        train.add_argument(f"--{name}", default="", metavar="TEXT", help=f"{text}, kept in the avatar")
    add_config_arguments(train)
    train.set_defaults(run=_train)


def _add_evaluate(subparsers: Any) -> None:
    evaluate = subparsers.add_parser(
        "evaluate",
        help="compare an avatar's pictures with a dataset's",
        description="PSNR, SSIM and MS-SSIM over the whole frame and in the person's box, mask IoU, FLIP, sharpness, "
        "flicker and Fréchet distances (LPIPS and FID where their weights are), by split and camera.",
    )
    evaluate.add_argument("avatar", type=Path, metavar="AVATAR", help="the avatar file")
    evaluate.add_argument("dataset", type=Path, metavar="DATASET", help="dataset folder")
    evaluate.add_argument(
        "--cameras",
        nargs="+",
        default=[],
        metavar="NAME",
        help="heldout, train, all or names (default: heldout; all for --quadrants)",
    )
    evaluate.add_argument(
        "--split",
        nargs="+",
        default=[],
        metavar="NAME",
        help="splits (default: every one but train; all for --quadrants)",
    )
    evaluate.add_argument("--every", type=int, default=1, metavar="N", help="look at every N-th row only")
    evaluate.add_argument(
        "--quadrants",
        action="store_true",
        help="compare cameras and motions that were and were not trained on, crossed, as in the paper's Table 1",
    )
    evaluate.add_argument(
        "--most", type=int, default=40, metavar="N", help="frames of each quadrant at most (default: 40)"
    )
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write the figures of every frame as a table")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write all figures, per frame too")
    evaluate.add_argument(
        "--pictures", type=Path, metavar="DIR", help="write truth | render | difference of the worst and of some frames"
    )
    evaluate.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write one page with everything: tables, the run's curves, pictures with a slider, the textures before "
        "and after training",
    )
    evaluate.add_argument(
        "--inception-weights",
        type=Path,
        metavar="FILE",
        help="weights of torchvision's Inception v3 for the FID (default: those in torch's cache)",
    )
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    evaluate.set_defaults(run=_evaluate)


def _add_weights(subparsers: Any) -> None:
    weights = subparsers.add_parser(
        "weights",
        help="download public weights for the perceptual loss, LPIPS and FID",
        description="Without names: tell which of others' public weights are here, and where the others come from. "
        "With names: download those into torch's cache, by their checksums. Nothing else ever downloads.",
    )
    weights.add_argument("names", nargs="*", metavar="NAME", help="vgg19, alexnet or inception")
    weights.set_defaults(run=_weights)


def _train(options: argparse.Namespace) -> int:
    config = config_from_arguments(options)
    from .export import Labels
    from .runs import train

    labels = Labels(options.name, options.license, options.credit)
    return train(options.datasets, options.output, config, labels, options.restart)


def _weights(options: argparse.Namespace) -> int:
    from .weights_command import weights_command

    return weights_command(options.names)


def _evaluate(options: argparse.Namespace) -> int:
    from .evaluate import Choice
    from .evaluate_command import Outputs, evaluate_command

    choice = Choice(tuple(options.cameras), tuple(options.split), options.every, options.quadrants, options.most)
    outputs = Outputs(options.json, options.csv, options.pictures, options.report)
    return evaluate_command(options.avatar, options.dataset, choice, options.device, outputs, options.inception_weights)
