# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several test files ask for; what takes long is made once. `conftest.py` names this module, so all that
one of them needs is imported when it is asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import numpy as np

    from neural_avatar.neural_backend.interface.client import BackendSession
    from neural_avatar.training.footage.records import Detections


@pytest.fixture(scope="session")
def avatar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person without a network, in smooth colours."""
    from support.people import make_avatar

    return make_avatar(tmp_path_factory.mktemp("avatar") / "person.avatar")


# ---- the border between the processes


@pytest.fixture
def frames_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Frames of a test lie in a folder of its own, so that what is left behind can be seen."""
    folder = tmp_path / "frames"
    folder.mkdir()
    monkeypatch.setenv("NEURAL_AVATAR_FRAMES", str(folder))
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The program of a backend that draws test patterns."""
    from support.border import BACKEND

    path = tmp_path / "backend.py"
    path.write_text(BACKEND)
    return path


@pytest.fixture
def session(tmp_path: Path, script: Path, frames_folder: Path) -> Iterator[BackendSession]:
    """A session of that backend, which must leave no frame behind."""
    from neural_avatar.neural_backend.interface.client import BackendSession
    from support.border import LIMIT

    made = BackendSession(sys.executable, tmp_path / "log" / "backend.log", start_timeout=LIMIT, script=script)
    yield made
    made.close()
    assert list(frames_folder.iterdir()) == [], "nothing is left behind"


# ---- setting up the backend


@pytest.fixture
def plain_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip without this machine's settings, and a PATH without uv."""
    for variable in [v for v in os.environ if v.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")


# ---- footage


@pytest.fixture(scope="session")
def shoot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """films/CAMERA/*.png, poses/CAMERA/*.json, masks/CAMERA/*.png and cameras.json of three cameras."""
    from support.shoot import write_shoot

    return write_shoot(tmp_path_factory.mktemp("shoot"))


@pytest.fixture(scope="session")
def made(shoot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset made of the shoot in one go, its work kept."""
    from support.shoot import arguments, run

    output = tmp_path_factory.mktemp("made") / "person"
    run(arguments(shoot, output, "--heldout", "right", "--keep"))
    return output


@pytest.fixture(scope="session")
def film(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """A film of one person for 18 frames, and their true masks."""
    from support.pose_films import film_of_one

    return film_of_one(shared, tmp_path_factory.mktemp("film") / "one.mp4")


@pytest.fixture(scope="session")
def found(film: tuple[Path, list[np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Detections, Path]:
    """What is found in the film of one person, in chunks of 6 frames, and where it is kept."""
    from neural_avatar.training.footage import holistic
    from neural_avatar.training.footage.pose import PoseOptions, detect
    from neural_avatar.training.footage.video import open_source

    if not holistic.available():
        pytest.skip("MEDIAPIPE MISSING: poses are not tested")
    folder = tmp_path_factory.mktemp("pose")
    return detect(open_source(film[0]), folder, PoseOptions(chunk=6)), folder
