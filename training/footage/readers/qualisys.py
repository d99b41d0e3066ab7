# SPDX-License-Identifier: GPL-3.0-or-later
"""Qualisys' calibration export (.qca.txt): XML, millimetres, 64ths of a pixel, camera axes with y up and z
backwards."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from ....neural_backend.interface.messages import BackendError
from ..records import CalibratedCamera
from .cameras import calibrated, opencv_centres
from .fields import CALIBRATION, Entry, read_text


def read_qualisys(path: Path) -> tuple[CalibratedCamera, ...]:
    """The video cameras of an export, in the file's order. Qualisys' worlds have Z up.

    Cameras that only see markers have no picture and are left out. The lens's coefficients have no unit and are taken
    as they stand; Pose2Sim's conversion to Calib.toml divides them by 64, as if they were pixels. Raises BackendError
    'calibration-corrupt'.
    """
    text = read_text(path, CALIBRATION)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise BackendError(CALIBRATION, f"{path} defines entities, which no Qualisys export does; export it again.")
    try:
        # The declared encoding holds for bytes; this is text already.
        root = ElementTree.fromstring(text[text.find("?>") + 2 :] if text.lstrip().startswith("<?xml") else text)
    except ElementTree.ParseError as error:
        raise BackendError(CALIBRATION, f"{path} is no whole XML file ({error}); export it again.") from error
    cameras = [
        _camera(node, Entry(dict(node.attrib), path, f"camera {node.get('serial', str(i))}", CALIBRATION))
        for i, node in enumerate(root.iter("camera"))
        if node.get("model") in (None, "none", "") or "video" in str(node.get("model")).lower()
    ]
    return tuple(cameras)


def _child(node: ElementTree.Element, entry: Entry, *tags: str) -> Entry:
    for tag in tags:
        child = node.find(tag)
        if child is not None:
            return Entry(dict(child.attrib), entry.file, f"{entry.where}, {tag}", entry.code)
    entry.fail(f"<{tags[0]}> is missing")


def _camera(node: ElementTree.Element, entry: Entry) -> CalibratedCamera:
    view, inner, outer = (_child(node, entry, tag) for tag in ("fov_video", "intrinsic", "transform"))
    left, top, right, bottom = (view.number(side) for side in ("left", "top", "right", "bottom"))
    width, height = view.pixels(right - left + 1, "right"), view.pixels(bottom - top + 1, "bottom")
    focal = [inner.number(f"focalLength{axis}") / 64 for axis in "UV"]
    centre = [inner.number(f"centerPoint{axis}") / 64 - edge for axis, edge in (("U", left), ("V", top))]
    K = np.array([[focal[0], inner.number("skew") / 64, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
    lens = [inner.number(key) for key in ("radialDistortion1", "radialDistortion2", "tangentalDistortion1",
                                          "tangentalDistortion2", "radialDistortion3")]  # fmt: skip
    # r11 r12 r13 is the camera's x axis in the world, and so on: rows, world to camera.
    rows = np.array([[outer.number(f"r{i}{j}") for j in (1, 2, 3)] for i in (1, 2, 3)])
    R = np.diag([1.0, -1.0, -1.0]) @ rows
    t = -R @ np.array([outer.number(axis) for axis in "xyz"]) / 1000
    if entry.data.get("viewrotation", "0") not in ("0", "360"):
        # Whether the films were saved turned is not in the file.
        entry.fail("its 'viewrotation' is not 0, which is not understood; convert the file with Pose2Sim to Calib.toml")
    return calibrated(entry, entry.text("serial"), (width, height), opencv_centres(K), R, t, lens, up="z")
