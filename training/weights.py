# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of others' networks that torch has already downloaded. Nothing is ever downloaded here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch


def cached_weights(name: str) -> Path | None:
    """The file of that name in torch's own download cache; None where it is not there."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    return path if path.is_file() else None


def intact(path: Path) -> bool:
    """Whether a file's SHA-256 begins with the last part of its name, as that of torch's weights does
    (vgg19-dcbb9e9d.pth)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest.startswith(path.stem.rpartition("-")[2])
