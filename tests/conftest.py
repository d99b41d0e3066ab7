# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: the package under its one name, real data, environments, the built zip."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# One thread each: tests share the machine, and results should not depend on its number of cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# A shell makes what it starts in the background deaf to Ctrl-C, and programs started by that inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _register_package() -> None:
    """Make the checkout importable as `neural_avatar`, whatever its folder is called, and under no other name."""
    if "neural_avatar" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "neural_avatar", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["neural_avatar"] = module
    spec.loader.exec_module(module)


_register_package()

import pytest  # noqa: E402

# Assertions of helpers explain themselves like those of tests.
pytest.register_assert_rewrite("support")
pytest_plugins = ["support.fixtures"]

#: Versions of Blender that the add-on is tested with, and the variables that name the Python holding each.
BLENDER_VARIABLES = {version: "NEURAL_AVATAR_BPY_" + version.replace(".", "_") for version in ("4.2", "4.5", "5.0")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first, then slow ones, then those that start a Blender, so that a mistake shows early."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        in_blender = bool({"bpy_python", "any_bpy_python", "extension_zip"} & set(getattr(item, "fixturenames", ())))
        return in_blender, item.get_closest_marker("slow") is not None

    items.sort(key=place)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real footage and motion: NEURAL_AVATAR_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("NEURAL_AVATAR_SHARED", ROOT.parent / "shared"))
    if not (folder / "footage").is_dir():
        pytest.skip(f"REAL DATA MISSING: no footage in {folder}; set NEURAL_AVATAR_SHARED to the folder that holds it")
    return folder


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function: what a command says when it ends with exit code 1; that must be one sentence."""
    from neural_avatar.cli import main

    def sentence(*arguments: object) -> str:
        capfd.readouterr()
        assert main([str(a) for a in arguments]) == 1
        said = capfd.readouterr().err
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("neural-avatar: ")]
        return line

    return sentence


@pytest.fixture(scope="session")
def footage(shared: Path) -> Path:
    """The dataset `rendered_human` (256x256)."""
    return shared / "footage" / "rendered_human"


def _bpy_python(version: str) -> Path:
    path = os.environ.get(BLENDER_VARIABLES[version])
    if not path or not Path(path).exists():
        pytest.skip(f"BLENDER {version} MISSING: set {BLENDER_VARIABLES[version]} (`python3 dev.py test` does)")
    return Path(path)


@pytest.fixture(scope="session", params=list(BLENDER_VARIABLES))
def bpy_python(request: pytest.FixtureRequest) -> Path:
    """The Python of each Blender in turn: a test that asks for it runs once for each."""
    return _bpy_python(request.param)


@pytest.fixture(scope="session")
def any_bpy_python() -> Path:
    """The Python of the oldest Blender that is here."""
    for version, variable in BLENDER_VARIABLES.items():
        if os.environ.get(variable):
            return _bpy_python(version)
    return _bpy_python("4.2")


@pytest.fixture(scope="session")
def extension_zip(any_bpy_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension's zip, built from the tracked files by Blender's own builder."""
    sys.path.insert(0, str(ROOT))
    try:
        from tooling.extension import build_zip
    finally:
        sys.path.remove(str(ROOT))
    return build_zip(any_bpy_python, tmp_path_factory.mktemp("extension"))
