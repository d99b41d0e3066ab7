# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of a training run: one safetensors file holds every tensor, and the rest as JSON in its header.

A checkpoint is written under a temporary name, flushed, and renamed; the last good one before it is kept. Whatever
happens while one is written, a good one remains.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from ..neural_backend.interface.messages import BackendError
from . import parallel

_NAME, _PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
_STATE = "state"
#: What reading a file raises that is torn, or no checkpoint.
_UNREADABLE = (OSError, SafetensorError, KeyError, ValueError)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and everything else as plain data."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and keep the one before it. Raises BackendError 'checkpoint-write', the older ones intact."""
    temporary = folder / f"{_NAME}.{os.getpid()}.tmp"
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        save_file(tensors, temporary, metadata={_STATE: json.dumps(checkpoint.state)})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        # A torn one must not take the place of the good one before it. Between the two steps there is none under the
        # newest name, but then the one before it is the newest that can be read.
        if _readable(folder / _NAME):
            os.replace(folder / _NAME, folder / _PREVIOUS)
        os.replace(temporary, folder / _NAME)
    except (OSError, SafetensorError) as error:
        raise BackendError(
            "checkpoint-write", f"The checkpoint in {folder} could not be written ({error}); the one before it is kept."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _readable(path: Path) -> bool:
    """Whether there is a checkpoint that ``read_checkpoint`` would take. Only its header is read: that tells whether
    the file is whole."""
    try:
        with safe_open(path, framework="pt") as file:
            _state_of(file)
    except _UNREADABLE:
        return False
    return True


def has_checkpoint(folder: Path) -> bool:
    """Whether a run could go on from what lies there."""
    return any(_readable(folder / name) for name in (_NAME, _PREVIOUS))


def forget_newest(folder: Path) -> None:
    """Put the checkpoint before the newest in its place, where there is one that can be read."""
    if _readable(folder / _PREVIOUS):
        with suppress(OSError):
            os.replace(folder / _PREVIOUS, folder / _NAME)


def _state_of(file: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((file.metadata() or {})[_STATE])
    return state


def remove_torn(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left; for the start of a run."""
    ours, of_safetensors = f"{_NAME}.*.tmp", ".tmp??????"
    for path in (*folder.glob(ours), *folder.glob(of_safetensors)):
        path.unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest readable checkpoint, or None where there never was one.

    Raises BackendError 'checkpoint-corrupt' when there are files but none can be read.
    """
    reasons = []
    for name in (_NAME, _PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                state = _state_of(file)
                # Copies: what safetensors gives is the file itself in memory, and Windows replaces no file in use.
                return Checkpoint({key: file.get_tensor(key).clone() for key in file.keys()}, state)  # noqa: SIM118
        except _UNREADABLE as error:
            reasons.append(f"{name}: {error}")
    if reasons:
        raise BackendError(
            "checkpoint-corrupt",
            f"No checkpoint in {folder} can be read; start over with --restart.",
            "\n".join(reasons),
        )
    return None


def shared_checkpoint(folder: Path) -> Checkpoint | None:
    """The first process's newest checkpoint, in all processes of a run: other machines need not see its folder."""
    if parallel.size() == 1:
        return read_checkpoint(folder)

    def packed() -> bytes:
        found = read_checkpoint(folder)
        return b"" if found is None else _pack(json.dumps(found.state).encode(), save(found.tensors))

    data = parallel.from_main(packed)
    if not data:
        return None
    length = int.from_bytes(data[:8], "little")
    return Checkpoint(load(data[8 + length :]), json.loads(data[8 : 8 + length]))


def _pack(state: bytes, tensors: bytes) -> bytes:
    return len(state).to_bytes(8, "little") + state + tensors


def nest(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under names that begin with ``prefix/``."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def unnest(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix/``, without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + "/")}
