# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the environment: plan, consent's figures, and the steps."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ...neural_backend.interface.messages import BackendError
from . import home as places
from . import machine, pythons, runner, selftest
from .job import Job

#: MB of a Python that uv brings.
_PYTHON_MB = 40


@dataclass(frozen=True)
class Plan:
    """What is to be done, for the user to agree to. archive: folder or zip of wheels, None to download."""

    home: Path
    base: pythons.Base
    wheels: machine.Wheels
    archive: Path | None = None

    @property
    def download_mb(self) -> int:
        return 0 if self.archive else self.wheels.download_mb + (_PYTHON_MB if self.base.brings_python else 0)

    @property
    def disk_mb(self) -> int:
        """Room needed while it is made: what was downloaded is kept until all is done."""
        return self.wheels.disk_mb + self.download_mb

    def sentences(self) -> tuple[str, ...]:
        """What the user is asked to agree to."""
        python = f"Python {self.base.version}: " + (
            "uv downloads it" if self.base.brings_python else f"{self.base.source}, {self.base.path}"
        )
        if self.archive:
            source = f"From the offline archive {self.archive}; nothing is downloaded."
        else:
            where = [self.wheels.indexes[0] or "pip's own index"]
            where += [] if self.wheels.indexes == ("",) else ["pip's own index for the rest"]
            source = f"Downloads about {self.download_mb / 1000:.1f} GB from {' and '.join(where)}."
        return (
            f"PyTorch for {self.wheels.label}: {self.wheels.reason}.",
            source,
            f"Takes about {self.wheels.disk_mb / 1000:.1f} GB in {self.home}. Blender's own files stay as they are.",
            f"Made with {'uv' if self.base.uv else 'pip'} from {python}.",
        )


def make_plan(
    home: Path,
    blender_python: str = "",
    wanted: str = "AUTO",
    index: str = "",
    archive: Path | None = None,
    online: bool = True,
) -> Plan:
    """Look at the machine and say what would be done; takes a few seconds.

    wanted, index: see :func:`.machine.choose`. online: may anything be downloaded? Raises BackendError
    'setup-offline', 'setup-archive', 'setup-no-python'.
    """
    if archive is None and not online:
        raise BackendError(
            "setup-offline",
            "Blender is set to stay offline: switch on Allow Online Access in Preferences › System › Network, or set "
            "up from an offline archive.",
        )
    if archive is not None:
        check_archive(archive)
    base = pythons.find(blender_python, download=archive is None)
    return Plan(home, base, machine.choose(machine.look(), wanted, index), archive)


def check_archive(archive: Path) -> None:
    """Raises BackendError 'setup-archive' for what holds no wheel of PyTorch."""
    try:
        names = zipfile.ZipFile(archive).namelist() if archive.is_file() else [p.name for p in archive.iterdir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise BackendError(
            "setup-archive",
            f"'{archive}' is no folder and no zip of wheels: choose what Make Offline Archive wrote.",
            str(error),
        ) from error
    if not any(Path(name).name.startswith("torch-") and name.endswith(".whl") for name in names):
        raise BackendError(
            "setup-archive", f"'{archive}' holds no wheel of PyTorch: choose what Make Offline Archive wrote."
        )


def build(plan: Plan, job: Job, device: str = "auto", avatar: Path | None = None) -> str:
    """Make the environment, test it, and take it into use; returns a sentence. Raises BackendError.

    What a user had before stays in use until the new one is whole.
    """
    with places.lock(plan.home):
        places.sweep(plan.home)
        places.check_space(plan.home, plan.disk_mb)
        places.set_unfinished(plan.home, "Blender was closed meanwhile.")
        folder = places.new_folder(plan.home)
        try:
            _make(plan, folder, job)
            job.stage("Testing…")
            test = selftest.run(places.interpreter(folder), device, plan.home / places.LOG, job.cancelled, avatar)
        except BackendError as error:
            places.set_unfinished(plan.home, error.message)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except OSError as error:
            found = runner.explain(f"{type(error).__name__}: {error}", ["set-up"], plan.home)
            places.set_unfinished(plan.home, found.message)
            shutil.rmtree(folder, ignore_errors=True)
            raise found from error
        places.set_tested(plan.home, test)
        environment = places.Environment(folder.name, test.python, plan.wheels.kind, test.torch)
        places.adopt(plan.home, environment)
        places.sweep(plan.home)
    return f"Ready: PyTorch {test.torch} on {', '.join(test.devices)}."


def make_archive(plan: Plan, target: Path, job: Job) -> str:
    """Download the wheels of a plan into a folder under ``target``; returns a sentence. Raises BackendError."""
    with places.lock(plan.home):
        places.check_space(target, plan.download_mb)
        folder = places.new_folder(plan.home)
        try:
            job.stage("Preparing pip…")
            _virtual_environment(plan, folder, job, seed=True)
            pip = [str(places.interpreter(folder)), "-I", "-m", "pip", "download", "-d"]
            kind = f"wheels-{plan.wheels.kind.lower()}-python{'.'.join(plan.base.version.split('.')[:2])}"
            partial, whole = target / f"{kind}.part", target / kind
            _from_indexes(plan, [*pip, str(partial)], folder, job)
            shutil.rmtree(whole, ignore_errors=True)
            partial.replace(whole)
        except OSError as error:
            raise runner.explain(f"{type(error).__name__}: {error}", ["archive"], target) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            places.sweep(plan.home)
    return f"The archive is {whole}. Copy it to a machine of the same kind, with Python {plan.base.version[:4]}."


def _make(plan: Plan, folder: Path, job: Job) -> None:
    job.stage("Making the environment…")
    job.expect(plan.home, plan.disk_mb)
    _virtual_environment(plan, folder, job)
    python = str(places.interpreter(folder))
    install = (
        [plan.base.uv, "pip", "install", "--python", python] if plan.base.uv else [python, "-I", "-m", "pip", "install"]
    )
    if plan.archive is None:
        _from_indexes(plan, install, folder, job)
        return
    job.stage("Installing from the archive…")
    with _wheels(plan.archive, plan.home) as wheels:
        command = [*install, "--no-index", "--find-links", str(wheels), machine.TORCH, *machine.REQUIREMENTS]
        _run(plan, command, folder, job, str(plan.archive))


def _virtual_environment(plan: Plan, folder: Path, job: Job, seed: bool = False) -> None:
    base = plan.base
    if base.uv:
        command = [
            base.uv,
            "venv",
            "--no-project",
            "--python",
            base.path or base.version,
            *(["--seed"] if seed else []),
        ]
    else:
        command = [base.path, "-I", "-m", "venv"]
    _run(plan, [*command, str(folder)], folder, job, "uv's own index")


def _from_indexes(plan: Plan, command: list[str], folder: Path, job: Job) -> None:
    """PyTorch from its vendor's index, then the rest from pip's own, so that no package can come from both."""
    for last, index in enumerate(plan.wheels.indexes, 1 - len(plan.wheels.indexes)):
        job.stage(f"Downloading PyTorch for {plan.wheels.label}…")
        try:
            address = ["--index-url", index] if index else []
            _run(plan, [*command, *address, machine.TORCH], folder, job, index)
            break
        except BackendError as error:
            if error.code != "setup-no-wheel" or last == 0:
                raise
    job.stage("Downloading the rest…")
    _run(plan, [*command, *machine.REQUIREMENTS], folder, job, "pip's own index")


def _run(plan: Plan, command: list[str], folder: Path, job: Job, source: str) -> None:
    cache = str(places.cache(plan.home))
    environment = {
        "PIP_CACHE_DIR": cache, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off",
        "UV_CACHE_DIR": cache, "UV_NO_PROGRESS": "1", "PYTHONUTF8": "1",
    }  # fmt: skip
    if plan.archive is not None or not plan.base.brings_python:
        environment["UV_PYTHON_DOWNLOADS"] = "never"
    runner.run(command, job.log, job.cancelled, folder, source, environment)


class _wheels:
    """A folder of an archive's wheels: its own, or a temporary one for a zip."""

    def __init__(self, archive: Path, home: Path) -> None:
        self._archive, self._folder = archive, places.cache(home) / "archive"

    def __enter__(self) -> Path:
        if self._archive.is_dir():
            return self._archive
        self._folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(self._archive) as archive:
            for entry in archive.infolist():
                # The bare name: an archive must not write elsewhere.
                if entry.filename.endswith(".whl"):
                    with archive.open(entry) as source, open(self._folder / Path(entry.filename).name, "wb") as out:
                        shutil.copyfileobj(source, out)
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
