# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a calibration and the films that it is meant for together: names, number, picture sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...neural_backend.interface.messages import BackendError
from .records import CalibratedCamera

#: The largest difference of a side, as a part of it, that is taken for a centred crop.
_CROP = 0.03
_SCALE_TOLERANCE = 0.002


def match_cameras(
    cameras: Sequence[CalibratedCamera], films: Sequence[str]
) -> tuple[tuple[CalibratedCamera, ...], tuple[str, ...]]:
    """The camera of each film, in the films' order, and sentences for people.

    cameras: as calibrated. films: a name for each film (its file name without the ending, or its folder's). By name
    where every film's name is, or contains, the name of a camera of its own; otherwise by order where there are as many
    cameras as films, and said so. Raises BackendError 'calibration-cameras' where neither holds.
    """
    chosen = [_named(cameras, film) for film in films]
    found = [camera for camera in chosen if camera is not None]
    if len(found) == len(films) == len({camera.name for camera in found}):
        spare = [camera.name for camera in cameras if camera not in found]
        note = (f"The calibration's cameras {', '.join(spare)} have no film and are left out.",) if spare else ()
        return tuple(found), note
    names, listed = ", ".join(camera.name for camera in cameras), ", ".join(films)
    if len(cameras) != len(films):
        raise BackendError(
            "calibration-cameras",
            f"The calibration has {len(cameras)} cameras ({names}) for {len(films)} films ({listed}), and the names do "
            "not tell which belongs to which; name each film after its camera, or give as many films as cameras.",
        )
    pairs = ", ".join(f"{film} is {camera.name}" for film, camera in zip(films, cameras, strict=True))
    return tuple(cameras), (f"The films are not named after the calibration's cameras; taken by order: {pairs}.",)


def _named(cameras: Sequence[CalibratedCamera], film: str) -> CalibratedCamera | None:
    """The camera that a film is named after: the same name, else the longest name that the film's contains."""
    name = film.lower()
    same = [camera for camera in cameras if camera.name.lower() == name]
    if same:
        return same[0]
    inside = sorted((camera for camera in cameras if camera.name.lower() in name), key=lambda c: len(c.name))
    # 'cam1' is also inside 'cam10': nothing that goes on with a digit is a name.
    inside = [c for c in inside if not name[name.index(c.name.lower()) + len(c.name) :][:1].isdigit()]
    return inside[-1] if inside else None


def fit_camera(camera: CalibratedCamera, width: int, height: int) -> tuple[CalibratedCamera, str]:
    """The calibration of the picture as it was filmed, and a sentence for people where it had to be fitted ('' where
    not).

    width, height: the filmed picture's, upright. Equal sizes: as is. Evenly scaled: K is scaled. A few pixels less or
    more on a side (up to 3 %): taken for a centred crop, which shifts the principal point. Raises BackendError
    'calibration-size' for anything else.
    """
    k = camera.camera
    if (k.width, k.height) == (width, height):
        return camera, ""
    sx, sy = width / k.width, height / k.height
    # A rounded side may be half a pixel off.
    slack = max(_SCALE_TOLERANCE, 0.75 / min(k.width, k.height), 0.75 / min(width, height))
    if abs(sx / sy - 1) <= slack and abs(sx - 1) > _CROP:
        return replace(camera, camera=k.crop(0, 0, k.width, k.height, width, height)), (
            f"{camera.name} was calibrated at {k.width}x{k.height} and filmed at {width}x{height}; its calibration was "
            "scaled."
        )
    if abs(sx - 1) <= _CROP and abs(sy - 1) <= _CROP:
        box = ((k.width - width) / 2, (k.height - height) / 2, width, height)
        return replace(camera, camera=k.crop(*box, width, height)), (
            f"{camera.name} was calibrated at {k.width}x{k.height} and filmed at {width}x{height}; taken for a crop "
            "around the picture's centre. If the film was scaled instead, its projection is some pixels off."
        )
    turned = " It looks turned by 90 degrees." if (k.width > k.height) != (width > height) else ""
    raise BackendError(
        "calibration-size",
        f"{camera.name} was calibrated at {k.width}x{k.height}, but its film is {width}x{height}.{turned} "
        "Calibrate the camera at the film's size, or export the film at the calibrated size or evenly scaled.",
    )


def fit_cameras(
    cameras: Sequence[CalibratedCamera], sizes: Sequence[tuple[int, int]]
) -> tuple[tuple[CalibratedCamera, ...], tuple[str, ...]]:
    """fit_camera for every camera and (width, height); returns the fitted cameras and the sentences."""
    fitted = [fit_camera(camera, *size) for camera, size in zip(cameras, sizes, strict=True)]
    return tuple(camera for camera, _ in fitted), tuple(note for _, note in fitted if note)
