#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Likeness against the baselines at equal CPU time on one thread: six methods, the textured one taught in two ways,
Direct with skips and without.

    python benchmarks/quality.py DATASET [--only METHOD ...] [--seeds 0 1 2] [--rates FILE] [--jobs 2]
    python benchmarks/quality.py DATASET --table

Every method has the same CPU minutes, size, backbone, crops, augmentation and optimiser. Its learning rate is picked
from the same three by short runs on a validation set carved out of the training data: one training clip seen by one
training camera, neither of which those runs train on, and the held-out cameras are not even in the folder that they
read. The figures are of the held-out cameras and the unseen dance (split test_far), means over three seeds; a second
table is of the unseen ends of films whose beginnings are trained on (test_near).

Everything may be done in several sittings: finished runs are kept in --work and not done again, interrupted ones
resume, and the table is written from what there is and names what is not there yet. Writes results/quality.md,
quality.json, quality_frames.csv (every frame of every run) and quality.jpg.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from run_tables import Means, figures_table, mean, meanings, off, strip, unknowable, write_frames
from training_runs import NEAR, PACKAGE, SEEDS, Run, Runner, Test, add_options, unseen

#: The same for every method. Pictures of this size have the footage's own resolution, so there is nothing to refine.
COMMON = ("--image-loss", "fallback", "--refine", "0")
VALIDATION = "validation"


@dataclass(frozen=True)
class Method:
    """A row of the table. random: whether seeds, and the learning rate, change anything."""

    title: str
    options: tuple[str, ...]
    random: bool = True


METHODS = {
    "textured-proxy": Method("textured-proxy", ("--method", "textured-proxy", "--skips")),
    # Both named anew: runs that were kept as `textured` were taught as the program of their day did by default.
    "textured-guided": Method(
        "textured, guided, with skips", ("--method", "textured", "--skips", "--pretrain", "0", "--guide", "0.6")
    ),
    "textured-paper": Method(
        "textured, pre-trained as in the paper, with skips",
        ("--method", "textured", "--skips", "--pretrain", "0.3", "--guide", "0"),
    ),
    "direct": Method("direct (the paper's, no skips)", ("--method", "direct", "--no-skips")),
    "direct-skips": Method("direct with skips", ("--method", "direct", "--skips")),
    "direct-proxy": Method("direct-proxy", ("--method", "direct-proxy", "--skips")),
    "v2v": Method("v2v", ("--method", "v2v", "--skips")),
    "static": Method("static (no network)", ("--method", "static"), random=False),
}


@dataclass(frozen=True)
class Goal:
    """textured-proxy ahead of another method in a figure, by at least a margin."""

    other: str
    figure: str
    margin: float = 0.0


GOALS = (
    Goal("direct", "ssim_box", 0.08), Goal("direct-skips", "ssim_box", 0.06), Goal("direct-proxy", "ssim_box"),
    Goal("direct-proxy", "sharpness_box"), Goal("v2v", "ssim_box"), Goal("v2v", "frechet_random"), Goal("v2v", "fid"),
)  # fmt: skip
WORDS = {"ssim_box": "SSIM in the box", "sharpness_box": "sharpness (distance from the truth's 1)",
         "frechet_random": "the Fréchet distance over random features", "fid": "FID"}  # fmt: skip


def carve(dataset: Path, folder: Path) -> Path:
    """A dataset for choosing learning rates, made from the train rows and train cameras alone.

    The shortest training clip becomes the validation split and the first train camera the held-out one.
    """
    if (folder / "joints.npz").exists():
        source = next((folder / "images").iterdir()).resolve().parent.parent
        if source != dataset.resolve():  # rates picked on one dataset must not pass for another's
            raise SystemExit(f"{folder} was carved from {source}; delete it, or give --work.")
        return folder
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "images").mkdir(parents=True)
    cameras = json.loads((dataset / "cameras.json").read_text("utf-8"))
    indices = list(importlib.import_module(f"{PACKAGE}.training.dataset").read_dataset(dataset).train_cameras)
    if len(indices) < 2:
        raise SystemExit(f"{dataset} has one train camera alone; choosing rates needs two. Give --rates FILE.")
    kept = [cameras["cameras"][i] for i in indices]
    for camera in kept:
        link = temporary / "images" / camera["name"]
        link.symlink_to((dataset / "images" / camera["name"]).resolve(), target_is_directory=True)
    names = [camera["name"] for camera in kept]
    own = {"cameras": kept, "train_cameras": names[1:], "heldout_cameras": names[:1]}
    (temporary / "cameras.json").write_text(json.dumps(own), "utf-8")
    if (dataset / "frames.npz").exists():
        with np.load(dataset / "frames.npz", allow_pickle=False) as data:
            np.savez(temporary / "frames.npz", **{key: data[key][:, indices] for key in data})
    with np.load(dataset / "joints.npz", allow_pickle=False) as data:
        arrays = {key: data[key] for key in data}
    train = arrays["split"] == "train"
    clips, counts = np.unique(arrays["clip"][train], return_counts=True)
    if len(clips) < 2:
        raise SystemExit(f"{dataset} has one training clip alone; choosing rates needs two. Give --rates FILE.")
    carved = train & (arrays["clip"] == clips[counts.argmin()])
    arrays["split"] = np.where(carved, VALIDATION, np.where(train, "train", "unused"))
    np.savez(temporary / "joints.npz", **arrays)
    temporary.rename(folder)
    return folder


def pick_rates(runner: Runner, options: argparse.Namespace) -> dict[str, float]:
    """The learning rate of each method: given (--rates), or the best of its short runs, where those are finished."""
    given: dict[str, float] = json.loads(options.rates.read_text("utf-8")) if options.rates else {}
    wanted = [name for name in METHODS if METHODS[name].random and name not in given]
    if not wanted:
        return given
    test = {"": Test(carve(options.dataset, options.work / "carved"), ("--cameras", "heldout", "--split", VALIDATION))}

    def run(name: str, rate: float) -> Run:
        flags = (*METHODS[name].options, "--lr", f"{rate:g}", "--cpu-minutes", f"{options.tune_minutes:g}",
                 "--size", str(options.size), "--seed", "0", *COMMON)  # fmt: skip
        return Run(f"tune_{name}_{rate:g}", options.work / "carved", flags, test)

    tuning = {(name, rate): run(name, rate) for name in wanted for rate in options.candidates}
    if not options.table:
        runner.do(run for (name, _), run in tuning.items() if name in options.only)
    scores = {key: runner.figures(run) for key, run in tuning.items()}
    picked = dict(given)
    for name in wanted:
        known = {rate: result["all"]["ssim_box"] for rate in options.candidates if (result := scores[name, rate])}
        if len(known) == len(options.candidates):
            picked[name] = max(known, key=lambda rate: known[rate])
    if picked:
        (options.work / "rates.json").write_text(json.dumps(picked, indent=1) + "\n", "utf-8")
    return picked


def planned(options: argparse.Namespace, rates: Mapping[str, float]) -> dict[tuple[str, int], Run]:
    """The final runs of all methods whose rate is known, by method and seed; the same seed of all methods together."""
    tests, runs = unseen(options.dataset), {}
    for seed in SEEDS:
        for name, method in METHODS.items():
            if (name in rates) if method.random else seed == SEEDS[0]:
                rate = ("--lr", f"{rates[name]:g}") if method.random else ()
                flags = (*method.options, *rate, "--cpu-minutes", f"{options.minutes:g}", "--size", str(options.size),
                         "--seed", str(seed), *COMMON)  # fmt: skip
                runs[name, seed] = Run(f"final_{name}_seed{seed}", options.dataset, flags, tests)
    return runs


def goals(groups: Mapping[str, Sequence[Means]]) -> str:
    """A line for each goal: reached or short, and by how much."""
    lines = []
    for goal in GOALS:
        own, other = groups.get("textured-proxy", ()), groups.get(goal.other, ())
        what = f"ahead of {METHODS[goal.other].title} in {WORDS[goal.figure]}"
        what += f" by at least {goal.margin:g}" if goal.margin else ""
        if any(means.get(goal.figure) is None for means in (*own, *other)):
            continue  # not measured here; the page says so
        if not own or not other:
            lines.append(f"- open: {what} (not run yet)")
            continue
        lead = off(mean(other, goal.figure), goal.figure) - off(mean(own, goal.figure), goal.figure)
        verdict = "**reached**" if lead >= goal.margin and lead > 0 else "**short**"
        rest = f", {abs(lead - goal.margin):.4f} {'over' if lead >= goal.margin else 'short'}" if goal.margin else ""
        lines.append(f"- {verdict}: {what}: {lead:+.4f}{rest}")
    return "\n".join(lines)


def page(options: argparse.Namespace, groups: Mapping[str, Sequence[Means]],
         near: Mapping[str, Sequence[Means]], rates: Mapping[str, float],
         machines: Sequence[str]) -> str:  # fmt: skip
    """The page of results. groups: runs by method; near: the same on motion near what was trained on, where there is
    any."""
    titles = {METHODS[name].title: name for name in groups}

    def rate(title: str) -> str:
        name = titles[title]
        edge = METHODS[name].random and not options.rates and rates[name] in (min(options.candidates),
                                                                              max(options.candidates))  # fmt: skip
        return (f"{rates[name]:g}" + " (edge)" * edge) if METHODS[name].random else "-"

    missing = [f"{METHODS[name].title}: {count}" for name in METHODS if (count := lacking(name, groups))]
    spread = "means over seeds ± their sample deviation" if any(len(g) > 1 for g in groups.values()) else "one seed"
    tried = ", ".join(f"{candidate:g}" for candidate in options.candidates)
    short = "short runs" if options.rates else f"runs of {options.tune_minutes:g} CPU minutes with {tried},"
    shown = {METHODS[name].title: group for name, group in groups.items()}
    parts = [
        f"# Quality on {options.dataset.resolve().name}",
        f"CPU minutes {options.minutes:g} for each run, one thread; network {options.size}x{options.size // 2}; the "
        "same narrow backbone (v2v's has a second scale, and discriminators beside it), crops, augmentation, optimiser "
        "and image loss, which for want of VGG's weights compares colours, gradients and structure at several scales; "
        f"{spread} (static: one run, as nothing in it is random). Held-out cameras × held-out motion (split "
        "test_far): of neither has training, or the choice of learning rates, seen anything. Fitting the proxy and "
        "averaging textures is paid from the minutes.",
        *([f"Not there yet: {'; '.join(missing)}."] if missing else []),
        figures_table(shown, {"seeds": lambda title: str(len(shown[title])), "lr": rate}),
        f"## Goals\n\n{goals(groups)}",
        *([f"## On motion near what was trained on\n\nThe same avatars, by the held-out cameras, in the unseen ends of "
           f"films whose beginnings are trained on (split {NEAR}).",
           figures_table({METHODS[name].title: group for name, group in near.items()}, {}),
           f"The same goals there:\n\n{goals(near)}"] if near else []),
        f"## How to read it\n\n{meanings(groups.values(), machines)}\n- Learning rates: the best SSIM in the box of "
        f"{short} on a clip and a camera kept from training.\n- [Every frame of every run](quality_frames.csv), "
        "of split test_far."
        + unknowable(options.results, options.dataset.name),
        f"![truth, {', '.join(shown)}](quality.jpg)",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def lacking(name: str, groups: Mapping[str, Sequence[Means]]) -> str:
    """How many runs of a method are not finished, in words; '' when none."""
    wanted = len(SEEDS) if METHODS[name].random else 1
    there = len(groups.get(name, ()))
    return "" if there == wanted else f"{wanted - there} of {wanted} runs"


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--only", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="methods to run now")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS, help="seeds to run now")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table from what is finished")
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes of each final run (default: 15)")
    parser.add_argument("--tune-minutes", type=float, default=3.0, help="those of each run that picks a rate (3)")
    parser.add_argument("--candidates", nargs="+", type=float, default=(1e-3, 2e-3, 4e-3), help="rates to pick from")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="rates picked before (WORK/rates.json)")
    parser.add_argument("--size", type=int, default=192, help="height of the network's picture (default: 192, as high "
                        "as the person)")  # fmt: skip
    add_options(parser, "quality")
    options = parser.parse_args()
    if options.rates and not options.rates.is_file():
        parser.error(f"there is no file {options.rates} of learning rates")
    options.dataset = options.dataset.resolve()
    options.results.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    runner = Runner(options.work, options.jobs)
    rates = pick_rates(runner, options)
    final = planned(options, rates)
    if not options.table:
        runner.do(run for (name, seed), run in final.items() if name in options.only and seed in options.seeds)
    finished = runner.finished(final)
    write(options, runner, {key: final[key] for key in finished}, finished, rates)
    if runner.failed:
        raise SystemExit("\n".join(f"{name}: {sentence}" for name, sentence in runner.failed.items()))


def by_method(results: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, list[Means]]:
    """The means of all runs of each method, in the table's order. results: by method and seed."""
    groups = {name: [r["all"] for (own, _), r in results.items() if own == name] for name in METHODS}
    return {name: group for name, group in groups.items() if group}


def write(options: argparse.Namespace, runner: Runner, runs: Mapping[tuple[str, int], Run],
          results: Mapping[tuple[str, int], Mapping[str, Any]], rates: Mapping[str, float]) -> None:  # fmt: skip
    """All files of results, from the runs that are finished."""
    if not results:
        print("Nothing is finished yet.")
        return
    near = runner.finished(runs, NEAR)
    text = page(options, by_method(results), by_method(near), rates, runner.machines(runs.values()))
    (options.results / "quality.md").write_text(text, "utf-8")
    own, beside = ({f"{name} seed {seed}": r["all"] for (name, seed), r in some.items()} for some in (results, near))
    report = {"minutes": options.minutes, "size": options.size, "rates": rates, "results": own, NEAR: beside}
    (options.results / "quality.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    tables = [((name, seed), runner.path(run, ".csv")) for (name, seed), run in runs.items()]
    write_frames(options.results / "quality_frames.csv", ("method", "seed"), tables)
    pictures = {name: runner.path(run, ".pictures") for (name, seed), run in runs.items() if seed == SEEDS[0]}
    strip({name: pictures[name] for name in METHODS if name in pictures}, options.results / "quality.jpg")
    print(text)


if __name__ == "__main__":
    main()
