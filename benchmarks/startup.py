# SPDX-License-Identifier: GPL-3.0-or-later
"""How much later Blender is ready with the add-on enabled: the time of register(), in fresh processes, warm disk.

Each run is a process of its own; the first one compiles and does not count. "add_on_ms" is the median of register() by
the clock, "add_on_cpu_ms" what it computed, whatever else the machine had to do; "without_ms" is what Blender itself
takes to start as a module. "numpy" says whether register() was the first to load numpy, which Blender 4.2 does not do
itself.

<Python> benchmarks/startup.py <Python with bpy> [<Python with bpy> ...]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 9

_RUN = """
import importlib.util, json, sys, time
began = time.perf_counter()
import bpy
ready = time.perf_counter()
before = "numpy" in sys.modules
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("neural_avatar", root + "/__init__.py", submodule_search_locations=[root])
package = importlib.util.module_from_spec(spec)
sys.modules["neural_avatar"] = package
start, computed = time.perf_counter(), time.process_time()
spec.loader.exec_module(package)
package.register()
end, computed = time.perf_counter(), time.process_time() - computed
ours = sorted(name for name in sys.modules if name.startswith("neural_avatar."))
facts = {"version": bpy.app.version_string, "blender": ready - began, "ours": end - start, "cpu": computed}
facts |= {"numpy": "numpy" in sys.modules and not before, "modules": len(ours)}
print("@" + json.dumps(facts))
"""


def measure(python: str, repeats: int = REPEATS) -> dict[str, Any]:
    """Medians in milliseconds; the first run, which fills the disk's cache, does not count."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "BLENDER_USER_RESOURCES": folder, "PYTHONPYCACHEPREFIX": folder + "/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(repeats + 1):
            done = subprocess.run(
                [python, "-c", _RUN, str(ROOT)], capture_output=True, text=True, check=True, env=environment
            )
            runs.append(json.loads(next(line[1:] for line in done.stdout.splitlines() if line.startswith("@"))))
    runs = runs[1:]
    facts = {"blender": runs[0]["version"], "modules": runs[0]["modules"], "numpy": runs[0]["numpy"]}
    for name, key in (("without_ms", "blender"), ("add_on_ms", "ours"), ("add_on_cpu_ms", "cpu")):
        facts[name] = round(1000 * statistics.median(run[key] for run in runs), 1)
    return facts


if __name__ == "__main__":
    for python in sys.argv[1:]:
        print(json.dumps(measure(python)))
