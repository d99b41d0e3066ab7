#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""3D from one camera, two ways: the fit over the clip against the paper's perceptron, on the rendered human's joints.

    python benchmarks/lift.py DATASET MOTION… [--cameras cam00 cam02 cam04 cam06] [--steps 10000] [--lift FILE]
                              [--real FOLDER]

DATASET is `rendered_human`, whose true joints are known; MOTION are BVH files of other takes, the only motion that the
perceptron learns from. Each of the dataset's takes, seen by each camera, is one film from one camera, with its true
lens, height of the person and times. 2D poses are the embedded pose model's (MediaPipe), and the true joints projected,
with noise and gaps as a detector has them. The error is the mean distance of the 25 body joints in the camera's axes,
MidHip aligned, over the frames in which a way gives them. FOLDER is `real_multiview`, a real person before calibrated
cameras: what all cameras together say is the truth for each alone. Writes results/lift.json and lift.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__

BODY, HIP = 25, 8
#: The pictures are enlarged, as 256 pixels are fewer than any film has.
SIZE = 512
#: Of the projected joints, pixels of the enlarged picture (the person is 400 high): an error that stays through a film,
#: one that changes from frame to frame; and the share of joints that are missing.
STEADY, SHAKY, MISSING = 2.5, 3.0, 0.03


def module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.training.footage.{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("motions", type=Path, nargs="+")
    parser.add_argument("--cameras", nargs="+", default=["cam00", "cam02", "cam04", "cam06"])
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--lift", type=Path, help="a perceptron that these motions made, instead of training one")
    parser.add_argument("--real", type=Path, help="folder with videos and Calib.toml")
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "lift", help="kept between runs")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    lifter = perceptron(options)
    films = list(all_films(options))
    ways = {
        "clip fit": fit,
        "pose model's own guess, unfitted": raw_guess,
        "perceptron": lambda film, found: lifted_only(film, found, lifter),
        "perceptron, then clip fit": lambda film, found: fit(film, replace(found, world=lift(found, lifter))),
    }
    tests = [
        ("rendered human, MediaPipe", films, "found"),
        ("rendered human, true joints with noise", films, "projected"),
    ]
    if options.real:
        tests.append(("real person, MediaPipe", real_films(options), "found"))
    rows = []
    for source, seen, choose in tests:
        for name, way in ways.items():
            if choose == "projected" and name in list(ways)[:2]:
                continue  # without the pose model there is no guess in 3D to fit
            rows.append(measure(seen, choose, way) | {"poses": source, "way": name})
            print(rows[-1], flush=True)
    result = {
        "what": "mean per joint error, mm, 25 body joints, MidHip aligned, camera axes",
        "trained_on": [path.stem for path in options.motions],
        "trained_frames": lifter.about["frames"],
        "steps": lifter.about["steps"],
        "held_out_error_mm": lifter.about["error_mm"],
        "tested_on": sorted({film["clip"] for film in films}),
        "cameras": options.cameras,
        "rows": rows,
    }
    (options.results / "lift.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.results / "lift.md").write_text(table(result))


def perceptron(options: argparse.Namespace) -> Any:
    path = options.lift or options.work / "trained.lift"
    if not path.exists():
        train = module("lift_train")
        motions = [module("readers.poses").read_motion(motion) for motion in options.motions]
        module("lift").save_lift(path, train.train_lift(motions, train.LiftOptions(steps=options.steps)))
    return module("lift").load_lift(path)


def lift(found: Any, lifter: Any) -> np.ndarray:
    return np.asarray(module("lift").lift(found, lifter))


def all_films(options: argparse.Namespace) -> Any:
    """Every take of the dataset before every camera, with the truth and both kinds of 2D poses."""
    data = np.load(options.dataset / "joints.npz")
    cameras = {c.name: c for c in module("readers.calibration").read_calibration(options.dataset / "cameras.json")}
    random = np.random.default_rng(0)
    for take in sorted(set(zip(data["split"].tolist(), data["clip"].tolist(), strict=True))):
        rows = np.flatnonzero((data["split"] == take[0]) & (data["clip"] == take[1]))
        order = rows[np.argsort(data["src_frame"][rows])]
        times = data["src_frame"][order] / 60.0
        for name in options.cameras:
            camera = cameras[name].camera
            camera = camera.crop(0, 0, camera.width, camera.height, SIZE, SIZE)
            truth = data["joints"][order, :BODY].astype(np.float64)
            film = {"split": take[0], "clip": take[1], "camera": name, "truth": camera.to_camera(truth)}
            lens = replace(camera, R=np.eye(3), t=np.zeros(3))
            film["lens"] = module("records").CalibratedCamera(name, lens)
            full = np.zeros((len(order), 137, 3))
            full[:, :BODY] = truth
            known = np.repeat((np.arange(137) < BODY)[None].astype(np.float32), len(order), 0)
            film["height"] = module("bones").body_height(full, known)
            found = detect(options, take, name, order)
            film["found"] = found and replace(found, times=times - times[0])
            film["projected"] = project(camera, full, known, times - times[0], random)
            yield film


def real_films(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each camera of a calibrated capture as a film of its own; NaN where all cameras together give no joint."""
    cameras = module("readers.calibration").read_calibration(options.real / "Calib.toml")
    found = []
    for camera in cameras:
        source = module("video").open_source(options.real / "videos" / f"{camera.name}.mp4")
        found.append(module("pose").detect(source, options.work / f"real_{camera.name}"))
    capture = module("multiview").reconstruct(found, cameras)
    joints = np.where(capture.motion.confidence[..., None] > 0, capture.motion.joints, np.nan)[:, :BODY]
    films = []
    for i, camera in enumerate(capture.cameras):
        rows = capture.frames[:, i]
        truth = np.full((len(found[i]), BODY, 3), np.nan)
        truth[rows[rows >= 0]] = camera.camera.to_camera(joints)[rows >= 0]
        lens = replace(camera, camera=replace(camera.camera, R=np.eye(3), t=np.zeros(3)), up="")
        height = module("bones").body_height(capture.motion.joints, capture.motion.confidence)
        films.append(
            {"split": camera.name, "clip": "real", "truth": truth, "lens": lens, "height": height, "found": found[i]}
        )
    return films


def detect(options: argparse.Namespace, take: tuple[str, str], camera: str, rows: np.ndarray) -> Any:
    """The embedded pose model over the pictures on grey; None where it finds nobody in the whole take."""
    folder = options.work / f"{take[0]}_{take[1]}_{camera}"
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        path = pictures / f"{i:05d}.png"
        if not path.exists():
            rgba = cv2.imread(str(options.dataset / "images" / camera / f"{row:05d}.png"), cv2.IMREAD_UNCHANGED)
            alpha = rgba[..., 3:] / 255.0
            grey = (rgba[..., :3] * alpha + 128 * (1 - alpha)).round().astype(np.uint8)
            cv2.imwrite(str(path), cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))
    source = module("video").open_source(pictures)
    try:
        return module("pose").detect(source, folder / "pose")
    except Exception as error:
        if getattr(error, "code", "") != "footage-nobody":
            raise
        return None


def project(camera: Any, joints: np.ndarray, known: np.ndarray, times: np.ndarray, random: np.random.Generator) -> Any:
    """Detections of the true joints with noise."""
    pixels, _ = camera.project(joints)
    pixels = np.nan_to_num(pixels) + STEADY * random.standard_normal((1, 137, 2))
    pixels += SHAKY * random.standard_normal(pixels.shape)
    there = known * (random.random(known.shape) >= MISSING)
    there[:, [1, 2, 5, 8, 9, 12]] = known[:, [1, 2, 5, 8, 9, 12]]  # a frame without a trunk is nobody's frame
    points = np.where(there[..., None] > 0, pixels, 0).astype(np.float32)
    confidence = (0.9 * there).astype(np.float32)
    return module("records").Detections(points, confidence, times, SIZE, SIZE, "projected")


def fit(film: dict[str, Any], found: Any) -> np.ndarray:
    """The clip fit's body (T, 25, 3) in camera axes, NaN where it gives none."""
    monocular = module("monocular")
    result = monocular.reconstruct_single(found, film["lens"], monocular.MonocularOptions(height=film["height"]))
    body = result.cameras[0].camera.to_camera(result.motion.joints[:, :BODY])
    return np.where(result.motion.confidence[:, :BODY, None] > 0, body, np.nan)


def raw_guess(film: dict[str, Any], found: Any) -> np.ndarray:
    """The guess in 3D that the detections bring, turned to the camera's axes and brought to the person's height."""
    rays = module("optics").to_rays(found.points, film["lens"])
    body = module("monocular")._turned_to_camera(np.asarray(found.world, np.float64), rays)
    known = (np.isfinite(body).all(-1) & (found.confidence > 0)).astype(np.float32)
    size = module("bones").body_height(np.nan_to_num(body), known)
    return np.where(known[..., None] > 0, body * film["height"] / size, np.nan)[:, :BODY]


def lifted_only(film: dict[str, Any], found: Any, lifter: Any) -> np.ndarray:
    return raw_guess(film, replace(found, world=lift(found, lifter)))


def measure(films: list[dict[str, Any]], choose: str, way: Callable[[Any, Any], np.ndarray]) -> dict[str, Any]:
    """Errors in mm, over all takes and by kind of take, and the share of joints given."""
    errors: dict[str, list[np.ndarray]] = {}
    for film in films:
        truth = film["truth"]
        body = np.full_like(truth, np.nan) if film[choose] is None else way(film, film[choose])
        off = (body - body[:, HIP, None]) - (truth - truth[:, HIP, None])
        errors.setdefault(film["split"], []).append(np.linalg.norm(off, axis=-1) * 1000)
    everything = np.concatenate([e for group in errors.values() for e in group])
    return {
        "error_mm": round(float(np.nanmean(everything)), 1),
        "median_mm": round(float(np.nanmedian(everything)), 1),
        "given": round(float(np.isfinite(everything).mean()), 3),
        "by_split": {name: round(float(np.nanmean(np.concatenate(group))), 1) for name, group in errors.items()},
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        "# 3D from one camera: clip fit and perceptron",
        "",
        f"Mean error per joint, {result['what'].split(', ', 1)[1]}. Perceptron trained on "
        f"{', '.join(result['trained_on'])} ({result['trained_frames']} frames); tested on the rendered human's "
        f"{', '.join(result['tested_on'])}, {len(result['cameras'])} cameras. Made by `benchmarks/lift.py`.",
        "",
        "| 2D poses | way | mean | median | joints given |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        figures = f"{row['error_mm']:.0f} mm | {row['median_mm']:.0f} mm | {row['given']:.0%}"
        lines.append(f"| {row['poses']} | {row['way']} | {figures} |")
    return "\n".join([*lines, "", verdict(result["rows"])]) + "\n"


def verdict(rows: list[dict[str, Any]]) -> str:
    """Which of the two ways won on the pose model's detections."""
    sentences = []
    for poses in dict.fromkeys(row["poses"] for row in rows):
        mean = {row["way"]: row["error_mm"] for row in rows if row["poses"] == poses}
        if "clip fit" in mean:
            best = min(("clip fit", "perceptron"), key=lambda way: mean[way])
            sentences.append(f"{poses}: the {best} won ({mean['clip fit']:.0f} against {mean['perceptron']:.0f} mm).")
    return "Clip fit against perceptron. " + " ".join(sentences)


if __name__ == "__main__":
    main()
