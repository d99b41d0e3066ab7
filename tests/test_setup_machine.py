# SPDX-License-Identifier: GPL-3.0-or-later
"""What setting up the backend finds and says: wheels for the machine, Pythons, programs, errors, the report."""

from __future__ import annotations

import os
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from neural_avatar.addon.setup import build, machine, programs, pythons, report, runner
from neural_avatar.addon.setup.job import Job
from neural_avatar.neural_backend.interface.messages import BackendError
from support.backend_setup import posix

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.usefixtures("plain_pip")


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
