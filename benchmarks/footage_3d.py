#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How good joints in space are: pixels and bone lengths on the real capture, millimetres on the rendered person.

    python benchmarks/footage_3d.py SHARED [--work FOLDER] [--out benchmarks/results/footage_3d.json]

SHARED holds footage/real_multiview and footage/rendered_human. FOLDER keeps the pose model's findings between runs.
The rendered person's true joints are only compared with; its pictures are put on grey, enlarged twice, and each motion
capture clip is a film of its own.

Definitions. px: distance between the projected joint and the detection in the filmed picture (the rendered person's are
512 wide), over all body joints that the pose model found with confidence over 0.5; one that has no joint in space
counts as infinite. Bones: standard deviation and 5 to 95 % range of the length over time, of the eight limb bones. mm:
mean over joints and frames of the distance after putting MidHip on MidHip ('root'), after one scale for the clip as
well ('scale'), and after one rotation as well ('turned'), which takes away a wrong tilt of the camera.
"""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__
BODY, HIP = 25, 8


def room(name: str) -> Any:
    """A module of the package, whatever its folder is called."""
    return importlib.import_module(f"{PACKAGE}.{name}")


bones, pose, records, video = (room(f"training.footage.{n}") for n in ("bones", "pose", "records", "video"))
multiview, monocular = room("training.footage.multiview"), room("training.footage.monocular")
read_calibration = room("training.footage.readers.calibration").read_calibration
Camera = room("neural_backend.interface.camera").Camera


def rounded(value: Any) -> Any:
    """Figures worth writing down."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return round(float(value), 3) if isinstance(value, (float, np.floating)) else value


def detect(path: Path, folder: Path) -> Any:
    """The pose model's findings, kept in folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return pose.detect(video.open_source(path), folder, None, lambda done, total: None)


def pixels(result: Any, films: list[Any]) -> dict[str, Any]:
    """Median reprojection error, of all cameras and of each, and the part of detections without a joint in space."""
    error, found = [], []
    for c, film in enumerate(films):
        rows = result.frames[:, c] >= 0
        found.append(film.confidence[result.frames[rows, c], :BODY] > 0.5)
        e = result.reprojection[rows, c, :BODY]
        error.append(np.where(np.isnan(e), np.inf, e)[found[-1]])
    every = np.concatenate(error)
    return {
        "median_px": float(np.median(every)),
        "p90_px": float(np.percentile(every, 90)),
        "without_joint": float(np.isinf(every).mean()),
        "cameras": {c.name: float(np.median(e)) for c, e in zip(result.cameras, error, strict=True)},
    }


def bone_figures(motion: Any) -> dict[str, Any]:
    """Median length, standard deviation and 5-95 % range (cm) of each limb bone; left against right."""
    table = bones.spreads(motion.joints, motion.confidence)
    out = {name: [100 * v for v in values] for name, values in table.items()}
    both = [(out[n][0], out["L" + n[1:].replace("-R", "-L")][0]) for n in out if n[0] == "R"]
    return {
        "bones_cm_median_sd_range": out,
        "worst_sd_cm": max(v[1] for v in out.values()),
        "worst_range_cm": max(v[2] for v in out.values()),
        "worst_sd_of_length": max(v[1] / v[0] for v in out.values()),
        "worst_left_right_cm": max(abs(a - b) for a, b in both),
    }


def distances(found: Any, truth: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
    """Millimetres of all joints known in both, under the three alignments. truth: (T, 137, 3), known: (T, 137)."""
    ok = (found.confidence[:, :BODY] > 0) & (known[:, :BODY] > 0)
    ok &= ok[:, [HIP]]
    ok[:, HIP] = False  # it is the origin
    a = (found.joints[:, :BODY] - found.joints[:, [HIP]])[ok].astype(np.float64)
    b = (truth[:, :BODY] - truth[:, [HIP]])[ok].astype(np.float64)

    def scaled(x: np.ndarray) -> np.ndarray:
        return x * (x * b).sum() / (x * x).sum()

    u, _, v = np.linalg.svd(b.T @ a)
    turned = a @ (u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v).T
    ways = {"root": a, "scale": scaled(a), "turned": scaled(turned)}
    return {name: 1000 * np.linalg.norm(x - b, axis=-1) for name, x in ways.items()}


def means(parts: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Mean millimetres over all clips."""
    return {f"{name}_mm": float(np.concatenate([p[name] for p in parts]).mean()) for name in parts[0]}


def real(shared: Path, work: Path) -> dict[str, Any]:
    """The four calibrated cameras together, and each alone against all of them."""
    folder = shared / "footage" / "real_multiview"
    cameras = read_calibration(folder / "Calib.toml")
    films = [detect(folder / "videos" / f"{c.name}.mp4", work / "real" / c.name) for c in cameras]
    begun = time.perf_counter()
    whole = multiview.reconstruct(films, cameras)
    seconds = time.perf_counter() - begun
    out: dict[str, Any] = {
        "four cameras": {
            "seconds": seconds,
            "frames": len(whole.motion),
            "offsets": whole.offsets,
            **pixels(whole, films),
            **bone_figures(whole.motion),
        }
    }
    plain = multiview.reconstruct(films, cameras, multiview.MultiviewOptions(refine=False))
    out["four cameras, extrinsics as calibrated"] = pixels(plain, films)
    for camera, film in zip(cameras, films, strict=True):
        begun = time.perf_counter()
        one = monocular.reconstruct_single(film, camera)
        out[f"{camera.name} alone"] = {
            "seconds": time.perf_counter() - begun,
            **pixels(one, [film]),
            **bone_figures(one.motion),
            **means([distances(one.motion, whole.motion.joints, whole.motion.confidence)]),
        }
    return out


def rendered(shared: Path, work: Path) -> dict[str, Any]:
    """Six cameras together, and each alone, against the true joints."""
    folder = shared / "footage" / "rendered_human"
    listed = json.loads((folder / "cameras.json").read_text(encoding="utf-8"))
    data = np.load(folder / "joints.npz")
    rows_of = {str(clip): np.nonzero(data["clip"] == clip)[0] for clip in sorted(set(data["clip"].tolist()))}
    rows_of = {clip: rows[np.argsort(data["src_frame"][rows])] for clip, rows in rows_of.items()}
    truth, known = np.zeros((len(data["clip"]), 137, 3)), np.zeros((len(data["clip"]), 137))
    truth[:, :67], known[:, :67] = data["joints"], 1
    cameras, films = [], {}
    for index in listed["train_cameras"]:
        k = listed["cameras"][index]
        camera = Camera(np.array(k["K"]), np.array(k["R"]), np.array(k["t"]), k["width"], k["height"])
        cameras.append(records.CalibratedCamera(k["name"], camera.crop(0, 0, 256, 256, 512, 512), up="z"))
        for clip, rows in rows_of.items():
            pictures = on_grey(folder / "images" / k["name"], rows, work / "grey" / k["name"] / clip)
            film = detect(pictures, work / "rendered" / k["name"] / clip)
            times = (data["src_frame"][rows] - data["src_frame"][rows[0]]) / 60.0
            films[k["name"], clip] = records.Detections(
                film.points, film.confidence, times, film.width, film.height, film.source, film.world
            )
    out: dict[str, Any] = {}
    options = multiview.MultiviewOptions(synchronise=False, refine=False)
    together, alone = [], {camera.name: [] for camera in cameras}
    per_clip, absolute = {}, []
    height = float(bones.body_height(truth, known))
    for clip, rows in rows_of.items():
        seen = [films[camera.name, clip] for camera in cameras]
        result = multiview.reconstruct(seen, cameras, options)
        together.append(distances(result.motion, truth[rows], known[rows]))
        ok = (result.motion.confidence[:, :BODY] > 0) & (known[rows][:, :BODY] > 0)
        absolute.append(1000 * np.linalg.norm(result.motion.joints[:, :BODY] - truth[rows][:, :BODY], axis=-1)[ok])
        per_clip[clip] = {"rows": len(rows), **means(together[-1:]), **pixels(result, seen)}
        for camera, film in zip(cameras, seen, strict=True):
            one = monocular.reconstruct_single(film, camera, monocular.MonocularOptions(height=height))
            alone[camera.name].append(distances(one.motion, truth[rows], known[rows]))
    unaligned = float(np.concatenate(absolute).mean())
    out["six cameras"] = {**means(together), "without_alignment_mm": unaligned, "clips": per_clip}
    for name, parts in alone.items():
        out[f"{name} alone"] = means(parts)
    out["one camera, mean of six"] = means([part for parts in alone.values() for part in parts])
    return out


def on_grey(images: Path, rows: np.ndarray, folder: Path) -> Path:
    """Pictures of a clip over mid-grey, enlarged twice, numbered from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        path = folder / f"{i:05d}.png"
        if not path.exists():
            picture = cv2.imread(str(images / f"{row:05d}.png"), cv2.IMREAD_UNCHANGED).astype(np.float64)
            alpha = picture[..., 3:] / 255
            flat = (picture[..., :3] * alpha + 128 * (1 - alpha)).round().astype(np.uint8)
            cv2.imwrite(str(path), cv2.resize(flat, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    return folder


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--work", type=Path, default=ROOT / "out" / "footage_3d")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "footage_3d.json")
    args = parser.parse_args()
    figures = {
        "real_multiview": real(args.shared, args.work),
        "rendered_human": rendered(args.shared, args.work),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(rounded(figures), indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rounded(figures), indent=1))


if __name__ == "__main__":
    main()
