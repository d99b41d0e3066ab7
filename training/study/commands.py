# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of `neural-avatar compare`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ...neural_backend.interface.messages import BackendError


def add_commands(subparsers: Any) -> None:
    """Add the command; torch is imported only when it draws."""
    compare = subparsers.add_parser(
        "compare",
        help="ask people which of several avatars is nearer to the film",
        description="With --dataset: draw each pair of avatars either side of the film, in an order that nobody sees, "
        "and write FOLDER/study.html (one page, to be opened or sent) and FOLDER/key.json (which result is which). "
        "With a FOLDER alone: count its votes, and print each pair's preference with a 95 % confidence interval.",
    )
    compare.add_argument(
        "paths", type=Path, nargs="+", metavar="AVATAR|FOLDER", help="two avatars or more; or the folder of a study"
    )
    compare.add_argument("--dataset", type=Path, metavar="DATASET", help="dataset folder that holds the film's frames")
    compare.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder for the study")
    compare.add_argument(
        "--votes", type=Path, action="append", default=[], metavar="FILE.csv",
        help="count this table of votes; may be given several times (default: every votes*.csv in FOLDER)",
    )  # fmt: skip
    compare.add_argument(
        "--serve", action="store_true",
        help="show the page to this computer's browser, and write votes to FOLDER as they are made, until Ctrl-C",
    )  # fmt: skip
    compare.add_argument(
        "--cameras", nargs="+", default=[], metavar="NAME", help="heldout, train, all or names "
        "(default: heldout; all for --quadrants)",
    )  # fmt: skip
    compare.add_argument("--split", nargs="+", default=[], metavar="NAME",
                         help="splits (default: every one but train; all for --quadrants)")  # fmt: skip
    compare.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th row only")
    compare.add_argument(
        "--quadrants", action="store_true", help="ask in all of the paper's quadrants, seen and unseen cameras and "
        "motions, and count each of them too",
    )  # fmt: skip
    compare.add_argument("--most", type=int, default=20, metavar="N", help="questions for each pair (default: 20)")
    compare.add_argument(
        "--frames", type=int, default=1, metavar="N", help="neighbouring rows in each picture, which then moves "
        "(default: 1, a still)",
    )  # fmt: skip
    compare.add_argument("--seed", type=int, default=0, metavar="N", help="seed of order and sides (default: 0)")
    compare.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.dataset is not None:
        if options.output is None or options.votes:
            raise BackendError("compare-options", "Give -o FOLDER for the study; votes are counted once it has some.")
        from ..evaluate import Choice
        from .command import StudyOptions, make_study

        choice = Choice(tuple(options.cameras), tuple(options.split), options.every, options.quadrants, options.most)
        study = StudyOptions(choice, options.frames, options.seed)
        code, folder = make_study(options.paths, options.dataset, options.output, study, options.device), options.output
        if code or not options.serve:
            return code
    else:
        if len(options.paths) > 1 or options.output is not None:
            raise BackendError(
                "compare-options", "To make a study give --dataset DATASET and -o FOLDER; to count, its folder alone."
            )
        folder = options.paths[0]
    if options.serve:
        from .serve import serve_study

        return serve_study(folder)
    from .command import count_votes

    return count_votes(folder, options.votes)
