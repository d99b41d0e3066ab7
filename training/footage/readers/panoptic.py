# SPDX-License-Identifier: GPL-3.0-or-later
"""CMU Panoptic's calibration and 3D poses: JSON, centimetres, a world whose Y axis points down.

Layout: calibration_NAME.json; hdPose3d_stage1_coco19/body3DScene_00000106.json; beside that folder, where there are
any, hdHand3d/handRecon3D_hd00000106.json and hdFace3d/faceRecon3D_hd00000106.json. The number is the frame's in the HD
films.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.messages import BackendError
from ....neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from ..records import CalibratedCamera, Motion
from .axes import to_z_up
from .cameras import calibrated, opencv_centres
from .fields import CALIBRATION, POSES, Entry, read_json

#: Frames a second of the HD cameras.
RATE = 29.97

_JOINTS19 = (
    "Neck", "Nose", "MidHip", "LShoulder", "LElbow", "LWrist", "LHip", "LKnee", "LAnkle", "RShoulder", "RElbow",
    "RWrist", "RHip", "RKnee", "RAnkle", "LEye", "LEar", "REye", "REar",
)  # fmt: skip
assert set(_JOINTS19) <= set(BODY_JOINTS)
_COLUMNS = [INDEX[name] for name in _JOINTS19]
_PARTS = (("left_hand", LEFT_HAND, 21), ("right_hand", RIGHT_HAND, 21), ("face70", FACE, 70))


def read_panoptic_calibration(path: Path, data: dict[str, Any]) -> tuple[CalibratedCamera, ...]:
    """The HD cameras, or where there are none, all of them. Raises BackendError 'calibration-corrupt'."""
    entries = Entry(data, path, "", CALIBRATION).entries("cameras", "camera")
    return tuple(_camera(entry) for entry in [e for e in entries if e.data.get("type") == "hd"] or entries)


def _camera(entry: Entry) -> CalibratedCamera:
    name = entry.text("name")
    entry = Entry(entry.data, entry.file, f"camera {name}", entry.code)
    K, R = opencv_centres(entry.array("K", shape=(3, 3))), entry.array("R", shape=(3, 3))
    t = entry.array("t", shape=(3,)) / 100
    lens = entry.array("distCoef") if "distCoef" in entry.data else ()
    return calibrated(entry, name, entry.size("resolution"), K, R, t, lens, up="-y")


def is_panoptic(folder: Path) -> bool:
    """Whether a folder holds Panoptic's 3D poses, itself or in a folder of its own."""
    return _body_folder(folder) is not None


def read_panoptic(folder: Path, person: int | None = None) -> Motion:
    """One person's motion in metres, Z up, a row for each frame that was written, times from frame 0 of the HD films.

    person: an id of the files; None takes the one seen most often. Rows in which the person is missing have no
    confidence. Hands and face are joined where their folders are there. Raises BackendError 'poses-corrupt' or
    'poses-person'.
    """
    bodies = _body_folder(folder)
    if bodies is None:
        raise BackendError(POSES, f"{folder} holds no body3DScene_NNNNNNNN.json of CMU Panoptic.")
    files = _numbered(bodies, "body3DScene_")
    scenes = {number: _people(path, "bodies") for number, path in files.items()}
    counts: dict[int, int] = {}
    for people in scenes.values():
        for who in people:
            counts[who] = counts.get(who, 0) + 1
    chosen = max(counts, key=lambda who: counts[who], default=None) if person is None else person
    if chosen is None or chosen not in counts:
        known = ", ".join(map(str, sorted(counts))) or "nobody"
        wanted = "Nobody" if person is None else f"No person {person}"
        raise BackendError("poses-person", f"{wanted} is in {bodies}; it holds {known}.")
    numbers = sorted(scenes)
    row = {number: i for i, number in enumerate(numbers)}
    joints = np.zeros((len(numbers), JOINT_COUNT, 3), np.float32)
    confidence = np.zeros((len(numbers), JOINT_COUNT), np.float32)
    for number, people in scenes.items():
        if chosen in people:
            _put_body(people[chosen], joints[row[number]], confidence[row[number]])
    for name, prefix in (("hdHand3d", "handRecon3D_hd"), ("hdFace3d", "faceRecon3D_hd")):
        found = next((f for f in (bodies.parent / name, bodies) if f.is_dir() and _numbered(f, prefix)), None)
        for number, path in (_numbered(found, prefix) if found else {}).items():
            people = _people(path, "people") if number in row else {}
            if chosen in people:
                _put_parts(people[chosen], joints[row[number]], confidence[row[number]])
    turned = np.asarray((joints / 100) @ to_z_up("-y").T, np.float32)
    turned[confidence == 0] = 0
    return Motion(turned, confidence, np.array(numbers) / RATE, str(bodies))


def _body_folder(folder: Path) -> Path | None:
    places = [folder, *sorted(folder.glob("hdPose3d*"))] if folder.is_dir() else []
    return next((place for place in places if place.is_dir() and _numbered(place, "body3DScene_")), None)


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    found = ((re.fullmatch(rf"{prefix}(\d+)\.json", path.name), path) for path in folder.glob(f"{prefix}*.json"))
    return {int(match[1]): path for match, path in found if match}


def _people(path: Path, field: str) -> dict[int, Entry]:
    file = Entry({}, path, "", POSES).part(read_json(path, POSES), "")
    people = file.entries(field, "person")
    return {int(p.number("id")): Entry(p.data, path, f"person {p.data['id']}", POSES) for p in people if _real(p)}


def _real(person: Entry) -> bool:
    return person.number("id") >= 0  # -1 fills places of people who are not there


def _put_body(person: Entry, joints: npt.NDArray[np.float32], confidence: npt.NDArray[np.float32]) -> None:
    if "joints19" not in person.data and any(key.startswith("joints") for key in person.data):
        person.fail("'joints19' is missing; only the poses with 19 joints (hdPose3d_stage1_coco19) are read")
    values = person.array("joints19", shape=(19, 4))
    # A score of -1 marks a joint that is not there; others are 0..1, a few slightly above.
    joints[_COLUMNS] = values[:, :3]
    confidence[_COLUMNS] = np.clip(values[:, 3], 0, 1)


def _put_parts(person: Entry, joints: npt.NDArray[np.float32], confidence: npt.NDArray[np.float32]) -> None:
    for name, first, count in _PARTS:
        if name not in person.data:
            continue
        part = person.part(person.data[name], name)
        values = part.array("landmarks", shape=(count, 3))
        scores = part.array("averageScore", shape=(count,)) if "averageScore" in part.data else np.ones(count)
        valid = (values != 0).any(1) & (scores > 0)
        joints[first : first + count] = np.where(valid[:, None], values, 0)
        confidence[first : first + count] = np.where(valid, np.clip(scores, 0, 1), 0)
