# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens while a checkpoint is written, a good one remains: Ctrl-C, a kill, a full disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.checkpoint import Checkpoint, read_checkpoint, remove_torn, write_checkpoint

SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip
#: Writes one checkpoint after another, each large enough to be caught at it, and never ends by itself.
WRITER = """
import runpy, sys
from pathlib import Path
runpy.run_path(sys.argv[1])["load_package"]()
import torch
from neural_avatar.training.checkpoint import Checkpoint, write_checkpoint
step = 0
while True:
    step += 1
    tensors = {"a": torch.full((4_000_000,), float(step))}
    write_checkpoint(Path(sys.argv[2]), Checkpoint(tensors, {"step": step}))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_signal_in_the_middle_of_writing_leaves_a_good_checkpoint(
    root: Path, tmp_path: Path, number: signal.Signals, share: float
) -> None:
    start = root / "neural_backend" / "start.py"
    words = [sys.executable, "-c", WRITER, str(start), str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    written = 0
    while written < max(share * 16e6, 1) or not (tmp_path / "checkpoint.previous.safetensors").exists():
        written = 0
        for path in (*tmp_path.glob("*.tmp"), *tmp_path.glob(".tmp*")):
            with contextlib.suppress(OSError):  # renamed since
                written = path.stat().st_size
        assert process.poll() is None, process.communicate()[0]
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    found = read_checkpoint(tmp_path)
    assert found is not None
    assert (found.tensors["a"] == found.state["step"]).all() and found.state["step"] >= 1
    remove_torn(tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if "tmp" in path.name]


NEWEST, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


def put(folder: Path, step: int) -> None:
    """Write the checkpoint of a step."""
    write_checkpoint(folder, Checkpoint({"a": torch.full((1000,), float(step))}, {"step": step}))


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def step_of(folder: Path) -> int:
    """The step of the checkpoint that is read, its numbers being that step's too; 0 where none can be read."""
    try:
        found = read_checkpoint(folder)
    except BackendError:
        found = None
    assert found is None or (found.tensors["a"] == found.state["step"]).all()
    return 0 if found is None else int(found.state["step"])


def test_a_torn_checkpoint_never_takes_the_place_of_a_good_one(tmp_path: Path) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2)
    tear(tmp_path / NEWEST)
    assert step_of(tmp_path) == 1
    put(tmp_path, 3)
    assert step_of(tmp_path) == 3
    tear(tmp_path / NEWEST)
    assert step_of(tmp_path) == 1
    put(tmp_path, 4)
    put(tmp_path, 5)
    tear(tmp_path / NEWEST)
    assert step_of(tmp_path) == 4  # once there are good ones again, it is the one before that is kept


@pytest.mark.parametrize("newest", ["good", "torn", "missing"])
@pytest.mark.parametrize("previous", ["good", "torn", "missing"])
def test_at_every_moment_of_writing_a_good_checkpoint_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newest: str, previous: str
) -> None:
    """What lies in the folder before and after each change of a name is what a kill there would leave."""
    folder, moments = tmp_path / "run", list[Path]()
    folder.mkdir()
    put(folder, 1)
    put(folder, 2)
    for name, state in ((NEWEST, newest), (PREVIOUS, previous)):
        if state == "torn":
            tear(folder / name)
        elif state == "missing":
            (folder / name).unlink()
    known = 2 if newest == "good" else 1 if previous == "good" else 0

    def watched(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            moments.append(shutil.copytree(folder, tmp_path / str(len(moments))))
            done = change(*arguments, **options)
            moments.append(shutil.copytree(folder, tmp_path / str(len(moments))))
            return done

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "rename", "link", "unlink", "remove"):
            patch.setattr(os, name, watched(getattr(os, name)))
        put(folder, 3)
    assert moments and step_of(folder) == 3
    for moment in moments:
        found = step_of(moment)
        assert found >= known
        put(moment, 4)  # the run goes on from there,
        assert step_of(moment) == 4
        tear(moment / NEWEST)  # and is as safe as ever
        assert step_of(moment) == found


@pytest.mark.parametrize("change", range(2))
@pytest.mark.parametrize("before", [True, False])
def test_ctrl_c_between_two_changes_of_a_name_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: int, before: bool
) -> None:
    put(tmp_path, 1)
    put(tmp_path, 2)
    replace, done = os.replace, list[Any]()

    def interrupted(*names: Any) -> None:
        done.append(names)
        if len(done) - 1 == change and before:
            raise KeyboardInterrupt
        replace(*names)
        if len(done) - 1 == change:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        put(tmp_path, 3)
    assert step_of(tmp_path) == (3 if change == 1 and not before else 2)
    assert not [path.name for path in tmp_path.iterdir() if "tmp" in path.name]
    put(tmp_path, 4)
    tear(tmp_path / NEWEST)
    assert step_of(tmp_path) >= 2


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what a process has mapped")
def test_a_checkpoint_that_was_read_is_held_by_nobody(tmp_path: Path) -> None:
    """Windows replaces no file that a process has mapped into its memory: a resumed run could not write another."""
    write_checkpoint(tmp_path, Checkpoint({"a": torch.ones(1_000_000)}, {"step": 1}))
    found = read_checkpoint(tmp_path)
    assert found is not None and str(tmp_path) not in Path("/proc/self/maps").read_text("utf-8")
    assert float(found.tensors["a"].sum()) == 1_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files is POSIX")
def test_a_full_disk_costs_no_checkpoint(root: Path, footage: Path, tmp_path: Path) -> None:
    import resource

    avatar = tmp_path / "person.avatar"

    def train(steps: int, room: int | None = None) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        words = [sys.executable, root, "train", footage, "-o", avatar, "--steps", steps, *SMALL]
        return subprocess.run(list(map(str, words)), env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=limit,
                              capture_output=True, text=True, timeout=300)  # fmt: skip

    said = train(2)
    assert said.returncode == 0, said.stderr
    before, size = avatar.read_bytes(), (tmp_path / "person.avatar.train" / "checkpoint.safetensors").stat().st_size
    folder = avatar.with_name("person.avatar.train")
    (folder / "checkpoint.safetensors.1.tmp").write_bytes(b"left by a killed process")
    said = train(4, room=min(size, len(before)) // 2)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    assert "the one before it is kept" in said.stderr and "person.avatar" in said.stderr.splitlines()[-1]
    found = read_checkpoint(folder)
    assert found is not None and found.state["run"]["step"] == 2 and avatar.read_bytes() == before
    assert not [path.name for path in (*folder.glob("*.tmp"), *tmp_path.glob("*.part"), *tmp_path.glob("*.tmp"))]
    said = train(4)
    assert said.returncode == 0 and "Resuming at step 2." in said.stderr, said.stderr
