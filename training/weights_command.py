# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar weights`: what others' weights are here, and fetching those that are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ..neural_backend.interface.messages import BackendError
from .reporting import Reporter
from .weights import KNOWN, OFFICIAL, Weights, cached_weights, download, intact, place


def weights_command(names: Sequence[str]) -> int:
    """Without names tell what is here and what could be had; with names fetch those. Raises BackendError with a
    sentence."""
    strange = [name for name in names if name not in KNOWN]
    if strange:
        raise BackendError("weights-name", f"No weights are known as {strange[0]!r}; choose from {', '.join(KNOWN)}.")
    for name in names or KNOWN:
        weights = KNOWN[name]
        state = _state(weights)
        if names and state != "here":
            print(f"Downloading {OFFICIAL}/{weights.file}, about {weights.megabytes} MB.", flush=True)
            download(weights, Reporter().progress(name, "B"))
            state = "here"
        print(f"{name:10} {state:8} {place(weights.file)}")
        if not names:
            print(f"{'':19} for {weights.use}; {weights.megabytes} MB from {OFFICIAL}/{weights.file}")
    if not names:
        print("`neural-avatar weights NAME` downloads; nothing else ever does.")
    return 0


def _state(weights: Weights) -> str:
    path = cached_weights(weights.file)
    return "missing" if path is None else "here" if intact(path) else "damaged"
