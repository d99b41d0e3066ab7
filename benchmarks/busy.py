#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a frame costs where other programs compute too, as Blender does: threads that spin while they wait for one
another, as torch's do of themselves, against ours, which sleep (neural_backend.start.share_cores).

    python benchmarks/busy.py AVATAR [--size 512] [--repeat 15]

Each cell is a process of its own with as many threads as the machine has cores; "beside" counts other processes that
compute without end. Times are medians of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHARED = runpy.run_path(str(HERE.parent / "neural_backend" / "start.py"))["SHARED_CORES"]
_BUSY = "while True: pass"


def measure(words: list[str], shared: bool) -> dict[str, float]:
    """Seconds by the clock and of CPU time for one frame."""
    environment = {name: value for name, value in os.environ.items() if name not in SHARED}
    done = subprocess.run(
        [sys.executable, "-B", __file__, *words, "--one"], env=environment | (SHARED if shared else {}),
        stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one(path: Path, size: int, repeat: int) -> dict[str, float]:
    """The same in this process."""
    sys.path.insert(0, str(HERE))
    import frame
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    renderer = frame.room("renderer").Renderer("cpu")
    camera, joints, confidence = frame.before(renderer.avatar(str(path)), size)
    messages = frame.room("interface.messages")
    request = messages.RenderRequest(camera, (messages.AvatarInstance(str(path), "person", joints, confidence),))

    def draw() -> Any:
        return renderer.render(request)

    computed, frames = time.process_time(), repeat + 2  # with the two that warm it up
    clock = frame.median_seconds(draw, repeat, renderer.device)
    return {"clock": clock, "cpu": (time.process_time() - computed) / frames}


def main() -> None:
    """Everything, as the module says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", type=int, default=512, help="side of the frame in pixels (default: 512)")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.avatar, options.size, options.repeat)))
        return
    cores = os.cpu_count() or 1
    print(f"{options.size}x{options.size}, {cores} threads on {cores} cores, milliseconds a frame")
    print(f"{'beside':>6} {'spinning':>10} {'CPU':>8} {'sleeping':>10} {'CPU':>8} {'ratio':>7}")
    for beside in range(cores + 1):
        others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(beside)]
        try:
            spinning, sleeping = (measure(sys.argv[1:], shared) for shared in (False, True))
        finally:
            for process in others:
                process.kill()
                process.wait()
        cells = [1e3 * x[name] for x in (spinning, sleeping) for name in ("clock", "cpu")]
        print(
            f"{beside:6} {cells[0]:10.1f} {cells[1]:8.1f} {cells[2]:10.1f} {cells[3]:8.1f} {cells[2] / cells[0]:7.2f}"
        )


if __name__ == "__main__":
    main()
