# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's own rules: linters, who may import whom, what the zip and the wheel hold, one version everywhere."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from neural_avatar import __version__

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
try:
    from tooling import environments, extension, lint, pythons
finally:
    sys.path.pop(0)

ROOT = extension.ROOT
STDLIB = set(sys.stdlib_module_names)

#: Room: absolute imports it may use beside the standard library, and rooms that its relative imports may name.
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "neural_backend/interface": ({"numpy"}, {"neural_backend.interface"}),
    "neural_backend": ({"numpy", "torch", "safetensors", "PIL", "av", "OpenEXR"}, {"neural_backend"}),
    "addon": (
        {"numpy", "bpy", "bpy_extras", "mathutils", "gpu", "gpu_extras", "blf", "bl_ui"},
        {"addon", "neural_backend.interface"},
    ),
    "training": (
        {
            "numpy",
            "torch",
            "torchvision",
            "safetensors",
            "PIL",
            "tqdm",
            "scipy",
            "cv2",
            "mediapipe",
            "av",
            "flip_evaluator",
            "lpips",
        },
        {"training", "neural_backend"},
    ),
}


@pytest.mark.parametrize("name", list(lint.LINTERS))
def test_linter_has_nothing_to_say(name: str) -> None:
    answer = lint.lint(name, sys.executable)
    assert answer.returncode == 0, answer.stdout


def _imports(path: Path) -> list[tuple[int, str]]:
    """Each import in a file: level of dots, and the absolute name of the module within the package (or outside it)."""
    package = list(path.relative_to(ROOT).parent.parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((0, node.module or ""))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            names = [".".join([*base, alias.name]) for alias in node.names]
            found += [(node.level, name) for name in names]
    return found


def _breaches(room: str, outside: set[str], inside: set[str]) -> list[str]:
    others = [other for other in ROOMS if other != room and other.startswith(room + "/")]
    breaches = []
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if any(name.startswith(other + "/") for other in others):
            continue
        for level, module in _imports(path):
            if level == 0 and module.split(".")[0] not in outside | STDLIB:
                breaches.append(f"{name}: import {module}")
            if level and not any(
                module == room_ or module.startswith(room_ + ".") for room_ in inside | {"__version__"}
            ):
                breaches.append(f"{name}: relative import of {module}")
    return breaches


@pytest.mark.parametrize("room", list(ROOMS))
def test_rooms_import_only_what_they_may(room: str) -> None:
    assert list((ROOT / room).glob("*.py")), f"no room {room}"
    assert _breaches(room, *ROOMS[room]) == []


def test_import_rule_sees_a_breach() -> None:
    """The rule above must be able to fail: the training room breaks the interface's rule at once."""
    assert _breaches("training", *ROOMS["neural_backend/interface"])


def test_importing_root_and_backend_brings_neither_bpy_nor_torch() -> None:
    code = (
        "import importlib.util as u, sys\n"
        f"s = u.spec_from_file_location('neural_avatar', {str(ROOT / '__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT)!r}])\n"
        "m = u.module_from_spec(s); sys.modules['neural_avatar'] = m; s.loader.exec_module(m)\n"
        "import neural_avatar.neural_backend, neural_avatar.neural_backend.interface.messages\n"
        "print(sorted({'bpy', 'torch', 'cv2'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_one_version_everywhere() -> None:
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text("utf-8"))
    assert manifest["version"] == __version__
    assert manifest["id"] == "neural_avatar"
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_source_file_states_its_license() -> None:
    sources = [p for p in extension.source_files(tracked_only=False) if p.suffix in (".py", ".sh") or p.name == "run"]
    silent = [
        str(p) for p in sources if "SPDX-License-Identifier: GPL-3.0-or-later" not in (ROOT / p).read_text("utf-8")
    ]
    assert silent == []


def test_zip_holds_the_add_on_and_nothing_of_the_workshop(extension_zip: Path) -> None:
    with zipfile.ZipFile(extension_zip) as archive:
        names = set(archive.namelist())
    tracked = {p.as_posix() for p in extension.source_files(tracked_only=True)}
    assert names <= tracked
    top = {name.split("/")[0] for name in names}
    assert {"__init__.py", "blender_manifest.toml", "addon", "neural_backend", "LICENSE"} <= top
    assert not top & {"tests", "training", "benchmarks", "demo", "docs", "tooling", "dev.py", "pyproject.toml", ".ci"}
    for room in ("addon", "neural_backend"):
        assert {name for name in tracked if name.startswith(room + "/") and name.endswith(".py")} <= names
    assert [name for name in names if name.startswith("assets/") and name.endswith(".avatar")], "no bundled avatar"


def test_archive_that_was_unpacked_ships_no_film_that_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)  # somebody's own repository around it
    unpacked = extension.export(tmp_path / "neural-avatar-main")
    for name in ("phone.mp4", "ada.avatar", "ada/joints.npz", "ada.avatar.train/log.csv", "notes.txt"):
        (unpacked / name).parent.mkdir(exist_ok=True)
        (unpacked / name).write_bytes(b"mine")
    tracked = {p for p in extension.source_files(tracked_only=True) if not p.parts[0].startswith(".")}
    monkeypatch.setattr(extension, "ROOT", unpacked)
    assert set(extension.source_files(tracked_only=True)) == tracked


def test_wheel_holds_backend_and_training_but_no_tests(tmp_path: Path) -> None:
    """What pip installs, and that the console command starts from it."""
    source = extension.export(tmp_path / "a checkout of any name", tracked_only=False)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*wheel, str(source)], check=True, stdin=subprocess.DEVNULL)
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    modules = {name for name in names if name.endswith(".py")}
    expected = {
        f"neural_avatar/{p.relative_to(source).as_posix()}"
        for room in ("neural_backend", "training")
        for p in (source / room).rglob("*.py")
    }
    assert expected <= modules
    assert all(name.split("/")[1] in ("neural_backend", "training") for name in modules if name.count("/") > 1)
    assert not [name for name in names if "test" in name]
    run = "from neural_avatar.cli import main; raise SystemExit(main(['--help']))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    answer = subprocess.run(
        [sys.executable, "-c", run], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert "train" in answer.stdout and "render" in answer.stdout


def test_environment_is_made_again_after_a_killed_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without its marker file, as a kill leaves it, is made anew; a whole one is kept."""
    monkeypatch.setenv("NEURAL_AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "requirements", lambda name: ["pip"])  # nothing that needs the network
    python = environments.environment("backend")
    folder = python.parent.parent
    (folder / "complete.json").unlink()
    (folder / "half").touch()
    assert environments.environment("backend") == python
    assert not (folder / "half").exists()
    (folder / "kept").touch()
    environments.environment("backend")
    assert (folder / "kept").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Python is a copy there")
def test_environment_is_made_again_when_its_python_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "requirements", lambda name: ["pip"])
    python = environments.environment("backend")
    python.unlink()
    python.symlink_to(tmp_path / "removed")
    assert environments.environment("backend") == python and python.exists()


def test_prune_makes_nothing_and_removes_only_old_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "_make", lambda *_: pytest.fail("it made an environment"))
    current, old = environments.folder_of("bpy-4.2"), tmp_path / "bpy-4.1-0123456789ab"
    mine = tmp_path / "my-own-environment"
    for folder in (current, old, mine):
        folder.mkdir()
        (folder / "pyvenv.cfg").touch()
    assert environments.prune() == [old]
    assert current.exists() and mine.exists() and not old.exists()


def test_each_environment_has_a_lock_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "_check_system_libraries", lambda name: None)
    monkeypatch.setattr(environments, "_make", lambda name, folder, wanted: folder.mkdir())
    for name in environments.names():
        environments.environment(name)
    assert len(list(tmp_path.glob("*.lock"))) == len(environments.names())


def test_failed_install_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAL_AVATAR_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "requirements", lambda name: [str(tmp_path / "no-such-archive.whl")])
    with pytest.raises(environments.SetupError, match="pip could not install"):
        environments.environment("backend")
    assert not list(tmp_path.glob("*/complete.json"))


def test_python_is_found_or_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pythons._probe([pythons.find_python()])
    monkeypatch.setattr(pythons, "WANTED", (0, 0))
    monkeypatch.setattr(pythons, "_candidates", lambda: iter([["no-such-python"]]))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(LookupError, match=r"needs Python 3\.11"):
        pythons.find_python()


def test_ci_and_tools_name_the_same_system_packages() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    packages = [p for libraries in environments.SYSTEM_LIBRARIES.values() for p in libraries.values()]
    assert all(package in script for package in packages)
