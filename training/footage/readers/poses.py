# SPDX-License-Identifier: GPL-3.0-or-later
"""Poses that people bring, 2D or 3D, told apart by what is in their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....neural_backend.interface.messages import BackendError
from ..records import Detections, Motion
from .bvh import read_bvh
from .fields import POSES, read_json, read_text
from .openpose import read_openpose
from .panoptic import is_panoptic, read_panoptic
from .people import Film
from .trc import read_trc
from .wholebody import read_wholebody

FORMATS = (
    "OpenPose's or COCO-WholeBody's JSON (a folder for each camera, named as the camera), CMU Panoptic's hdPose3d, TRC "
    "or BVH"
)
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".npy")


def read_poses(
    path: str | Path, films: Sequence[Film], person: int | None = None, up: str = ""
) -> list[Detections] | Motion:  # fmt: skip
    """2D poses of each film, in the films' order, or a 3D motion.

    path: a folder with a folder or JSON file for each camera, named as the camera; one folder or file, where there is
    one camera; or a 3D source, which ``is_motion`` tells. person: 1 for the largest track in each film, 2 for the next
    one; for Panoptic the id of its files; None takes the largest. up: the axis that points up in a TRC or BVH; '' finds
    it.

    Raises BackendError 'poses-missing', 'poses-corrupt', 'poses-person'.
    """
    folder = Path(path)
    if not folder.exists():
        raise BackendError("poses-missing", f"There are no poses at {folder}.")
    source = _motion_source(folder)
    if source is not None:
        return read_motion(source, person, up)
    return [_read_2d(_place_of(folder, film, len(films)), film, person) for film in films]


def is_motion(path: str | Path) -> bool:
    """Whether a path holds 3D motion rather than 2D poses."""
    return _motion_source(Path(path)) is not None


def read_motion(path: str | Path, person: int | None = None, up: str = "") -> Motion:
    """3D joints of a BVH, a TRC or CMU Panoptic's folder; metres, Z up. Arguments and errors as of ``read_poses``."""
    file = Path(path)
    if not file.exists():
        raise BackendError("poses-missing", f"There is no motion at {file}.")
    source = _motion_source(file)
    if source is None:
        raise BackendError(POSES, f"{file} is no 3D motion; expected a BVH, a TRC or CMU Panoptic's hdPose3d folder.")
    if source.is_dir():
        return read_panoptic(source, person)
    start = _starts(source)
    if start.startswith("PathFileType") or (source.suffix.lower() == ".trc" and not start.startswith("HIERARCHY")):
        return read_trc(source, up)
    return read_bvh(source, up)


def _motion_source(path: Path) -> Path | None:
    """The 3D source at a path: itself, or the only BVH or TRC of a folder; None where there is none."""
    if path.is_dir():
        if is_panoptic(path):
            return path
        inside = [f for f in sorted(path.iterdir()) if f.suffix.lower() in (".bvh", ".trc")]
        if len(inside) > 1:
            raise BackendError(POSES, f"{path} holds {len(inside)} motions; name the file, such as {inside[0].name}.")
        return inside[0] if inside else None
    start = _starts(path) if path.is_file() else ""
    return path if start.startswith(("PathFileType", "HIERARCHY")) or path.suffix.lower() in (".bvh", ".trc") else None


def _starts(path: Path) -> str:
    return read_text(path, POSES)[:64].lstrip()


def _place_of(folder: Path, film: Film, count: int) -> Path:
    """Where a camera's 2D poses are."""
    if folder.is_file():
        if count > 1:
            raise BackendError(
                POSES,
                f"{folder} is one file for {count} cameras; give a folder with one for each, named as the camera.",
            )
        return folder
    names = [f"{film.name}{end}" for end in ("", "_json", "_poses", "_keypoints", ".json")]
    for place in [folder / name for name in names]:
        if place.exists():
            return place
    if count == 1 and any(folder.glob("*.json")):
        return folder
    here = ", ".join(sorted(f.name for f in folder.iterdir())[:8]) or "nothing"
    raise BackendError(
        "poses-missing",
        f"There are no poses of camera {film.name} in {folder}: a folder of that name was expected, there is {here}.",
    )


def _read_2d(place: Path, film: Film, person: int | None) -> Detections:
    if place.is_dir():
        files = sorted(place.glob("*.json"))
        if not files:
            raise BackendError(POSES, f"{place} holds no JSON files; expected {FORMATS}.")
        if len(files) > 1 or _has_people(read_json(files[0], POSES)):
            openpose = _has_people(read_json(files[0], POSES))
            return read_openpose(place, film, person) if openpose else read_wholebody(place, film, person)
        place = files[0]
    if place.suffix.lower() in _PICKLES:
        raise BackendError(
            POSES, f"{place} is a pickle or the like, which can run programs and is not opened; expected {FORMATS}."
        )
    if place.suffix.lower() != ".json":
        raise BackendError(POSES, f"{place} holds no poses in a format that is known; expected {FORMATS}.")
    return read_wholebody(place, film, person)


def _has_people(data: Any) -> bool:
    return isinstance(data, dict) and ("people" in data or "part_candidates" in data or not set(data) - {"version"})
