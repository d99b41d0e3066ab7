# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes, and what is done without them in folders that know none."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from neural_avatar.neural_backend.interface import frame_folder, locks
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.footage.alone import alone_in


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that knows no locks."""
    if sys.platform == "win32":
        pytest.skip("another way of locking")
    import fcntl

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    held = locks.take(tmp_path / "new" / "a.lock")
    assert held is not None and locks.take(tmp_path / "new" / "a.lock") is None
    held.close()
    again = locks.take(tmp_path / "new" / "a.lock")
    assert again is not None
    again.close()


@pytest.mark.usefixtures("lockless")
def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path: Path) -> None:
    for _ in range(2):
        held = locks.take(tmp_path / "a.lock")
        assert held is not None
        held.close()


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    with alone_in(tmp_path / "work"):
        with pytest.raises(BackendError) as caught, alone_in(tmp_path / "work"):
            pytest.fail("both are at work")
        assert caught.value.code == "footage-busy"
        with alone_in(tmp_path / "other"):
            pass
    with alone_in(tmp_path / "work"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("lockless")
def test_a_folder_of_frames_stays_where_nothing_tells_whether_its_owner_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_FRAMES", str(tmp_path))
    living = frame_folder.FrameFolder(tmp_path)
    assert frame_folder.sweep() == [] and living.path.is_dir()
    living.close()
    assert not list(tmp_path.iterdir())
