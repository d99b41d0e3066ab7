#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each part of the method brings: textured-proxy with one thing changed at a time, five CPU minutes each.

    python benchmarks/ablations.py DATASET [--only NAME ...] [--seeds 0] [--jobs 2]
    python benchmarks/ablations.py DATASET --table

Network 128x64, one thread, held-out cameras and the unseen dance (split test_far). Each run is judged twice: with the
dataset's exact poses, and with poses that are wrong as `train --jitter 1 --dropout 0.1` makes them (hands, face and
feet misplaced or lost, the same errors for all), which the `robust` variants train on. The default is run with three
seeds, whatever --seeds says: what its figures vary by of themselves is the measure for all differences. Finished runs
are kept in --work, interrupted ones resume, and the table is written from what there is. Writes results/ablations.md,
ablations.json and ablations_frames.csv.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from run_tables import FIGURES, Means, cell, markdown, mean, meanings, measured, steps_column, write_frames
from scipy import stats
from training_runs import PACKAGE, SEEDS, Run, Runner, Test, add_options

DEFAULT = "default"
DISTURBED = "disturbed"
COMMON = ("--image-loss", "fallback", "--refine", "0")


@dataclass(frozen=True)
class Variant:
    """A row of the table: its group, title, and the options that differ from the default's."""

    group: str
    title: str
    options: tuple[str, ...] = ()


VARIANTS = {
    DEFAULT: Variant("", "textured-proxy as it is"),
    "init-average": Variant("init", "average build, not fitted to the masks", ("--proxy-steps", "0")),
    "init-random": Variant("init", "random: proxy not fitted, textures not averaged", ("--init", "random")),
    "outright": Variant("residual", "proxy as input, predicted outright, guided", ("--no-residual",)),
    "outright-raw": Variant("residual", "the same, begun at random", ("--no-residual", "--init", "random")),
    "textured": Variant("residual", "textured: no proxy as input, guided", ("--method", "textured")),
    "textured-paper": Variant(
        "residual",
        "textured, pre-trained as in the paper",
        ("--method", "textured", "--pretrain", "0.3", "--guide", "0"),
    ),
    "textured-raw": Variant("residual", "textured, begun at random", ("--method", "textured", "--init", "random")),
    "static": Variant("residual", "static: the proxy and averaged textures alone", ("--method", "static")),
    "no-skips": Variant("skips", "no skip connections", ("--no-skips",)),
    "vgg-random": Variant("losses", "image loss: random-weight VGG19", ("--image-loss", "vgg-random")),
    "adversarial": Variant(
        "losses", "adversarial loss and feature matching", ("--weight-adversarial", "0.1", "--weight-features", "1")
    ),
    "temporal": Variant("losses", "temporal loss added", ("--weight-temporal", "1")),
    "no-smooth": Variant("losses", "no total variation of textures", ("--weight-smooth", "0")),
    "no-coordinates": Variant("losses", "coordinates not held to the proxy's", ("--weight-coordinates", "0")),
    "fine-textures": Variant("textures", "256 texels a side, finer than the footage", ("--texture-size", "256")),
    "no-ema": Variant("losses", "last weights instead of their running mean", ("--ema", "0")),
    "view-1": Variant("view dependence", "spherical harmonics of order 1", ("--view-order", "1")),
    "view-2": Variant("view dependence", "spherical harmonics of order 2", ("--view-order", "2")),
    "no-hair": Variant("hair", "no hair primitives", ("--no-hair",)),
    "light": Variant("light", "a gain for each clip and camera", ("--light-gain",)),
    "robust": Variant("pose errors", "jitter 1 and dropout 0.1 in training", ("--jitter", "1", "--dropout", "0.1")),
    "robust-weighted": Variant(
        "pose errors",
        "the same, bones weighted by confidence",
        ("--jitter", "1", "--dropout", "0.1", "--confidence-weighted"),
    ),
    "no-augmentation": Variant("augmentation", "crops not varied", ("--zoom", "1", "--shift", "0", "--rotation", "0")),
}


def disturbed(dataset: Path, folder: Path) -> Path:
    """The dataset with errors in its joints: such as `train --jitter 1 --dropout 0.1` makes, drawn once."""
    if (folder / "joints.npz").exists():
        source = (folder / "images").resolve().parent
        if source != dataset.resolve():  # figures on one person's poses must not pass for another's
            raise SystemExit(f"{folder} was made from {source}; delete it, or give --work.")
        return folder
    room = {n: importlib.import_module(f"{PACKAGE}.{n}") for n in (
        "training.dataset", "training.disturbance", "neural_backend.interface.skeleton")}  # fmt: skip
    data, errors = room["training.dataset"].read_dataset(dataset), room["training.disturbance"]
    joints, confidence = errors.disturb(
        data.joints, data.confidence, np.random.default_rng(0), errors.Disturbance(1.0, 0.1)
    )
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name in ("cameras.json", "frames.npz"):
        if (dataset / name).exists():
            shutil.copyfile(dataset / name, temporary / name)
    (temporary / "images").symlink_to((dataset / "images").resolve(), target_is_directory=True)
    names = np.array(room["neural_backend.interface.skeleton"].JOINTS)
    with np.load(dataset / "joints.npz", allow_pickle=False) as file:
        rest = {key: file[key] for key in file}
    np.savez(temporary / "joints.npz", **{**rest, "joints": joints, "confidence": confidence, "names": names})
    temporary.rename(folder)
    return folder


def planned(options: argparse.Namespace) -> dict[tuple[str, int], Run]:
    """Every run that may be asked for, by variant and seed; the default's first."""
    tests = {"": Test(options.dataset), DISTURBED: Test(disturbed(options.dataset, options.work / DISTURBED))}
    runs = {}
    for seed in SEEDS:
        for name, variant in VARIANTS.items():
            if name != "static" or seed == SEEDS[0]:  # nothing in it is random
                # The last of equal options counts, so a variant's own come last.
                flags = ("--cpu-minutes", f"{options.minutes:g}", "--size", str(options.size), "--lr",
                         f"{options.lr:g}", "--seed", str(seed), *COMMON, *variant.options)  # fmt: skip
                runs[name, seed] = Run(f"{name}_seed{seed}", options.dataset, flags, tests)
    return runs


SHOWN = ("psnr_box", "ssim_box", "ms_ssim_box", "flip_box", "sharpness_box", "flicker", "frechet_random", "mask_iou")


def table(groups: Mapping[str, Sequence[Means]], rough: Mapping[str, Sequence[Means]]) -> str:
    """Figures of the default, and how far each variant is from them. rough: the same runs on disturbed poses."""
    names = [name for name in SHOWN if name in measured(groups.values())]
    base, base_rough, more = groups[DEFAULT], rough[DEFAULT], steps_column(groups)

    def difference(group: Sequence[Means], reference: Sequence[Means], name: str) -> str:
        value = mean(group, name) - mean(reference, name)
        spread = statistics.stdev(float(m[name] or 0) for m in reference) if len(reference) > 1 else 0.0
        error = spread * (1 / len(group) + 1 / len(reference)) ** 0.5  # of a difference between means
        mark = "**" if len(reference) > 1 and abs(value) > stats.t.ppf(0.975, len(reference) - 1) * error else ""
        return f"{mark}{value:+.{FIGURES[name].digits}f}{mark}"

    def row(name: str, cells: Sequence[str]) -> list[str]:
        count = (str(len(groups[name])), *(make(name) for make in more.values()))
        return [VARIANTS[name].group, VARIANTS[name].title, *count, *cells]

    rows = [row(DEFAULT, [*(cell(base, n) for n in names), cell(base_rough, "ssim_box")])]
    for name, group in groups.items():
        if name != DEFAULT:
            cells = [difference(group, base, n) for n in names] + [difference(rough[name], base_rough, "ssim_box")]
            rows.append(row(name, cells))
    titles = [FIGURES[name].title for name in names]
    return markdown(["", "variant", "seeds", *more, *titles, "SSIM box, poses disturbed"], rows)


def page(
    options: argparse.Namespace,
    groups: Mapping[str, Sequence[Means]],
    rough: Mapping[str, Sequence[Means]],
    machines: Sequence[str],
) -> str:
    """The page of results."""
    missing = [VARIANTS[name].title for name in VARIANTS if name not in groups]
    parts = [
        f"# Ablations on {options.dataset.name}",
        f"textured-proxy with one thing changed at a time: {options.minutes:g} CPU minutes on one thread for each "
        f"run, network {options.size}x{options.size // 2}, learning rate {options.lr:g} for all; held-out cameras × "
        "held-out motion (split test_far). The first row is the default, the mean over its seeds ± their sample "
        "deviation; the others are differences from it (the steps alone are told as they are), in bold where they lie "
        "outside the range in which 19 of 20 would lie if nothing were changed (Student's distribution, by that "
        "deviation).",
        *([f"Not there yet: {'; '.join(missing)}."] if missing else []),
        table(groups, rough),
        "Poses disturbed: judged with hands, face and feet misplaced, and each lost in one picture of ten. The errors "
        "are of the very kind and size that the variants with jitter and dropout train on, so that theirs is the best "
        "case. Their size is that of `--jitter 1`; it was not measured on a pose model.\n\n"
        f"{meanings(groups.values(), machines)}\n"
        "- [Every frame of every run](ablations_frames.csv).",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS), help="what to run now")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS[:1], help="of the variants")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table from what is finished")
    parser.add_argument("--minutes", type=float, default=5.0, help="CPU minutes of each run (default: 5)")
    parser.add_argument("--size", type=int, default=128, help="height of the network's picture (default: 128)")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of all (default: 0.002)")
    add_options(parser, "ablations")
    options = parser.parse_args()
    options.dataset = options.dataset.resolve()
    for folder in (options.work, options.results):
        folder.mkdir(parents=True, exist_ok=True)
    runner, runs = Runner(options.work, options.jobs), planned(options)
    if not options.table:
        wanted = {key for key in runs if key[0] in options.only and (key[1] in options.seeds or key[0] == DEFAULT)}
        runner.do(run for key, run in runs.items() if key in wanted)
    done = {key: run for key, run in runs.items() if runner.figures(run) and runner.figures(run, DISTURBED)}
    both = [{name: [f["all"] for (own, _), run in done.items() if own == name and (f := runner.figures(run, test))]
             for name in VARIANTS} for test in ("", DISTURBED)]  # fmt: skip
    groups, rough = ({name: group for name, group in one.items() if group} for one in both)
    if DEFAULT in groups:
        text = page(options, groups, rough, runner.machines(done.values()))
        (options.results / "ablations.md").write_text(text, "utf-8")
        report = {f"{name} seed {seed}{' ' * bool(test)}{test}": figures["all"] for (name, seed), run in done.items()
                  for test in ("", DISTURBED) if (figures := runner.figures(run, test))}  # fmt: skip
        (options.results / "ablations.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        tables = [((name, seed), runner.path(run, ".csv")) for (name, seed), run in done.items()]
        write_frames(options.results / "ablations_frames.csv", ("variant", "seed"), tables)
        print(text)
    else:
        print("No table yet: all rows are differences from the default, which has not been run.")
    if runner.failed:
        raise SystemExit("\n".join(f"{name}: {sentence}" for name, sentence in runner.failed.items()))


if __name__ == "__main__":
    main()
