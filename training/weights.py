# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of others' networks: found in torch's own download cache, fetched from their official address when asked.

Training and evaluation never download anything by themselves: that is what `neural-avatar weights` is for.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch

from ..neural_backend.interface.messages import BackendError

#: Where torch's own loaders fetch these files from.
OFFICIAL = "https://download.pytorch.org/models"
_PIECE = 1 << 20
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Weights:
    """A public file of weights. file: its name, whose last part is the start of its SHA-256; megabytes: about; use:
    what it is for, in a few words."""

    file: str
    megabytes: int
    use: str


#: Networks trained on ImageNet, by the names that the command knows them by.
KNOWN = {
    "vgg19": Weights("vgg19-dcbb9e9d.pth", 575, "the paper's image loss (train)"),
    "alexnet": Weights("alexnet-owt-7be5be79.pth", 244, "LPIPS (evaluate; with the packages lpips and torchvision)"),
    "inception": Weights("inception_v3_google-0cc3c7bd.pth", 109, "FID (evaluate; with the package torchvision)"),
}


def place(name: str) -> Path:
    """Where torch keeps a file of that name that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def cached_weights(name: str) -> Path | None:
    """The file of that name in torch's own download cache; None where it is not there."""
    path = place(name)
    return path if path.is_file() else None


def intact(path: Path) -> bool:
    """Whether a file's SHA-256 begins with the last part of its name, as that of torch's weights does
    (vgg19-dcbb9e9d.pth)."""
    return _matches(path, path.stem)


def _matches(path: Path, stem: str) -> bool:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest.startswith(stem.rpartition("-")[2])


def download(weights: Weights, progress: Callable[[int, int], None] | None = None, official: str = OFFICIAL) -> Path:
    """Fetch a file into torch's cache, going on where an earlier attempt broke off, and check it before it gets its
    name. progress: bytes done and in all.

    Raises BackendError 'weights-download' with a sentence that says how to get the file by hand.
    """
    path, address = place(weights.file), f"{official}/{weights.file}"
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _fetch(address, part, progress)
        sound = _matches(part, path.stem)
        if sound:
            os.replace(part, path)
        else:
            part.unlink()
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = getattr(reason, "strerror", None) or reason or type(error).__name__
        raise BackendError(
            "weights-download",
            f"{weights.file} could not be downloaded ({reason}); the same command goes on from there. Or fetch "
            f"{address} elsewhere and put it at {path}.",
        ) from error
    if not sound:
        raise BackendError(
            "weights-download",
            f"What came from {address} does not have the file's checksum, and was thrown away; try again, or through "
            "another network.",
        )
    return path


def _fetch(address: str, part: Path, progress: Callable[[int, int], None] | None) -> None:
    """Append to ``part`` what is missing of the file at ``address``. Raises OSError or HTTPException."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing: only the check was not reached
            return
        raise
    with answer:
        if answer.status != 206:  # the whole file comes, whatever was asked
            done = 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if done else "wb") as file:
            while piece := answer.read(_PIECE):
                file.write(piece)
                done += len(piece)
                if progress:
                    progress(done, max(total, done))
    if done < total:
        raise ConnectionError(f"it broke off after {done} of {total} bytes")
