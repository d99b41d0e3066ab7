#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfer to another person: a tenth of the time from an avatar that is there, against all of it from scratch.

    python benchmarks/transfer.py DATASET [--avatar assets/demo.avatar] [--minutes 30] [--seeds 0 1 2]

DATASET is what `neural-avatar footage` makes, of a person whom the avatar was not trained on (real_capture.py makes
one). Three runs for each seed, one thread each: from scratch for the minutes; from scratch for a tenth of them; and for
that tenth from the avatar (--init-from: its network is taken, the textures are averaged anew, then both are tuned).
All have the avatar's network and are judged by the held-out cameras, by the same frames. Writes results/transfer.md,
transfer.json, transfer_frames.csv and transfer.jpg.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_tables import Means, absences, figures_table, mean, meanings, strip, write_frames
from training_runs import PACKAGE, ROOT, SEEDS, Run, Runner, Test, add_options

WAYS = {
    "transfer": "from the avatar, a tenth of the time",
    "scratch": "from scratch, all of the time",
    "scratch-tenth": "from scratch, a tenth of the time",
}
#: Held-out cameras; every fifth row of what others saw of the motion, every row of what nobody did.
TESTS = {
    "": ("unseen camera, unseen motion", ("--cameras", "heldout")),
    "seen-motion": ("unseen camera, seen motion", ("--cameras", "heldout", "--split", "train", "--every", "5")),
}


def planned(options: argparse.Namespace, network: Mapping[str, Any], method: str) -> dict[tuple[str, int], Run]:
    """Every run, by way and seed."""
    backbone = {32: "--wide", 16: "--no-wide"}.get(network["channels"][0], "--no-wide")
    common = ("--method", method, "--size", str(network["size"][0]), backbone, "--lr", f"{options.lr:g}",
              "--skips" if network["skips"] else "--no-skips", "--image-loss", "fallback")  # fmt: skip
    tests = {name: Test(options.dataset, choice) for name, (_, choice) in TESTS.items()}
    runs = {}
    for seed in options.seeds:
        for way in WAYS:
            minutes = options.minutes * (1 if way == "scratch" else 0.1)
            begin = ("--init-from", str(options.avatar)) if way == "transfer" else ()
            flags = (*common, *begin, "--cpu-minutes", f"{minutes:g}", "--seed", str(seed))
            runs[way, seed] = Run(f"{way}_seed{seed}", options.dataset, flags, tests)
    return runs


def verdict(groups: Mapping[str, Sequence[Means]]) -> str:
    """Is the tenth as good as the whole? In words."""
    if not {"transfer", "scratch"} <= set(groups):
        return "not run yet"
    leads = {name: mean(groups["transfer"], name) - mean(groups["scratch"], name) for name in ("ssim_box", "psnr_box")}
    reached = "**reached**" if min(leads.values()) >= 0 else "**short**"
    return f"{reached}: {leads['ssim_box']:+.4f} SSIM and {leads['psnr_box']:+.2f} dB in the box against from scratch"


def page(options: argparse.Namespace, groups: Mapping[str, Mapping[str, Sequence[Means]]],
         machines: Sequence[str]) -> str:  # fmt: skip
    """The page of results. groups: by test, then by way."""
    parts = [
        f"# Transfer from {options.avatar.name} to {options.dataset.name}",
        f"{options.minutes:g} CPU minutes on one thread from scratch, {options.minutes / 10:g} for the others; "
        f"learning rate {options.lr:g} (fine-tuning takes a share of it); seeds {', '.join(map(str, options.seeds))}. "
        "Fitting the proxy and averaging textures is paid from the minutes.",
    ]
    for name, (title, _) in TESTS.items():
        some = {WAYS[way]: group for way, group in groups[name].items()}
        if some:
            parts += [f"## {title.capitalize()}", f"The aim, equal or better in a tenth of the time, is "
                      f"{verdict(groups[name])}.", figures_table(some, {})]  # fmt: skip
            parts += [line for line in absences(some.values()) if line not in absences(groups[""].values())]
    parts += [
        f"## How to read it\n\n{meanings(groups[''].values(), machines)}\n"
        "- [Every frame](transfer_frames.csv), unseen motion.",
        "![truth and each way](transfer.jpg)",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--avatar", type=Path, default=ROOT / "assets" / "demo.avatar", help="whom to begin with")
    parser.add_argument("--minutes", type=float, default=30.0, help="CPU minutes from scratch (default: 30)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate from scratch (default: 0.002)")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="seeds (default: 0 1 2)")
    add_options(parser, "transfer")
    options = parser.parse_args()
    options.dataset, options.avatar = options.dataset.resolve(), options.avatar.resolve()
    options.results.mkdir(parents=True, exist_ok=True)
    header = importlib.import_module(f"{PACKAGE}.neural_backend.interface.avatar_header").read_header(options.avatar)
    runner, runs = Runner(options.work, options.jobs), planned(options, header.network, header.method)
    runner.do(runs.values())
    done = {key: run for key, run in runs.items() if all(runner.figures(run, test) for test in TESTS)}
    if done:
        groups = {test: {way: group for way in WAYS if (group := [
            figures["all"] for (own, _), run in done.items() if own == way and (figures := runner.figures(run, test))
        ])} for test in TESTS}  # fmt: skip
        text = page(options, groups, runner.machines(done.values()))
        (options.results / "transfer.md").write_text(text, "utf-8")
        report = {f"{way} seed {seed}": {title: figures["all"] for test, (title, _) in TESTS.items()
                                         if (figures := runner.figures(run, test))}
                  for (way, seed), run in done.items()}  # fmt: skip
        (options.results / "transfer.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        tables = [((way, seed), runner.path(run, ".csv")) for (way, seed), run in done.items()]
        write_frames(options.results / "transfer_frames.csv", ("way", "seed"), tables)
        first = min(seed for _, seed in done)
        folders = {way: runner.path(run, ".pictures") for (way, seed), run in done.items() if seed == first}
        strip(folders, options.results / "transfer.jpg", frames=(1, 4))  # of one short motion
        print(text)
    if runner.failed:
        raise SystemExit("\n".join(f"{name}: {sentence}" for name, sentence in runner.failed.items()))


if __name__ == "__main__":
    main()
