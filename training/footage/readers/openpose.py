# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenPose's JSON: a folder with a file for each frame, people with flat lists of x, y, confidence.

Programs that write the same (Pose2Sim, AlphaPose, RTMPose's converters) put other bodies into it; the number of joints
tells which.
"""

from __future__ import annotations

from pathlib import Path

from ....neural_backend.interface.messages import BackendError
from ....neural_backend.interface.skeleton import FACE, LEFT_HAND, RIGHT_HAND
from ..records import Detections
from .fields import POSES, Entry, read_json
from .layouts import BY_COUNT, Found, Keypoints
from .people import Film, detections, number

_PARTS = (
    ("hand_left_keypoints_2d", LEFT_HAND, 21),
    ("hand_right_keypoints_2d", RIGHT_HAND, 21),
    ("face_keypoints_2d", FACE, 70),
)
_REFUSED = {
    15: "OpenPose's MPI model, without feet and face",
    16: "the MPII model, without feet and face",
    18: "OpenPose's COCO model, without feet",
    33: "MediaPipe's 33 joints",
    135: "OpenPose's experimental BODY_135",
}


def read_openpose(folder: Path, film: Film, person: int | None = None) -> Detections:
    """A camera's poses. person: 1 for the largest track, 2 for the next one; None for the largest.

    Raises BackendError 'poses-corrupt', 'poses-person'.
    """
    frames: dict[int, list[Found]] = {}
    for path in sorted(folder.glob("*.json")):
        index = number(path)
        if index is None:
            raise BackendError(POSES, f"{path}: there is no frame number in its name.")
        if index in frames:
            raise BackendError(POSES, f"{path}: another file of this folder is of frame {index} too; part them.")
        frames[index] = _people(path, index)
    return detections(frames, film, person, folder)


def _people(path: Path, index: int) -> list[Found]:
    frame = Entry({}, path, "", POSES).part(read_json(path, POSES), f"frame {index}")
    return [_person(entry) for entry in frame.entries("people", "person")]


def _person(entry: Entry) -> Found:
    keypoints = Keypoints()
    body = entry.array("pose_keypoints_2d").ravel()
    if body.size:  # OpenPose writes an empty list where it found a face or hand alone
        if body.size % 3:
            entry.fail(f"'pose_keypoints_2d' must hold x, y and confidence of each joint, not {body.size} numbers")
        _refuse(entry, body.size // 3)
        values = body.reshape(-1, 3)
        keypoints.add(BY_COUNT[len(values)], values[:, :2], values[:, 2])
    for field, first, count in _PARTS:
        if field in entry.data and len(entry.array(field).ravel()):
            values = entry.array(field, shape=(count, 3))
            keypoints.add(range(first, first + count), values[:, :2], values[:, 2])
    return keypoints.result()


def _refuse(entry: Entry, count: int) -> None:
    if count in BY_COUNT:
        return
    what = _REFUSED.get(count, "a body that is not known")
    entry.fail(f"'pose_keypoints_2d' has {count} joints ({what}); run OpenPose with --model_pose BODY_25")
