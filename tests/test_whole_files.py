# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are whole or not there: a failure leaves the former one, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from neural_avatar.neural_backend.interface.files import whole


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"former"])
def test_a_failure_leaves_the_former_file_and_no_temporary_one(
    tmp_path: Path, alone: bool, error: type[BaseException], before: bytes | None
) -> None:
    path = tmp_path / "a.json"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(error), whole(path, alone) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if before is None else {"a.json": before})


@pytest.mark.parametrize("alone", [False, True])
def test_a_file_takes_the_former_ones_place_when_it_is_whole(tmp_path: Path, alone: bool) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"former")
    with whole(path, alone) as temporary, temporary.open("wb") as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"former" and temporary.parent == tmp_path
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]


@pytest.mark.parametrize("alone", [False, True])
def test_what_cannot_take_its_place_is_removed(tmp_path: Path, alone: bool) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError), whole(tmp_path / "taken", alone) as temporary:
        temporary.write_bytes(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_several_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole(path) as first:
        first.write_bytes(b"first")
        with whole(path) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"first"]


def test_what_a_kill_has_left_goes_with_the_next_attempt_of_a_lone_writer(tmp_path: Path) -> None:
    (tmp_path / "a.json.tmp").write_bytes(b"half")
    with whole(tmp_path / "a.json", alone=True) as temporary:
        temporary.write_bytes(b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"new"]
