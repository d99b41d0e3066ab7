# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up the backend: real environments, real pip, packages made here; no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from neural_avatar.addon.setup import build, home, machine, pythons, selftest
from neural_avatar.addon.setup.job import Job
from neural_avatar.neural_backend.interface.messages import BackendError
from support.backend_setup import NAMES, Index, make_wheel, posix

ROOT = Path(__file__).resolve().parent.parent
AVATAR = next((ROOT / "assets").glob("*.avatar"))
pytestmark = pytest.mark.usefixtures("plain_pip")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline archive: a folder of wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in NAMES.items():
        make_wheel(folder, name, version)
    return folder


def plan(place: Path, archive: Path | None, index: str = "", uv: str = "") -> build.Plan:
    """As for a machine without a GPU, with the Python that runs the tests; small enough for any disk."""
    base = pythons.Base(sys.executable, ".".join(map(str, sys.version_info[:3])), "the tests' Python", uv)
    return build.Plan(place, base, machine.Wheels("CPU", (index,), "a test"), archive)


def finish(job: Job) -> str:
    """What a job gives, within a minute; its error is raised."""
    assert job.wait(100), job.now
    if job.error is not None:
        raise job.error
    return str(job.result)


def make(what: build.Plan, avatar: Path | None = None) -> str:
    return finish(Job("Set-up", lambda job: build.build(what, job, "cpu", avatar), what.home / home.LOG))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """A home with an environment, to be copied."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        make(plan(place, archive))
    return place


@pytest.fixture
def ready(made: Path, tmp_path: Path) -> Path:
    """A home of the test's own with an environment in it."""
    shutil.copytree(made, tmp_path / "ready", symlinks=True)
    return tmp_path / "ready"


@pytest.mark.parametrize("zipped", [False, True])
def test_an_archive_becomes_an_environment_that_draws(tmp_path: Path, archive: Path, zipped: bool) -> None:
    place = tmp_path / "Añimation studio (neu) 工房" / "backend"
    place.mkdir(parents=True)
    source = Path(shutil.make_archive(str(tmp_path / "all the wheels"), "zip", archive)) if zipped else archive
    said = make(plan(place, source), None if zipped else AVATAR)
    assert said.startswith("Ready: PyTorch 2.") and "cpu" in said
    environment, test = home.current(place), home.tested(place)
    assert environment is not None and environment.wheels == "CPU" and home.is_whole(place)
    assert test is not None and test.devices[-1] == "cpu" and test.executable == home.python(place)
    assert not test.error and home.unfinished(place) == ""
    assert zipped or (test.device == "CPU" and test.seconds > 0)
    assert sorted(p.name for p in place.iterdir() if p.is_dir()) == [environment.folder]
    where = subprocess.run([home.python(place), "-I", "-c", "import sys; print(sys.prefix)"], capture_output=True)
    assert Path(where.stdout.decode().strip()) == place / environment.folder


def test_repair_replaces_a_broken_environment(ready: Path, archive: Path) -> None:
    first = home.current(ready)
    (found,) = (ready / first.folder).rglob("genuine_torch.pth")
    found.unlink()  # as a virus scanner would
    with pytest.raises(BackendError, match=r"PyTorch cannot be used.*Press Repair"):
        selftest.run(home.python(ready), "cpu", ready / home.LOG, threading.Event())
    make(plan(ready, archive))
    second = home.current(ready)
    assert second.folder != first.folder and not (ready / first.folder).exists()
    assert selftest.run(home.python(ready), "cpu", ready / home.LOG, threading.Event()).torch


def _children(mark: Path) -> list[int]:
    """Processes whose command line names a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(mark) in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@posix
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to find pip")
@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_pip_that_ends_midway_leaves_what_was_and_repair_heals(
    tmp_path: Path, archive: Path, ready: Path, how: str
) -> None:
    index = Index(archive, stall=True)
    if how == "cancelled":
        tmp_path = ready
    before = home.current(tmp_path)
    try:
        job = Job("Set-up", lambda job: build.build(plan(tmp_path, None, index.url), job, "cpu"), tmp_path / home.LOG)
        assert index.stalled.wait(60)
        assert 0 <= job.fraction < 1 and "Downloading PyTorch" in job.now
        with pytest.raises(BackendError, match="Another Blender"):
            make(plan(tmp_path, archive))
        if how == "killed":
            for pid in _children(tmp_path):
                os.kill(pid, signal.SIGKILL)
        else:
            job.cancel()
        assert job.wait(30)
    finally:
        index.close()
    assert job.error.code == ("setup-killed" if how == "killed" else "cancelled")
    assert _children(tmp_path) == []
    assert home.current(tmp_path) == before
    assert home.unfinished(tmp_path) == job.error.message
    assert make(plan(tmp_path, archive)).startswith("Ready")
    assert home.unfinished(tmp_path) == "" and home.is_whole(tmp_path)
    assert len([p for p in tmp_path.glob("env*") if p.is_dir()]) == 1 and not home.cache(tmp_path).exists()


def test_from_an_index(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_only, rest, empty, place = (tmp_path / name for name in ("torch index", "rest", "nothing", "home"))
    for folder in (torch_only, rest, empty, place):
        folder.mkdir()
    for wheel in archive.iterdir():
        shutil.copy(wheel, torch_only if wheel.name.startswith("torch") else rest)
    first, second, lacking = Index(torch_only), Index(rest), Index(empty)
    monkeypatch.setenv("PIP_INDEX_URL", second.url)  # pip's own, as a company's settings would have it
    base = plan(place, None).base
    try:
        # The best index has no PyTorch for this Python: the next one has.
        wheels = machine.Wheels("CPU", (lacking.url, first.url), "a test")
        assert make(build.Plan(place, base, wheels)).startswith("Ready")
        with pytest.raises(BackendError) as caught:
            make(build.Plan(place, base, machine.Wheels("CPU", (lacking.url,), "a test")))
        assert caught.value.code == "setup-no-wheel" and home.is_whole(place)
    finally:
        for index in (first, second, lacking):
            index.close()


def test_an_archive_is_made_and_serves(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, place, target = Index(archive), tmp_path / "home", tmp_path / "archives"
    place.mkdir(), target.mkdir()
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    try:
        online = plan(place, None, index.url)
        said = finish(Job("Archive", lambda job: build.make_archive(online, target, job), place / home.LOG))
    finally:
        index.close()
    (made,) = target.iterdir()
    assert str(made) in said and home.leftovers(place) == []
    assert {p.name.split("-")[0] for p in made.iterdir()} == set(NAMES)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    assert make(plan(place, made)).startswith("Ready")


def test_no_network_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        make(plan(tmp_path, None, "http://127.0.0.1:1/simple"))
    assert caught.value.code == "setup-no-network" and "offline archive" in caught.value.message
    assert home.unfinished(tmp_path) == caught.value.message
    assert [p for p in tmp_path.iterdir() if p.is_dir() and p.name != "cache"] == []


def test_no_room_is_said_before_anything_is_done(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.check_space(tmp_path / "not there yet", 100, free=101_000_000)
    with pytest.raises(BackendError, match=r"needs 0.1 GB.* has 0.1 GB left"):
        home.check_space(tmp_path, 100, free=99_000_000)
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: full)
    with pytest.raises(BackendError) as caught:
        make(plan(tmp_path, archive))
    assert caught.value.code == "setup-no-space"
    assert home.leftovers(tmp_path) == []


def test_leftovers_go(ready: Path) -> None:
    assert home.sweep(ready / "nowhere") == []
    (ready / "env9" / "lib").mkdir(parents=True)
    (ready / "env9" / "lib" / "torch.dll").touch()
    assert [p.name for p in home.leftovers(ready)] == ["env9"]
    assert home.sweep(ready) == [] and not (ready / "env9").exists()
    held = home.lock(ready)
    with pytest.raises(BackendError, match="Another Blender"):
        home.remove(ready)
    held.close()
    assert home.is_whole(ready)
    assert home.remove(ready) == "The environment was removed."
    assert home.current(ready) is None and home.tested(ready) is None and home.leftovers(ready) == []


def test_files_that_are_held_are_out_of_use_at_once(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as on Windows while a library is loaded
        assert "deleted when Blender starts next" in home.remove(ready)
    assert home.python(ready) == "" and len(home.leftovers(ready)) == 1
    assert home.sweep(ready) == []


def test_an_environment_whose_base_has_gone_is_not_whole(ready: Path) -> None:
    Path(home.python(ready)).unlink()
    assert home.current(ready) is not None and not home.is_whole(ready)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"folder": 1}'])
def test_a_marker_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    for name in (home.MARKER, home.TESTED, home.UNFINISHED):
        (tmp_path / name).write_text(text)
    assert home.current(tmp_path) is None and home.tested(tmp_path) is None and home.unfinished(tmp_path) == ""


def test_archives_that_are_none(tmp_path: Path, archive: Path) -> None:
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    for wrong in (tmp_path, text, tmp_path / "nowhere"):
        with pytest.raises(BackendError, match="Make Offline Archive"):
            build.make_plan(tmp_path, archive=wrong, online=False)
    with pytest.raises(BackendError, match="Allow Online Access"):
        build.make_plan(tmp_path, online=False)
    assert build.make_plan(tmp_path, archive=archive, online=False).download_mb == 0


#: From the tests' own environment, or the user's.
UV = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")


@pytest.mark.skipif(not UV, reason="UV MISSING: the way through uv is not tested")
def test_uv_makes_the_environment_where_it_is_present(tmp_path: Path, archive: Path) -> None:
    assert make(plan(tmp_path, archive, uv=UV), AVATAR).startswith("Ready")
    assert "uv = " in (tmp_path / home.current(tmp_path).folder / "pyvenv.cfg").read_text()


@posix
def test_in_blender(bpy_python: Path, extension_zip: Path, archive: Path, tmp_path: Path) -> None:
    """Buttons of the preferences, in an installed extension; Blender's own Python is the base."""
    (tmp_path / "no programs").mkdir()
    environment = {
        **os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "config"), "PATH": str(tmp_path / "no programs"),
        "NEURAL_AVATAR_DEVICE": "cpu",
    }  # fmt: skip
    environment.pop("NEURAL_AVATAR_PYTHON", None)
    script = ROOT / "tests" / "blender" / "setting_up.py"
    done = subprocess.run(
        [bpy_python, "-B", script, extension_zip, AVATAR, archive, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    told = next(json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("@{"))
    assert "Allow Online Access" in told["offline"] and "Make Offline Archive" in told["no archive"]
    assert told["agree to nothing"] is False and told["before"] is False
    assert "nothing is downloaded" in told["plan"][1] and "Blender's own Python" in told["plan"][3]
    assert told["said"].startswith("Ready: PyTorch 2.")
    place = Path(told["home"])
    assert place in Path(told["python"]).parents and tmp_path / "config" in place.parents
    assert [device for device, _ in told["devices"]][:1] == ["auto"] and "cpu" in dict(told["devices"])
    assert "a frame on CPU took" in told["test"] and "PyTorch 2." in told["report"]
    assert told["error"] == "" and (tmp_path / "frame.exr").exists()
    assert told["cancelled"] == "cancelled" and told["still"] is True
    assert told["removed"] == "The environment was removed." and told["left"] == []
    assert "press Set Up" in told["after"]
    assert _children(place) == []
    assert home.current(place) is None
