# SPDX-License-Identifier: GPL-3.0-or-later
"""The films of a run, each with its camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...neural_backend.interface.messages import BackendError
from . import calibrate
from .manifest import fingerprint
from .progress import Voice
from .readers.calibration import read_calibration
from .records import CalibratedCamera
from .selection import Selection, select
from .video import Source, open_source

if TYPE_CHECKING:
    from .pipeline import FootageOptions


@dataclass(frozen=True)
class Film:
    """One camera's film. name: the camera's. source: all its frames; selection: those that are used."""

    name: str
    source: Source
    selection: Selection
    fingerprint: dict[str, Any]
    camera: CalibratedCamera | None = None


def open_films(options: FootageOptions, voice: Voice) -> list[Film]:
    """Open every film, choose its frames, and find its camera in the calibration.

    Raises BackendError where a film cannot be read, two have the same name, several come without a calibration, or a
    held-out camera is none of them.
    """
    films = []
    for path in options.videos:
        source = open_source(path, options.rate)
        chosen, notes = select(source, options.choice)
        for note in notes:
            voice.say(note)
        films.append(Film(source.name, source, chosen, fingerprint(_existing(path))))
    names = [film.name for film in films]
    if len(set(names)) != len(names):
        names = [f"{film.source.path.resolve().parent.name}_{film.name}" for film in films]
    if len(set(names)) != len(names):
        raise BackendError(
            "footage-input", f"Two of the films are the same, or have the same name: {', '.join(names)}."
        )
    cameras: list[CalibratedCamera | None] = [None] * len(films)
    if options.calibration is not None:
        matched, notes_ = calibrate.match_cameras(read_calibration(options.calibration), names)
        for note in notes_:
            voice.say(note)
        cameras, names = list(matched), [camera.name for camera in matched]
    elif len(films) > 1:
        raise BackendError(
            "footage-calibration",
            f"{len(films)} films without a calibration: give --calibration FILE if they are cameras that filmed the "
            "same moments; if they are takes of one camera, make a dataset of each and give all of them to `train`.",
        )
    films = [replace(f, name=n, camera=c) for f, n, c in zip(films, names, cameras, strict=True)]
    unknown = [name for name in options.heldout if name not in names]
    if unknown or (options.heldout and set(options.heldout) >= set(names)):
        raise BackendError(
            "footage-heldout",
            f"--heldout {unknown[0]}: there is no such camera; there are {', '.join(names)}." if unknown
            else "--heldout names every camera; leave at least one to train on.",
        )  # fmt: skip
    return films


def _existing(path: str) -> Path:
    """The file or folder that stands for an input; the folder of a pattern."""
    return Path(path) if Path(path).exists() else Path(path).parent
