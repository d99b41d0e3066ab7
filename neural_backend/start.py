# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's start: ``python -I -B <root>/neural_backend/start.py``. Standard library alone, readable by any Python
3.

The package is loaded by path, under the name ``neural_avatar``, whatever its folder is called; no folder is put on
``sys.path``, so that neighbours of the package (other extensions) can never be imported by accident.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys

if False:  # imported by type checkers alone
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, BinaryIO

#: What tells OpenMP, under torch, that threads which wait for one another sleep: to the standard, and to GNU's, which
#: may look around shortly before. GNU's looks for milliseconds of itself, and burns the core that the awaited thread
#: needs as soon as anything else computes: beside one busy program, frames and training steps took several times as
#: long (benchmarks/busy.py).
SHARED_CORES = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGE = "neural_avatar"


def load_package() -> ModuleType:
    """Register the folder above as the package ``neural_avatar``; returns the package."""
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, os.path.join(ROOT, "__init__.py"), submodule_search_locations=[ROOT]
        )
        assert spec is not None and spec.loader is not None  # the file is beside this one
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACKAGE] = module
        spec.loader.exec_module(module)
    return sys.modules[PACKAGE]


def share_cores() -> None:
    """Have torch's threads share the machine with other programs, unless the environment says how they are to wait.

    OpenMP reads it as it is loaded, so this comes before torch is imported.
    """
    if not SHARED_CORES.keys() & os.environ.keys():
        os.environ.update(SHARED_CORES)


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep stdin and stdout for messages alone; returns them as binary files.

    Whatever reads descriptor 0 from now on finds it empty, and whatever writes to descriptor 1, also in C code, writes
    into the log.
    """
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(0, os.O_BINARY)
        msvcrt.setmode(1, os.O_BINARY)
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def run(make_renderer: Callable[[str], Any] | None = None) -> int:
    """Serve requests until the client goes; returns the exit code. make_renderer(device) makes another renderer than
    ours.
    """
    requests, replies = take_streams()
    share_cores()
    load_package()
    codes = importlib.import_module(PACKAGE + ".neural_backend.interface.exit_codes")
    if sys.version_info < (3, 11):  # noqa: UP036  (any Python may have been chosen)
        print("Python 3.11 or newer is needed, this is", sys.version, file=sys.stderr)
        return int(codes.OLD_PYTHON)
    try:
        server = importlib.import_module(PACKAGE + ".neural_backend.server")
    except ImportError as error:
        print("a package is missing or broken:", error, file=sys.stderr)
        return int(codes.MISSING_PACKAGE)
    return int(server.serve(requests, replies, make_renderer or server.default_renderer))


if __name__ == "__main__":
    sys.exit(run())
