#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one frame costs: everything from joints to planes, stage by stage, beside the paper's network alone.

    python benchmarks/frame.py AVATAR [--size 512] [--device cpu] [--threads 2] [--repeat 15]

The avatar stands in its rest pose before a camera that shows it as high as four fifths of a square frame. Times are
medians of one run; the last column is the ratio to the paper's network (17 M parameters, 512x512, network only) on the
same machine.
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__


def room(name: str) -> Any:
    """A module of the package, whatever its folder is called."""
    return importlib.import_module(f"{PACKAGE}.neural_backend.{name}")


def median_seconds(work: Callable[[], Any], repeat: int, device: torch.device) -> float:
    """Median wall time of work, after two calls that warm it up."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = []
    for i in range(repeat + 2):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if i > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def before(avatar: Any, size: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A camera before the avatar's rest pose, the joints (137, 3) and their confidence (137,)."""
    joints = avatar.rest_joints.astype(np.float32)
    height = float(np.ptp(joints[:25, 2])) * 1.1
    distance = 4.0
    focal = 0.8 * size * distance / height
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    k = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    centre = np.array([0.0, -distance, height / 2])
    camera = room("interface.camera").Camera(k, rotation, -rotation @ centre, size, size)
    return camera, joints, np.ones(len(joints), np.float32)


@torch.inference_mode()
def measure(path: Path, size: int, device: str, repeat: int) -> dict[str, float]:
    """Seconds of each stage."""
    renderer = room("renderer").Renderer(device)
    avatar = renderer.avatar(str(path))
    camera, joints, confidence = before(avatar, size)
    crop = room("renderer").crop_of(avatar, joints, confidence, camera)
    layer = room("layer")
    maps = layer.body_maps(avatar, joints, confidence, crop)
    pose = joints[None], confidence[None], [crop]
    messages = room("interface.messages")
    request = messages.RenderRequest(camera, (messages.AvatarInstance(str(path), "person", joints, confidence),))
    stages: dict[str, Callable[[], Any]] = {
        "bone maps": lambda: avatar.bone_maps(*pose),
        "proxy": lambda: avatar.proxy_maps(*pose),
        "bone maps, proxy and network": lambda: layer.body_maps(avatar, joints, confidence, crop),
        "upsampling and textures": lambda: layer.render_layer(avatar, maps, crop, camera),
        "whole frame, to planes": lambda: renderer.render(request),
    }
    seconds = {name: median_seconds(work, repeat, renderer.device) for name, work in stages.items()}
    network = room("network")
    paper = network.Generator(network.PAPER, 27, (25, 48)).eval().to(renderer.device)
    stack = torch.zeros(1, 27, 512, 512, device=renderer.device)
    seconds["the paper's network alone, 512x512"] = median_seconds(lambda: paper(stack), 3, renderer.device)
    return seconds


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", type=int, default=512, help="side of the frame in pixels (default: 512)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads, 0 for its own choice")
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    seconds = measure(options.avatar, options.size, options.device, options.repeat)
    paper = seconds["the paper's network alone, 512x512"]
    print(f"{options.size}x{options.size}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'stage':38} {'ms':>8} {'ratio':>8}")
    for name, value in seconds.items():
        print(f"{name:38} {value * 1e3:8.1f} {value / paper:8.3f}")


if __name__ == "__main__":
    main()
