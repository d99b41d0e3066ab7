# SPDX-License-Identifier: GPL-3.0-or-later
"""COCO-WholeBody's 133 keypoints as JSON: results in COCO's style, or MMPose's predictions.

Read are a list of results (``image_id`` and ``keypoints``, flat, or parted into body, foot, face and hands), a COCO
file (``annotations`` and ``images``), MMPose's predictions of a film (a list of frames, or ``instance_info``, with
``instances``) and a folder with one file of instances for each frame. Files of 17 or 26 keypoints are read alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ....neural_backend.interface.messages import BackendError
from ..records import Detections
from .fields import POSES, Entry, read_json
from .layouts import BY_COUNT, Found, Keypoints
from .people import Film, detections, number

#: The parts of the official results, in the order of the 133.
_PARTS = (("keypoints", 17), ("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))

Frames = dict[int, list[Found]]


def read_wholebody(path: Path, film: Film, person: int | None = None) -> Detections:
    """A camera's poses. path: a file, or a folder with a file for each frame. person: as in ``people.detections``.

    Raises BackendError 'poses-corrupt', 'poses-person'.
    """
    frames: Frames = {}
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            index = number(file)
            if index is None:
                raise BackendError(POSES, f"{file}: there is no frame number in its name.")
            frames.setdefault(index, []).extend(_instances(file, index, read_json(file, POSES)))
    else:
        for index, found in _film(path):
            frames.setdefault(index, []).extend(found)
    return detections(frames, film, person, path)


def _instances(path: Path, index: int, data: Any) -> list[Found]:
    """The people of one frame's file."""
    frame = Entry({}, path, f"frame {index}", POSES)
    if isinstance(data, dict):
        frame = frame.part(data, "")
        data = data[frame.name("instances", "annotations", "predictions")]
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], list):
        data = data[0]
    people = Entry({"people": data}, path, frame.where, POSES).entries("people", "person")
    return [_person(p) for p in people]


def _film(path: Path) -> Iterable[tuple[int, list[Found]]]:
    """Frames of a file for a whole film; one frame may come in several pieces."""
    data = read_json(path, POSES)
    names: dict[str, str] = {}
    file, field = Entry({"list": data}, path, "", POSES), "list"
    if isinstance(data, dict):
        file = Entry(data, path, "", POSES)
        if "images" in data:
            names = {image.text("id"): image.text("file_name") for image in file.entries("images", "image")}
        field = file.name("instance_info", "annotations", "frames", "predictions")
    entries = file.entries(field, "entry")
    for i, entry in enumerate(entries):
        if "instances" in entry.data:
            index = int(entry.number("frame_id")) if "frame_id" in entry.data else i
            frame = Entry(entry.data, path, f"frame {index}", POSES)
            yield index, [_person(p) for p in frame.entries("instances", "person")]
        else:
            index = _image(entry, names)
            yield index, [_person(Entry(entry.data, path, f"frame {index}, entry {i}", POSES))]


def _image(entry: Entry, names: dict[str, str]) -> int:
    """The frame of a COCO result: the number in its picture's name where the file tells it, else its image_id."""
    identity = entry.text("image_id")
    identity = names.get(identity, identity)
    found = number(Path(identity))
    if found is None:
        entry.fail(f"there is no frame number in 'image_id' ({identity!r})")
    return found


def _person(entry: Entry) -> Found:
    if "foot_kpts" in entry.data:
        values = np.concatenate([entry.array(field, shape=(count, 3)) for field, count in _PARTS])
        points, scores = values[:, :2], values[:, 2]
    elif "keypoint_scores" in entry.data:
        scores = entry.array("keypoint_scores").ravel()
        flat = entry.array("keypoints")
        points = entry.array("keypoints", shape=(len(scores), flat.size // max(len(scores), 1)))[:, :2]
    else:
        values = entry.array("keypoints").ravel()
        if values.size % 3:
            entry.fail(f"'keypoints' must hold x, y and score of each joint, not {values.size} numbers")
        points, scores = values.reshape(-1, 3)[:, :2], values.reshape(-1, 3)[:, 2]
    if len(scores) not in BY_COUNT:
        known = ", ".join(map(str, sorted(BY_COUNT)))
        entry.fail(f"it has {len(scores)} keypoints; {known} are understood, 133 are COCO-WholeBody's")
    if points.shape[1] != 2:
        entry.fail("'keypoints' must hold x and y of each joint")
    keypoints = Keypoints()
    keypoints.add(BY_COUNT[len(scores)], points, scores)
    return keypoints.result()
