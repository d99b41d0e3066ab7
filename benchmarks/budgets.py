#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How likeness grows with time, and after how long one method passes another.

    python benchmarks/budgets.py DATASET                                     # textured until it beats direct
    python benchmarks/budgets.py DATASET --name budgets_paper --methods textured-paper direct    # pre-trained instead
    python benchmarks/budgets.py DATASET --name budgets_one_camera --cameras cam00    # from a single film
    python benchmarks/budgets.py DATASET --name long_run --methods textured-proxy --minutes 240 --threads 2 --jobs 1
    python benchmarks/budgets.py DATASET_512 --name gpu --methods textured-proxy direct --size 512 --skips --minutes 8 \
        --device cuda --jobs 1                                               # minutes of the clock, one run at a time

A learning rate that falls to the end belongs to its budget, so a run that is stopped early, or drawn out, is no fair
measure of another time: every figure here is of a run of its own, with the whole schedule in that many CPU minutes.
With two methods (or more) the budgets are tried from the shortest on, all methods side by side, until the first method
is ahead of the second in SSIM in the box; then it ends, unless --all is given. Both are the paper's own networks in
what they are given: no proxy as input, no skip connections (--skips gives them to both). `textured` learns as `train`
has it by default, guided beside the pictures; `textured-paper` is pre-trained before them, as in the paper.
With --cameras they learn from those alone, as the paper does from a single video; the held-out cameras still judge.

All is scored on motion near what was trained on too (test_near), and it is told where the first method passes there.
With one method it is the long run: two hours on two cores. On a GPU minutes are the clock's. Writes results/NAME.md,
NAME.json, NAME_frames.csv and NAME.jpg, and beside each avatar in --work its curves (log.csv, preview.png).
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from run_tables import FIGURES, figures_table, markdown, meanings, strip, unknowable, write_frames
from training_runs import NEAR, Run, Runner, add_options, unseen

#: Options of `train` by the names that they have here.
METHODS = {
    "textured": ("--method", "textured"),
    "textured-paper": ("--method", "textured", "--pretrain", "0.3", "--guide", "0"),
    **{name: ("--method", name) for name in ("direct", "textured-proxy", "direct-proxy", "v2v")},
}
#: quality.py's names, where it has others.
RATES = {"textured": "textured-guided"}
#: What the long run is to reach.
AIM = {"psnr_box": 23.0, "ssim_box": 0.9}
Key = tuple[float, str]


def rates_of(options: argparse.Namespace) -> dict[str, float]:
    """The learning rate of each method."""
    known = json.loads(options.rates.read_text("utf-8")) if options.rates else {}
    return {method: float(known.get(method, known.get(RATES.get(method), options.lr))) for method in options.methods}


def plan(options: argparse.Namespace) -> dict[Key, Run]:
    """Every run, by minutes and method, the shortest first."""
    rates = rates_of(options)
    tests, runs = unseen(options.dataset), {}
    for minutes in sorted(options.minutes):
        for method in options.methods:
            flags = (*METHODS[method], "--skips" if options.skips else "--no-skips", "--wide" if options.wide else
                     "--no-wide", "--size", str(options.size), "--lr", f"{rates[method]:g}",
                     "--seed", str(options.seed), "--image-loss", "fallback", "--refine", f"{options.refine:g}",
                     *(("--cameras", *options.cameras) if options.cameras else ()),
                     *budget(minutes, options.device))  # fmt: skip
            runs[minutes, method] = Run(f"{method}_{minutes:g}", options.dataset, flags, tests)
    return runs


def budget(minutes: float, device: str) -> tuple[str, str]:
    """Options of `train` for a budget: CPU time, in which waiting does not count; where a GPU computes, the clock's."""
    return ("--cpu-minutes" if device == "cpu" else "--minutes"), f"{minutes:g}"


def lead(results: Mapping[Key, Mapping[str, Any]], minutes: float, methods: Sequence[str]) -> float | None:
    """By how much the first method is ahead of the second in SSIM in the box; None where one is not finished."""
    if len(methods) < 2 or any((minutes, method) not in results for method in methods[:2]):
        return None
    first, second = (results[minutes, method]["all"]["ssim_box"] for method in methods[:2])
    return float(first - second)


def crossing(results: Mapping[Key, Mapping[str, Any]], methods: Sequence[str], unit: str) -> str:
    """After how long the first method passes the second, in words."""
    first, second = methods[:2]
    budgets = sorted({minutes for minutes, _ in results})
    leads = {minutes: value for minutes in budgets if (value := lead(results, minutes, methods)) is not None}
    rows = [[f"{minutes:g}", f"{value:+.4f}"] for minutes, value in leads.items()]
    text = markdown([f"{unit} each", f"{first} ahead of {second} (SSIM box)"], rows)
    ahead = [minutes for minutes, value in leads.items() if value > 0]
    if ahead:
        before = [minutes for minutes in leads if minutes < ahead[0]]
        since = f"more than {before[-1]:g} and at most " if before else "at most "
        return f"{text}\n\n**{first} passes {second} at equal time after {since}{ahead[0]:g} {unit}.**"
    return f"{text}\n\n**{first} has not passed {second} in {max(leads, default=0):g} {unit}.**"


def on_the_way(log: Path, unit: str) -> str:
    """What the preview's few views scored as a run went on, as a table."""
    if not log.exists():
        return ""
    with log.open(newline="", encoding="utf-8") as file:
        looks = [row for row in csv.DictReader(file) if row.get("preview_psnr")]
    rows = [[row["step"], f"{float(row['seconds']) / 60:.1f}", row["preview_psnr"][:5]] for row in looks]
    return markdown(["step", unit, "PSNR of the preview's views (dB)"], rows)


def aim(means: Mapping[str, float]) -> str:
    """Has the long run reached its aim? In words."""
    lines = []
    for name, wanted in AIM.items():
        over = means[name] - wanted
        verdict = "**reached**" if over >= 0 else "**short**"
        lines.append(f"- {verdict}: {FIGURES[name].title} of at least {wanted:g}: {over:+.{FIGURES[name].digits}f}")
    return "\n".join(lines)


def taught(results: Mapping[Key, Mapping[str, Any]]) -> str:
    """How networks that predict outright learnt where surfaces lie, as their avatars tell; '' where none does."""
    ways: dict[str, set[str]] = {}
    for (_, method), result in results.items():
        config = result.get("made", {}).get("config", {})
        if config.get("method") == "textured":
            shares = {"pre-trained": config.get("pretrain", 0), "guided": config.get("guide", 0)}
            way = " and ".join(f"{name} for {share:g}" for name, share in shares.items() if share)
            ways.setdefault(method, set()).add(f"{way} of the time" if way else "told nothing of surfaces")
    return "".join(f" {method}: {'; or '.join(sorted(own))}." for method, own in ways.items())


def page(options: argparse.Namespace, runner: Runner, runs: Mapping[Key, Run],
         results: Mapping[Key, Mapping[str, Any]], near: Mapping[Key, Mapping[str, Any]]) -> str:  # fmt: skip
    """The page of results. near: those on motion near what was trained on, where there is any."""

    def rows(results: Mapping[Key, Mapping[str, Any]]) -> dict[str, list[Mapping[str, float | None]]]:
        return {f"{method}, {minutes:g} minutes": [r["all"]] for (minutes, method), r in results.items()}

    groups = rows(results)
    several, on_cpu = len(options.methods) > 1, options.device == "cpu"
    unit = "CPU minutes" if on_cpu else "minutes"
    rates = ", ".join(f"{method} {rate:g}" for method, rate in rates_of(options).items())
    seen = f" Trained on {' and '.join(options.cameras)} alone." if options.cameras else ""
    spent = "of CPU time, which all threads spend together" if on_cpu else f"by the clock, on {options.device}"
    parts = [
        f"# {'How likeness grows with time' if several else 'A long run'} on {options.dataset.name}",
        f"Network {options.size}x{options.size // 2}, {'the paper size' if options.wide else 'narrow'}, "
        f"{'with' if options.skips else 'without'} skip connections; {options.threads} "
        f"{'threads' if options.threads > 1 else 'thread'}, seed {options.seed}. Minutes are {spent}. "
        f"Every row is a run of its own with its whole schedule. Learning rates: {rates}.{taught(results)}{seen} "
        "Held-out cameras × held-out motion (split test_far).",
        figures_table(groups, {}),
        *([crossing(results, options.methods, unit)] if several else []),
    ]
    if near:
        parts += [f"The same on motion near what was trained on (split {NEAR}), by the same cameras:",
                  figures_table(rows(near), {}),
                  *([crossing(near, options.methods, unit)] if several else [])]  # fmt: skip
    if several:
        parts.append("One seed: a lead that is smaller than what seeds differ by ([quality.md](quality.md)) may turn.")
    for key in [] if several else results:
        table = on_the_way(runner.path(runs[key], ".avatar.train") / "log.csv", unit)
        parts += [aim(results[key]["all"]), f"On the way ({key[0]:g} minutes), by the preview's three views, of which "
                  "the first is trained on:", table]  # fmt: skip
    words = meanings(groups.values(), runner.machines(runs.values()))
    words += unknowable(options.results, options.dataset.name)
    parts += [f"## How to read it\n\n{words}\n- [Every frame]({options.name}_frames.csv).",
              f"![truth and renders]({options.name}.jpg)"]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=("textured", "direct"), help="the "
                        "first is to pass the second (default: textured direct)")  # fmt: skip
    parser.add_argument("--minutes", nargs="+", type=float, default=(15, 30, 60, 120, 240), help="budgets, CPU minutes")
    parser.add_argument("--cameras", nargs="+", metavar="NAME", help="train on these alone (default: all that the "
                        "dataset trains on)")  # fmt: skip
    parser.add_argument("--all", action="store_true", help="try all budgets, also after the first has passed")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="learning rates by method, as quality.py picks them")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate of others (default: 0.002)")
    parser.add_argument("--size", type=int, default=None, help="height of the network's picture (default: 256 for one "
                        "method, 192 for several)")  # fmt: skip
    parser.add_argument("--skips", action=argparse.BooleanOptionalAction, default=None, help="default: for one method")
    parser.add_argument("--wide", action="store_true", help="the paper's number of channels")
    parser.add_argument("--refine", type=float, default=0.0, help="as train's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--device", default="cpu", help="as train's (default: cpu)")
    parser.add_argument("--name", default="budgets", help="of the results and the folder in --work")
    add_options(parser, "budgets")
    options = parser.parse_args()
    if options.rates and not options.rates.is_file():
        parser.error(f"there is no file {options.rates} of learning rates")
    if options.device != "cpu" and options.jobs > 1:
        parser.error("runs that share a GPU slow each other: give --jobs 1")
    options.dataset, several = options.dataset.resolve(), len(options.methods) > 1
    options.size = options.size or (192 if several else 256)
    options.skips = not several if options.skips is None else options.skips
    options.results.mkdir(parents=True, exist_ok=True)
    runner, runs = Runner(options.work / options.name, options.jobs, options.threads, options.device), plan(options)
    results: dict[Key, Mapping[str, Any]] = {}
    for minutes in sorted(options.minutes):
        runner.do(run for (own, _), run in runs.items() if own == minutes)
        some = runner.finished({key: run for key, run in runs.items() if key[0] == minutes})
        results |= some
        if results:
            write(options, runner, {key: runs[key] for key in results}, results)
        if runner.failed:
            raise SystemExit("\n".join(f"{name}: {sentence}" for name, sentence in runner.failed.items()))
        if (lead(results, minutes, options.methods) or 0) > 0 and not options.all:
            break


def write(options: argparse.Namespace, runner: Runner, runs: Mapping[Key, Run],
          results: Mapping[Key, Mapping[str, Any]]) -> None:  # fmt: skip
    """All files of results, from what is finished."""
    near = runner.finished(runs, NEAR)
    text = page(options, runner, runs, results, near)
    (options.results / f"{options.name}.md").write_text(text, "utf-8")
    report = {f"{method} {minutes:g}": r["all"] for (minutes, method), r in results.items()}
    report |= {f"{method} {minutes:g} {NEAR}": r["all"] for (minutes, method), r in near.items()}
    (options.results / f"{options.name}.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    tables = [((method, f"{minutes:g}"), runner.path(run, ".csv")) for (minutes, method), run in runs.items()]
    write_frames(options.results / f"{options.name}_frames.csv", ("method", "minutes"), tables)
    longest = max(minutes for minutes, _ in runs)
    folders = {method: runner.path(run, ".pictures") for (m, method), run in runs.items() if m == longest}
    strip(folders, options.results / f"{options.name}.jpg")
    print(text)


if __name__ == "__main__":
    main()
