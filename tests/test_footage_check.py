# SPDX-License-Identifier: GPL-3.0-or-later
"""What `neural-avatar footage` says of its result: the report, and the check, which finds out a spoilt dataset."""

from __future__ import annotations

import base64
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS
from neural_avatar.training.footage.bones import body_height
from support.shoot import edit_json, run


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_report_is_self_contained(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", text) and "http" not in text and "url(" not in text
    assert "prefers-color-scheme:dark" in text
    pictures = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    assert len(pictures) >= 3 * 3
    for source in pictures:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.std() > 5
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 8
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    # The person looks at the cameras, more or less: the back was never seen.
    assert "Hardly anything is seen of the" in text and "back" in text


def test_the_report_measures_the_person_as_height_does(made: Path) -> None:
    with np.load(made / "joints.npz") as data:
        tall = body_height(data["joints"], data["confidence"])
    assert f"the person is about {tall:.2f} m tall" in (made / "report.html").read_text("utf-8")


def test_what_is_said_of_several_cameras_alike_is_said_once(made: Path) -> None:
    text = (made / "report.html").read_text("utf-8")
    said = re.findall(r"<b>(\w+): the person is only \d+ pixels tall (.*?)\.</b>", text)
    assert said == [("left", "(middle, right alike)")]


def test_a_sound_dataset_passes(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "copy")
    (tmp_path / "copy" / "report.html").unlink()
    assert "sound" in run(["--check", str(tmp_path / "copy"), "--report"])
    assert "How it was made" in (tmp_path / "copy" / "report.html").read_text("utf-8")


def test_the_older_layout_passes(footage: Path, tmp_path: Path) -> None:
    assert "1272 pictures; sound" in run(["--check", str(footage)])


def _change_npz(path: Path, name: str, change: Any) -> None:
    with np.load(path) as data:
        arrays = dict(data)
    change(arrays[name])
    np.savez(path, **arrays)


def _lose(folder: Path) -> None:
    (folder / "images" / "left" / "00005.png").unlink()


def _damage(folder: Path) -> None:
    (folder / "images" / "left" / "00005.png").write_bytes(b"PNG?")


def _shrink(folder: Path) -> None:
    cv2.imwrite(str(folder / "images" / "left" / "00005.png"), np.zeros((10, 10, 4), np.uint8))


def _blank(folder: Path) -> None:
    for path in (folder / "images" / "middle").glob("*.png"):
        cv2.imwrite(str(path), np.zeros_like(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))


def _move_camera(folder: Path) -> None:
    edit_json(folder / "cameras.json", lambda d: d["cameras"][2].update(t=[0.6, 0.1, 3.4]))


def _stretch(joints: npt.NDArray[np.float32]) -> None:
    joints[:40, BODY_JOINTS.index("LWrist")] += 0.4


def _centimetres(joints: npt.NDArray[np.float32]) -> None:
    joints *= 100


def _no_training(split: npt.NDArray[np.str_]) -> None:
    split[:] = "test_near"


def _nan_window(K: npt.NDArray[np.float64]) -> None:
    K[3, 1] = np.nan


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lose, ("00005.png", "cannot be read")),
        (_damage, ("00005.png", "damaged")),
        (_shrink, ("00005.png", "10x10")),
        (_blank, ("middle", "mask is empty in 130 pictures")),
        (_move_camera, ("right disagrees with the joints",)),
        (lambda f: _change_npz(f / "joints.npz", "joints", _stretch), ("left forearm", "rows 0-39")),
        (lambda f: _change_npz(f / "joints.npz", "joints", _centimetres), ("joints are metres",)),
        (lambda f: _change_npz(f / "joints.npz", "split", _no_training), ("no picture to train on",)),
        (lambda f: _change_npz(f / "frames.npz", "K", _nan_window), ("frames.npz", "row 3")),
        (lambda f: (f / "joints.npz").unlink(), ("joints.npz is missing",)),
        (lambda f: (f / "cameras.json").write_text("{"), ("cameras.json cannot be understood",)),
    ],
)
def test_a_spoilt_dataset_is_found_out(spoil: Any, words: tuple[str, ...], made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    spoil(copy)
    said = run(["--check", str(copy)], 1)
    assert all(word in said for word in words), said
