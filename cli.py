# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar`: finds the commands of the rooms that are installed, turns errors into sentences."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import importlib.util
import os
import sys
import traceback
from typing import Any

from . import __version__
from .neural_backend.interface.messages import BackendError
from .neural_backend.start import share_cores

#: Packages of each extra, to say which one is missing.
_EXTRAS = {"torch": "backend", "safetensors": "backend", "PIL": "backend", "cv2": "training", "scipy": "training",
           "tqdm": "training"}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 an error that was explained, 2 a wrong command line, 130 interrupted."""
    share_cores()
    parser = _parser()
    options = parser.parse_args(argv)
    with contextlib.redirect_stderr(_Heedless(sys.stderr)):
        return _run(options)


class _Heedless:
    """stderr that ends nothing where it cannot be written, since its reader has gone (Ctrl-C ends `tee` in
    `train 2>&1 | tee log` first), its terminal was closed, or the disk that holds the log is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if error.errno != errno.ENOSPC:  # of which there may be some again
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _run(options: argparse.Namespace) -> int:
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (BackendError, OSError, ModuleNotFoundError) as error:
        sentence = _sentence(error)
        if sentence is None or options.debug:
            traceback.print_exc()
        if sentence is not None:
            _tell(f"neural-avatar: {sentence}")
        return 1


def _tell(sentence: str) -> None:
    """Say it on a line of its own, also where a progress bar was being drawn."""
    bars = sys.modules.get("tqdm")
    if bars is None:
        print(sentence, file=sys.stderr)
    else:
        bars.tqdm.write(sentence, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="neural-avatar", description="Learn a person from footage, and draw them in any pose."
    )
    parser.add_argument("--version", action="version", version=f"neural-avatar {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for room in ("neural_backend", "training"):
        # The training room is left out where only frames are drawn, such as on a farm or in Blender's extension.
        if importlib.util.find_spec(f"{__package__}.{room}"):
            importlib.import_module(f"{__package__}.{room}.commands").add_commands(subparsers)
    for command in {id(p): p for p in subparsers.choices.values()}.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for a fault of the program, whose traceback is of more use."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            return None
        remedy = f'pip install "PATH-TO-CHECKOUT[{_EXTRAS[package]}]"'
        return f"This command needs the Python package '{package}': {remedy}"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or None
