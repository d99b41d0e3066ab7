# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up the backend: real environments, real pip, packages made here; no network."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from neural_avatar.addon import locks
from neural_avatar.addon.setup import build, home, machine, programs, pythons, report, runner, selftest
from neural_avatar.addon.setup.job import Job
from neural_avatar.neural_backend.interface.messages import BackendError

ROOT = Path(__file__).resolve().parent.parent
AVATAR = next((ROOT / "assets").glob("*.avatar"))
NAMES = {"torch": "2.13.0+made.here", "numpy": "99.0", "safetensors": "99.0", "pillow": "99.0", "tqdm": "99.0"}
posix = pytest.mark.skipif(os.name != "posix", reason="signals and scripts of POSIX")


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A package of nothing; torch's leads to the packages of the Python that runs the tests."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name == "torch":
        files["genuine_torch.pth"] = sysconfig.get_paths()["purelib"] + "\n"
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in files.items():
            wheel.writestr(each, text)
    return path


@pytest.fixture(autouse=True)
def plain_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip without this machine's settings, and a PATH without uv."""
    for variable in [v for v in os.environ if v.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "1")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An offline archive: a folder of wheels."""
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in NAMES.items():
        make_wheel(folder, name, version)
    return folder


class Index:
    """A package index on this machine. stall: the wheel of torch never arrives whole; `stalled` tells when."""

    def __init__(self, wheels: Path, stall: bool = False) -> None:
        self.stalled, self.let_go = threading.Event(), threading.Event()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                *_, kind, name = self.path.strip("/").split("/")
                if kind == "files":
                    data = (wheels / name.replace("%2B", "+")).read_bytes()
                    self._head(len(data), "application/octet-stream")
                    if stall and name.startswith("torch"):
                        self.wfile.write(data[:100])
                        index.stalled.set()
                        index.let_go.wait(60)
                        return
                    self.wfile.write(data)
                    return
                links = "".join(
                    f'<a href="/files/{p.name}#sha256={hashlib.sha256(p.read_bytes()).hexdigest()}">{p.name}</a>'
                    for p in wheels.glob(f"{name}-*.whl")
                )
                page = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                self._head(len(page), "text/html")
                self.wfile.write(page)

            def _head(self, length: int, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


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


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "setup-no-space"),
        ("error: Failed to write: There is not enough space on the disk. (os error 112)", "setup-no-space"),
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "setup-no-network"),
        ("error: Request failed\n  Caused by: dns error\n  Caused by: failed to lookup address", "setup-no-network"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", "setup-certificate"),
        ("[WinError 5] Access is denied: 'C:\\\\x\\\\torch\\\\lib\\\\torch_cpu.dll'", "setup-locked"),
        ("[WinError 32] The process cannot access the file because it is being used by another", "setup-locked"),
        ("HINT: This error might have occurred since this system does not have Long Path support", "setup-long-path"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "setup-damaged"),
        ("zipfile.BadZipFile: File is not a zip file", "setup-damaged"),
        ("ERROR: No matching distribution found for torch<2.14,>=2.11", "setup-no-wheel"),
        ("× No solution found when resolving dependencies:", "setup-no-wheel"),
        ("ERROR: something quite new", "setup-failed"),
        ("", "setup-failed"),
    ],
)
def test_what_pip_and_uv_say_becomes_a_sentence(tmp_path: Path, said: str, code: str) -> None:
    error = runner.explain(said, ["/x/python", "-m", "pip", "install"], tmp_path, "an index")
    assert error.code == code and error.message.endswith(".") and error.details == said
    assert "{" not in error.message


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


@pytest.mark.parametrize(
    ("here", "kind", "last"),
    [
        (machine.Machine("Linux", "x86_64"), "CPU", "cpu"),
        (machine.Machine("Windows", "AMD64", ("RTX 4090",), 581, 8.9), "CUDA", "cu130"),
        (machine.Machine("Windows", "AMD64", ("RTX 3060",), 531, 8.6), "CUDA", "cu126"),
        (machine.Machine("Linux", "x86_64", ("RTX 5090",), 572, 12.0), "CUDA", "cu128"),
        (machine.Machine("Linux", "x86_64", ("GTX 1080",), 580, 6.1), "CUDA", "cu126"),
        (machine.Machine("Linux", "x86_64", ("GTX 780",), 470, 3.5), "CPU", "cpu"),
        (machine.Machine("Linux", "x86_64", rocm=True), "ROCM", "rocm7.2"),
        (machine.Machine("Darwin", "arm64"), "MPS", ""),
        (machine.Machine("Darwin", "x86_64"), "CPU", ""),
    ],
)
def test_wheels_suit_the_machine(here: machine.Machine, kind: str, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = machine.choose(here)
    assert wheels.kind == kind and wheels.indexes[0].rpartition("/")[2] == last
    assert wheels.reason and wheels.label
    assert machine.choose(here, "CPU").kind == "CPU"
    assert machine.choose(here, index="https://example.org/simple").indexes == ("https://example.org/simple",)
    monkeypatch.setenv(machine.INDEX_VARIABLE, "https://example.org/farm")
    assert machine.choose(here).indexes == ("https://example.org/farm",)


def _program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@posix
def test_the_machine_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.look().gpus == ()
    _program(tmp_path, "nvidia-smi", "echo '580.65.06, 8.9, NVIDIA L4'; echo '580.65.06, 7.0, Tesla V100, 32GB'")
    found = machine.look()
    assert (found.gpus, found.driver, found.capability) == (("NVIDIA L4", "Tesla V100, 32GB"), 580, 7.0)
    _program(
        tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9"
    )
    assert machine.look().gpus == ()


@posix
def test_a_python_is_found_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"Python 3\.11 to 3\.13"):
        pythons.find()
    old = '@{"version": [3, 9, 2], "path": "/usr/bin/python3", "wide": true, "venv": true}'
    bare = '@{"version": [3, 12, 3], "path": "/usr/bin/python3.12", "wide": true, "venv": false}'
    _program(tmp_path, "python3", f"echo '{old}'")
    _program(tmp_path, "python3.12", f"echo '{bare}'")
    with pytest.raises(BackendError) as caught:
        pythons.find()
    assert "3.9.2" in caught.value.details and "3.12.3) lacks the modules venv" in caught.value.details
    found = pythons.find(blender_python=sys.executable)
    assert found.source == "Blender's own Python" and Path(found.path).exists() and not found.uv
    _program(tmp_path, "uv", "exit 2")
    assert pythons.find().source == "the system's Python" and pythons.find().path == "/usr/bin/python3.12"
    (tmp_path / "python3.12").unlink()
    assert pythons.find().brings_python
    with pytest.raises(BackendError):
        pythons.find(download=False)


def test_programs_of_the_present_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows starts a double-clicked blend file in its folder, and looks for programs there first."""
    (tmp_path / "stranger").mkdir(), (tmp_path / "mine").mkdir()
    for folder in ("stranger", "mine"):
        (tmp_path / folder / "uv").write_text("#!/bin/sh\n")
        (tmp_path / folder / "uv").chmod(0o755)
    monkeypatch.chdir(tmp_path / "stranger")
    monkeypatch.setenv("PATH", os.pathsep.join((".", "", str(tmp_path / "mine"))))
    assert programs.find("uv") == str(tmp_path / "mine" / "uv")
    monkeypatch.setenv("PATH", os.pathsep.join((".", "")))
    assert programs.find("uv") == ""


#: From the tests' own environment, or the user's.
UV = shutil.which("uv", path=os.path.dirname(sys.executable)) or shutil.which("uv")


@pytest.mark.skipif(not UV, reason="UV MISSING: the way through uv is not tested")
def test_uv_makes_the_environment_where_it_is_present(tmp_path: Path, archive: Path) -> None:
    assert make(plan(tmp_path, archive, uv=UV), AVATAR).startswith("Ready")
    assert "uv = " in (tmp_path / home.current(tmp_path).folder / "pyvenv.cfg").read_text()


def test_the_plan_says_what_is_asked(tmp_path: Path) -> None:
    base = pythons.Base("", "3.12", "uv", "/usr/bin/uv")
    wheels = machine.choose(machine.Machine("Linux", "x86_64", ("RTX 4090",), 580, 8.9))
    said = " ".join(build.Plan(tmp_path, base, wheels).sentences())
    for part in ("RTX 4090", "3.3 GB", machine.TORCH_INDEX, str(tmp_path), "uv downloads it", "7.2 GB"):
        assert part in said
    assert "nothing is downloaded" in " ".join(build.Plan(tmp_path, base, wheels, tmp_path).sentences())


def test_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {*project["dependencies"], *project["optional-dependencies"]["backend"]}
    assert {machine.TORCH, *machine.REQUIREMENTS} == wanted


def test_the_report_tells_all_but_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "jane"))
    log = tmp_path / "setup.log"
    log.write_text(
        f"index https://jane:hunter2@example.org/simple\n{tmp_path / 'jane'}/blender/env1\nAPI_TOKEN=abc123 end\n"
    )
    text = report.compose({"Blender": "4.2.0", "Error": "a sentence"}, {"Set-up": log, "None": tmp_path / "no.log"})
    for part in ("Blender: 4.2.0", "Error: a sentence", "System: ", "https://***@example.org/simple", "API_TOKEN=***"):
        assert part in text
    for secret in ("hunter2", "abc123", str(tmp_path / "jane")):
        assert secret not in text


def test_a_lock_is_held_once_and_given_back(tmp_path: Path) -> None:
    held = locks.take(tmp_path / "new" / "a.lock")
    assert held is not None and locks.take(tmp_path / "new" / "a.lock") is None
    held.close()
    again = locks.take(tmp_path / "new" / "a.lock")
    assert again is not None
    again.close()


@pytest.fixture
def slow_job(tmp_path: Path) -> Iterator[tuple[Job, threading.Event]]:
    go = threading.Event()
    job = Job("Work", lambda job: go.wait(20) and 1 / 0, tmp_path / "log")
    yield job, go
    go.set()


def test_a_fault_of_ours_is_an_error_too(slow_job: tuple[Job, threading.Event]) -> None:
    job, go = slow_job
    assert not job.wait(0)
    go.set()
    assert job.wait(20)
    assert job.error.code == "setup-failed" and "ZeroDivisionError" in job.error.message
    assert "Traceback" in job.tail()


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
