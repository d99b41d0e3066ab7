# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run keeps its checkpoints, log and preview, and how it begins anew there without losing what was before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..neural_backend.interface.messages import BackendError
from . import parallel
from .checkpoint import has_checkpoint, remove_torn


def run_folder(output: Path) -> Path:
    """The folder of the run that writes the avatar ``output``: beside it."""
    return output.with_name(output.name + ".train")


@contextmanager
def begin_in(folder: Path, datasets: Sequence[Path], restart: bool) -> Iterator[None]:
    """Make the run's folder, for a run that is prepared, and writes its first checkpoint, inside the block.

    restart: without what an earlier run left there, which comes back where the new one cannot begin: its options may be
    mistyped, or the disk full. Raises BackendError 'train-output', in all processes of the run.
    """
    before = folder.with_name(folder.name + ".before")
    with parallel.agreed():
        if parallel.is_main():
            _check_apart(folder, datasets)
            try:
                if restart and folder.exists():
                    _put_aside(folder, before)
                folder.mkdir(parents=True, exist_ok=True)
                remove_torn(folder)
            except OSError as error:
                raise BackendError("train-output", f"{folder} cannot be made: {error.strerror}.") from error
    try:
        yield
    except BaseException:
        if parallel.is_main() and before.exists() and not has_checkpoint(folder):
            shutil.rmtree(folder, ignore_errors=True)
            before.rename(folder)
        raise
    if parallel.is_main():
        shutil.rmtree(before, ignore_errors=True)


def _put_aside(folder: Path, before: Path) -> None:
    if before.exists() and not has_checkpoint(folder):  # left by a run that was cut off while it was prepared
        shutil.rmtree(folder)
        return
    shutil.rmtree(before, ignore_errors=True)
    folder.rename(before)


def _check_apart(folder: Path, datasets: Sequence[Path]) -> None:
    own = folder.resolve()
    for dataset in (path.resolve() for path in datasets):
        if own == dataset or own in dataset.parents or dataset in own.parents:
            raise BackendError(
                "train-output",
                f"The run would be kept in {folder}, which is not apart from the dataset {dataset}; give another -o.",
            )
