# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar render` that is stopped, killed or out of room: whole files stay, and the same command goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from neural_avatar.neural_backend import exr, png
from support.clips import make_clip, names, pixels
from support.commands import run, start
from support.people import standing

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300.0


def test_a_torn_exr_is_drawn_again(avatar: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.npz"), tmp_path / "out"
    arguments = ("render", avatar, clip, "-o", out, "--format", "exr", "--end", 1)
    run(*arguments)
    path = out / "00001.exr"
    whole = path.read_bytes()
    assert exr.read_stamp(path)
    for length in (0, 3, 100, 400, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert exr.read_stamp(path) is None, length
    assert "1 frames" in run(*arguments).stdout
    assert path.read_bytes() == whole


def test_an_interrupted_movie_goes_on_from_its_frames(avatar: Path, tmp_path: Path) -> None:
    clip, movie = make_clip(tmp_path / "clip.npz"), tmp_path / "shot.mp4"
    run("render", avatar, clip, "-o", movie)
    once = _decoded(movie)
    movie.unlink()
    frames = tmp_path / ".shot.frames"
    # What a run that was killed before its last two frames leaves.
    done = _stopped_movie(avatar, clip, movie)
    assert names(frames) and not movie.exists() and done.returncode == 130
    (frames / names(frames)[-1]).unlink()
    again = run("render", avatar, clip, "-o", movie)
    assert "frames were drawn before" in again.stdout
    assert not frames.exists()
    # x264 reads a little beyond what it is given, so that its own noise differs from run to run: pictures, not bytes.
    apart = np.abs(_decoded(movie)[:, None] - once).mean((2, 3, 4))
    assert apart.diagonal().max() < 1 and (apart + 10 * np.eye(len(once))).min() > 1, apart


def _decoded(movie: Path) -> npt.NDArray[np.int64]:
    with av.open(str(movie)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.int64)


def _stopped_movie(avatar: Path, clip: Path, movie: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import runpy, sys\n"
        f"package = runpy.run_path({str(ROOT / 'neural_backend' / 'start.py')!r})['load_package']().__name__\n"
        "from neural_avatar.neural_backend import video\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "video.encode = stop\n"
        "from neural_avatar.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "render", str(avatar), str(clip), "-o", str(movie)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_stopping_leaves_whole_frames_only(avatar: Path, tmp_path: Path, devices: str, sent: signal.Signals) -> None:
    clip, out = make_clip(tmp_path / "clip.npz", 400), tmp_path / "out"
    process = start("render", avatar, clip, "-o", out, "--devices", devices, start_new_session=True)
    _wait_for(lambda: len(names(out)) > 5, process)
    os.killpg(process.pid, sent)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 130 and "same command goes on" in said and "Traceback" not in said
    assert 5 < len(names(out)) < 400
    for name in names(out):
        assert png.read_stamp(out / name), name
        pixels(out / name)


def _wait_for(happened: Any, process: subprocess.Popen[str]) -> None:
    """Look again and again, for as long as the process lives."""
    look = threading.Event()
    while not happened():
        assert process.poll() is None, process.communicate()
        look.wait(0.02)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


@pytest.fixture(params=["file-size", "tmpfs"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A folder that soon is full, and what has to be done in the process for that."""
    folder = tmp_path / "full"
    folder.mkdir()
    if request.param == "file-size":
        yield folder, _limit
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("NO SMALL DISK: only root may mount one")
    try:
        yield folder, None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["png", "exr", "mp4"])
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_full_disk_is_explained(
    avatar: Path, tmp_path: Path, small_disk: tuple[Path, Any], kind: str, devices: str
) -> None:
    folder, prepare = small_disk
    noise = np.random.default_rng(0).normal(0, 1e-3, (12, 25, 3)).astype(np.float32)
    clip = make_clip(tmp_path / "clip.npz", 12, joints=standing() + noise, width=130, height=162)
    out = folder / ("shot.mp4" if kind == "mp4" else "out")
    process = start("render", avatar, clip, "-o", out, "--format", kind, "--devices", devices, preexec_fn=prepare)
    _, said = process.communicate(timeout=LIMIT)
    last = said.strip().splitlines()[-1]
    assert process.returncode == 1 and "Traceback" not in said, said
    assert str(folder) in last and "cannot be written" in last and last.endswith("."), said
    frames = folder / ".shot.frames" if kind == "mp4" else out
    assert not [name for name in names(frames) + names(folder) if name.endswith(".tmp")]
    for name in names(frames):
        assert (exr if kind == "exr" else png).read_stamp(frames / name), name
    assert not (folder / "shot.mp4").exists()
