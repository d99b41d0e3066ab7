# SPDX-License-Identifier: GPL-3.0-or-later
"""TRC: marker positions as OpenSim and Pose2Sim write them, tab-separated, five lines before the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

import numpy as np

from ....neural_backend.interface.messages import BackendError
from ....neural_backend.interface.skeleton import INDEX, JOINT_COUNT, JOINTS
from ..records import Motion
from .bvh import to_metres
from .fields import POSES, read_text

_UNITS = {"m": 1.0, "meters": 1.0, "metres": 1.0, "cm": 0.01, "mm": 0.001, "millimeters": 0.001, "in": 0.0254}

#: Markers that other programs call otherwise, without case and separators.
_OTHER = {
    "hip": "MidHip", "chip": "MidHip", "pelvis": "MidHip", "midhips": "MidHip", "hips": "MidHip", "thorax": "Neck",
    "chest": "Neck", "rtoe": "RBigToe", "ltoe": "LBigToe", "rfootindex": "RBigToe", "lfootindex": "LBigToe",
}  # fmt: skip


def _plain(name: str) -> str:
    bare = re.sub(r"[\s_.\-]", "", name).lower()
    for word, side in (("left", "l"), ("right", "r")):
        if bare.startswith(word):
            return side + bare[len(word) :]
    return bare


_NAMES = {_plain(name): name for name in JOINTS} | _OTHER


def read_trc(path: Path, up: str = "") -> Motion:
    """Motion in metres, Z up. up: the file's axis that points up; '' finds it from the motion (it is Y in OpenSim's
    world).

    Markers are known by BODY_25's, HALPE_26's and COCO's names ('RBigToe', 'right_knee'); others, such as 'Head', are
    left out. Places without numbers are absent. Raises BackendError 'poses-corrupt'.
    """
    lines = read_text(path, POSES).splitlines()

    def fail(line: int, what: str) -> NoReturn:
        raise BackendError(POSES, f"{path}, line {line}: {what}; export the TRC again.")

    if len(lines) < 5 or not lines[0].startswith("PathFileType"):
        fail(1, "a TRC begins with PathFileType, and has five lines before its frames")
    header = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    unit = _UNITS.get(header.get("Units", "").lower())
    if unit is None:
        fail(3, f"'Units' must be m, cm or mm, not {header.get('Units', 'left out')!r}")
    markers = [cell.strip() for cell in lines[3].split("\t")[2:] if cell.strip()]
    columns = {i: _NAMES[_plain(name)] for i, name in enumerate(markers) if _plain(name) in _NAMES}
    if not columns:
        fail(4, f"none of its markers is a joint by name ({', '.join(markers[:5])}…)")
    rows, times = [], []
    for n, line in enumerate(lines[5:], 6):
        if not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        cells += [""] * (2 + 3 * len(markers) - len(cells))
        if any(cell.strip() for cell in cells[2 + 3 * len(markers) :]):
            fail(n, f"{len(cells) - 2} numbers for {len(markers)} markers")
        try:
            values = [float(cell) if cell.strip() else float("nan") for cell in cells[1 : 2 + 3 * len(markers)]]
        except ValueError as error:
            fail(n, str(error))
        times.append(values[0])
        rows.append(values[1:])
    if not rows:
        fail(len(lines), "it has no frames")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        fail(6, "its times do not grow from frame to frame")
    places = np.array(rows).reshape(len(rows), len(markers), 3)
    joints, confidence = np.zeros((len(rows), JOINT_COUNT, 3)), np.zeros((len(rows), JOINT_COUNT), np.float32)
    for marker, joint in columns.items():
        known = np.isfinite(places[:, marker]).all(-1) & (places[:, marker] != 0).any(-1)
        joints[:, INDEX[joint]] = np.where(known[:, None], places[:, marker], 0)
        confidence[:, INDEX[joint]] = known
    for name, left, right in (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip")):
        sides = [INDEX[left], INDEX[right]]
        half = (confidence[:, INDEX[name]] == 0) & (confidence[:, sides] > 0).all(1)
        joints[half, INDEX[name]] = joints[half][:, sides].mean(1)
        confidence[half, INDEX[name]] = 1
    return to_metres(joints, confidence, np.array(times), path, up, unit)
