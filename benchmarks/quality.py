#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Likeness against the baselines: textured-proxy, the paper's Direct with and without skips, and no network at all.

    python benchmarks/quality.py DATASET [--minutes 15] [--tune-minutes 3] [--jobs 2]

Every method gets the same CPU minutes on one thread, crops, augmentation, optimiser and backbone. Its learning rate is
picked
from the same three by short runs on a validation set carved out of the training data: one training clip seen by one
training camera, neither of which those runs train on, and the held-out cameras are not even in the folder that they
read. The figures are of the held-out cameras and the unseen dance (split test_far). Finished runs are kept in --work
and not done again; interrupted ones resume. Writes results/quality.json, quality.md and quality.png.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__

RATES = (5e-4, 1e-3, 2e-3)
METHODS: dict[str, tuple[str, ...]] = {
    "direct (the paper's, no skips)": ("--method", "direct", "--no-skips"),
    "direct with skips": ("--method", "direct", "--skips"),
    "static (no network)": ("--method", "static"),
    "textured-proxy": ("--method", "textured-proxy", "--skips"),
}
#: What the pictures show, left to right after the truth.
SHOWN = ("direct (the paper's, no skips)", "static (no network)", "textured-proxy")
VALIDATION = "validation"
METRICS = ("ssim_box", "psnr_box", "ssim", "psnr", "mask_iou", "sharpness_box")


@dataclass(frozen=True)
class Run:
    """One training run: its name in the work folder, the data, the method's options, learning rate and CPU minutes."""

    name: str
    data: Path
    options: tuple[str, ...]
    rate: float
    minutes: float
    evaluate: tuple[str, ...]


def do(run: Run, work: Path, common: tuple[str, ...]) -> dict[str, Any]:
    """Train and evaluate, unless that is done already; returns what `evaluate --json` wrote."""
    avatar, result = work / f"{run.name}.avatar", work / f"{run.name}.json"
    if not result.exists():
        budget = ("--cpu-minutes", str(run.minutes))
        command(
            "train",
            str(run.data),
            "-o",
            str(avatar),
            "--lr",
            str(run.rate),
            *budget,
            *run.options,
            *common,
            log=work / run.name,
        )
        command("evaluate", str(avatar), str(run.data), *run.evaluate, "--json", str(result), log=work / run.name)
    loaded: dict[str, Any] = json.loads(result.read_text("utf-8"))
    print(f"{run.name}: SSIM box {loaded['all']['ssim_box']:.4f}, PSNR box {loaded['all']['psnr_box']:.2f}", flush=True)
    return loaded


def command(*arguments: str, log: Path) -> None:
    """Run a `neural-avatar` command in a process of its own on one thread, its output appended to a log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    path = log.with_suffix(".log")
    with path.open("ab") as file:
        done = subprocess.run(
            [sys.executable, str(ROOT), *arguments], stdout=file, stderr=file, env=environment, check=False
        )
    if done.returncode:
        raise SystemExit(f"`neural-avatar {' '.join(arguments)}` ended with {done.returncode}; see {path}")


def carve(dataset: Path, folder: Path) -> Path:
    """A dataset for choosing learning rates, made from the train rows and train cameras alone.

    The shortest training clip becomes the validation split and the first train camera the held-out one.
    """
    if (folder / "joints.npz").exists():
        return folder
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "images").mkdir(parents=True)
    cameras = json.loads((dataset / "cameras.json").read_text("utf-8"))
    kept = [cameras["cameras"][i] for i in cameras["train_cameras"]]
    for camera in kept:
        link = temporary / "images" / camera["name"]
        link.symlink_to((dataset / "images" / camera["name"]).resolve(), target_is_directory=True)
    names = [camera["name"] for camera in kept]
    own = {"cameras": kept, "train_cameras": names[1:], "heldout_cameras": names[:1]}
    (temporary / "cameras.json").write_text(json.dumps(own), "utf-8")
    with np.load(dataset / "joints.npz", allow_pickle=False) as data:
        arrays = {key: data[key] for key in data}
    train = arrays["split"] == "train"
    clips, counts = np.unique(arrays["clip"][train], return_counts=True)
    carved = train & (arrays["clip"] == clips[counts.argmin()])
    arrays["split"] = np.where(carved, VALIDATION, np.where(train, "train", "unused"))
    np.savez(temporary / "joints.npz", **arrays)
    temporary.rename(folder)
    return folder


def table(results: dict[str, dict[str, Any]], rates: dict[str, float]) -> str:
    """The figures as a Markdown table."""
    lines = ["| method | lr | " + " | ".join(METRICS) + " |", "|---|" + "---|" * (len(METRICS) + 1)]
    for name, result in results.items():
        cells = [f"{result['all'][m]:.2f}" if "psnr" in m else f"{result['all'][m]:.4f}" for m in METRICS]
        rate = f"{rates[name]:g}" if name in rates else "-"
        lines.append(f"| {name} | {rate} | " + " | ".join(cells) + " |")
    best = results["textured-proxy"]["all"]
    lines += ["", "textured-proxy ahead by:", ""]
    for name, result in results.items():
        if name != "textured-proxy":
            ssim, psnr = (best[m] - result["all"][m] for m in ("ssim_box", "psnr_box"))
            lines.append(f"- {name}: {ssim:+.4f} SSIM and {psnr:+.2f} dB in the box")
    return "\n".join(lines)


def picture(dataset: Path, avatars: dict[str, Path], path: Path, rows: int = 5) -> None:
    """truth | each of the avatars, cut to the person's box and doubled, for some frames of the test."""
    import cv2

    room = {
        name: importlib.import_module(f"{PACKAGE}.training.{name}")
        for name in ("dataset", "evaluate", "metrics")
    }
    load = importlib.import_module(f"{PACKAGE}.neural_backend.avatar_file").load_avatar
    data = room["dataset"].read_dataset(dataset)
    views = data.views(("test_far",), ("heldout",))
    loaded = [load(p) for p in avatars.values()]
    strips = []
    for i in np.linspace(0, len(views) - 1, rows + 2).astype(int)[1:-1]:
        truth = data.picture(views[i]).full()
        images = [truth, *(room["evaluate"].render_view(a, data, views[i]) for a in loaded)]
        box = room["metrics"].person_box(truth[..., 3], 10)
        if box is None:
            continue
        cells = [
            cv2.resize(room["metrics"].over(image, 1.0)[box], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
            for image in images
        ]
        strips.append(np.concatenate(cells, 1))
    widest = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 8), (0, widest - s.shape[1]), (0, 0)), constant_values=1.0) for s in strips]
    importlib.import_module(f"{PACKAGE}.neural_backend.png").write_png(path, np.concatenate(padded))


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes of each final run (default: 15)")
    parser.add_argument(
        "--tune-minutes", type=float, default=3.0, help="CPU minutes of each run that picks a rate (default: 3)"
    )
    parser.add_argument(
        "--size", type=int, default=192, help="height of the network's picture (default: 192, as high as the person)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "quality", help="where runs are kept")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    work: Path = options.work
    for folder in (work, options.results):
        folder.mkdir(parents=True, exist_ok=True)
    # refine is off: a picture of this size already has the footage's own resolution.
    common = ("--size", str(options.size), "--seed", str(options.seed), "--threads", "1", "--device", "cpu",
              "--image-loss", "fallback", "--refine", "0")  # fmt: skip
    carved = carve(options.dataset, work / "carved")
    trained = {name: flags for name, flags in METHODS.items() if not name.startswith("static")}

    def short(name: str) -> str:
        return name.split(" (")[0].replace(" ", "-")

    tuning = {
        (name, rate): Run(f"tune_{short(name)}_{rate:g}", carved, flags, rate, options.tune_minutes,
                          ("--cameras", "heldout", "--split", VALIDATION))
        for name, flags in trained.items() for rate in RATES
    }  # fmt: skip
    with ThreadPoolExecutor(options.jobs) as pool:
        tuned = dict(zip(tuning, pool.map(lambda run: do(run, work, common), tuning.values()), strict=True))
    rates = {name: max(RATES, key=lambda rate: tuned[name, rate]["all"]["ssim_box"]) for name in trained}
    print("Learning rates:", rates, flush=True)
    test = ("--cameras", "heldout", "--split", "test_far")
    final = {
        name: Run(f"final_{short(name)}", options.dataset, flags, rates.get(name, RATES[1]), options.minutes, test)
        for name, flags in METHODS.items()
    }
    with ThreadPoolExecutor(options.jobs) as pool:
        results = dict(zip(final, pool.map(lambda run: do(run, work, common), final.values()), strict=True))
    text = table(results, rates)
    network = f"network {options.size}x{options.size // 2}"
    about = f"CPU minutes {options.minutes:g} each, one thread; {network}; seed {options.seed}.\n\n"
    (options.results / "quality.md").write_text(
        f"# Quality on {options.dataset.resolve().name}\n\n{about}{text}\n", "utf-8"
    )
    tuning_scores = {f"{name} {rate:g}": result["all"] for (name, rate), result in tuned.items()}
    report = {"minutes": options.minutes, "size": options.size, "seed": options.seed, "rates": rates,
              "tuning": tuning_scores,
              "results": {name: result["all"] for name, result in results.items()}}  # fmt: skip
    (options.results / "quality.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    avatars = {name: work / f"{final[name].name}.avatar" for name in SHOWN}
    picture(options.dataset, avatars, options.results / "quality.png")
    print(text)


if __name__ == "__main__":
    main()
