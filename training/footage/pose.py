# SPDX-License-Identifier: GPL-3.0-or-later
"""The pose model over a film: joints and segmentation of one person in every frame, resumable.

The work is cut into chunks of 50 frames. A chunk begins from nothing but its predecessor's last place of the person,
which is kept with it, so that a run that was killed goes on at the first missing chunk and comes to the same result.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.files import whole
from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import JOINT_COUNT
from .ahead import ahead
from .holistic import Finder, Holistic
from .landmarks import to_joints
from .manifest import write_json
from .people import Person, backed, survey
from .records import Detections
from .tracking import Place, Tracker
from .video import Source
from .views import place_mask, working_size, write_grey

#: Called with frames done and frames in all.
Progress = Callable[[int, int], None]

#: The folder of the segmentations inside the stage's folder.
SEGMENTATION = "segmentation"

_SURVEY = "person.json"


@dataclass(frozen=True)
class PoseOptions:
    """person: whom to follow, 1 the largest, 2 the second largest… size: the longer side of the pictures the model
    looks at, and of the masks. chunk: frames that a killed run redoes at most."""

    person: int = 1
    size: int = 960
    chunk: int = 50


def segmentation_path(folder: Path, index: int) -> Path:
    """The raw segmentation of a frame: grey PNG, 8 bit, working size; missing where nobody was found."""
    return folder / SEGMENTATION / f"{index:05d}.png"


def detect(
    source: Source, folder: Path, options: PoseOptions | None = None, progress: Progress = lambda done, total: None
) -> Detections:
    """Joints of the person in every frame of a film.

    folder: where the chunks and the segmentations are kept; a second call with the same source and options goes on
    where the first was stopped. Frames in which the person is not found, or which cannot be decoded, have confidence
    0 and no segmentation. Raises BackendError 'pose-missing' (MediaPipe is not installed), 'footage-nobody' (nobody
    in the whole film), 'footage-person' (fewer people than ``person``).
    """
    options = options or PoseOptions()
    total = len(source)
    (folder / SEGMENTATION).mkdir(parents=True, exist_ok=True)
    starts = range(0, total, options.chunk)
    chunks: list[dict[str, npt.NDArray[Any]]] = []
    for start in starts:
        saved = _load(folder / f"{start:06d}.npz", min(options.chunk, total - start))
        if saved is None:
            break
        chunks.append(saved)
    progress(min(len(chunks) * options.chunk, total), total)
    if len(chunks) < len(starts):
        first = len(chunks) * options.chunk
        place = Place.unpack(chunks[-1]["place"]) if chunks else Place()
        chunks += _run(source, folder, options, first, place, progress)
    data = {name: np.concatenate([c[name] for c in chunks]) for name in ("points", "confidence", "world", "decoded")}
    for index in np.flatnonzero(~data["decoded"]):
        source.lost.add(int(index))
    if not (data["confidence"] > 0).any():
        raise _nobody(source)
    return Detections(
        data["points"],
        data["confidence"],
        source.times,
        source.width,
        source.height,
        str(source.path),
        data["world"],
    )


def _run(
    source: Source, folder: Path, options: PoseOptions, first: int, place: Place, progress: Progress
) -> list[dict[str, npt.NDArray[Any]]]:
    """The chunks from frame ``first`` on."""
    finder = Finder()
    model = Holistic()
    try:
        reference = _reference(source, folder, finder, options.person)
        tracker = Tracker(model, finder, reference, options.size)
        size = working_size(source.width, source.height, options.size)
        chunks = []
        frames = ahead(source.read(first))
        following = next(frames, None)
        for start in range(first, len(source), options.chunk):
            count = min(options.chunk, len(source) - start)
            chunk = _empty(count)
            tracker.begin(place)
            while following is not None and following.index < start + count:
                row = following.index - start
                chunk["decoded"][row] = True
                found = tracker.follow(backed(following))
                if found is not None:
                    joints = to_joints(found.landmarks, source.width, source.height)
                    for name in ("points", "confidence", "world"):
                        chunk[name][row] = getattr(joints, name)
                    if found.mask is not None:
                        mask = place_mask(found.mask, found.view, (source.width, source.height), size)
                        write_grey(segmentation_path(folder, following.index), mask)
                progress(following.index + 1, len(source))
                following = next(frames, None)
            place = tracker.place
            chunk["place"] = place.pack()
            _save(folder / f"{start:06d}.npz", chunk)
            chunks.append(chunk)
        progress(len(source), len(source))
        return chunks
    finally:
        model.close()
        finder.close()


def _reference(source: Source, folder: Path, finder: Finder, rank: int) -> Person:
    """Whom to follow: found by the survey, or by the survey of an earlier run."""
    path = folder / _SURVEY
    try:
        data = json.loads(path.read_text("utf-8"))
        return Person(tuple(data["box"]), np.asarray(data["colours"], np.float32))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    person = survey(source, finder, rank)
    if person is None:
        if rank == 1 or survey(source, finder, 1) is None:
            raise _nobody(source)
        raise BackendError(
            "footage-person",
            f"There is no person number {rank} in {source.path}; --person counts from 1, the largest.",
        )
    write_json(path, {"box": person.box, "colours": person.colours.tolist()})
    return person


def _nobody(source: Source) -> BackendError:
    return BackendError(
        "footage-nobody",
        f"Nobody was found in {source.path}; film the whole person, upright, in good light and at least a fifth of the "
        "picture high, or give poses that you have with --poses.",
    )


def _empty(count: int) -> dict[str, npt.NDArray[Any]]:
    return {
        "points": np.zeros((count, JOINT_COUNT, 2), np.float32),
        "confidence": np.zeros((count, JOINT_COUNT), np.float32),
        "world": np.full((count, JOINT_COUNT, 3), np.nan, np.float32),
        "decoded": np.zeros(count, bool),
        "place": Place().pack(),
    }


def _save(path: Path, chunk: dict[str, npt.NDArray[Any]]) -> None:
    with whole(path, alone=True) as temporary, temporary.open("wb") as file:
        np.savez(file, **chunk)  # type: ignore[arg-type]


def _load(path: Path, count: int) -> dict[str, npt.NDArray[Any]] | None:
    """A chunk of an earlier run; None where it is missing or not whole."""
    try:
        with np.load(path, allow_pickle=False) as file:
            chunk = {name: file[name] for name in _empty(0)}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    wanted = _empty(count)
    return chunk if all(chunk[n].shape == wanted[n].shape for n in wanted) else None
