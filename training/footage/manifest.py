# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a run: which stages are done, from which inputs, with which options; kept in the working folder.

Every stage has a folder of its own and a *key*, the plain data on which its result depends. On resuming, a stage whose
key has changed is done again, and so is every stage that needs it; the others are kept.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...neural_backend.interface.files import whole
from ...neural_backend.interface.messages import BackendError

#: Raised by one whenever a stage's files change their meaning; working folders of another version are begun anew.
VERSION = 1

#: The stages in their order, each with the stages whose results it reads.
STAGES: dict[str, tuple[str, ...]] = {
    "decode": (),
    "pose": ("decode",),
    "masks": ("pose",),
    "3d": ("pose",),
    "dataset": ("masks", "3d"),
}

_NAME = "manifest.json"
_PIECE = 1 << 16


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a file, or a folder of files, from another: path, size, time of change, and a hash.

    Of a file the hash covers its first and last 64 KiB, of a folder the names, sizes and times of all files in it, so
    that a long video costs no more than a short one. Raises BackendError 'footage-input' where there is nothing.
    """
    try:
        if path.is_dir():
            entries = sorted(p for p in path.rglob("*") if p.is_file())
            stats = [(p.relative_to(path).as_posix(), p.stat()) for p in entries]
            digest = hashlib.sha256(repr([(n, s.st_size, s.st_mtime_ns) for n, s in stats]).encode()).hexdigest()
            size, changed = sum(s.st_size for _, s in stats), max((s.st_mtime_ns for _, s in stats), default=0)
        else:
            stat = path.stat()
            size, changed = stat.st_size, stat.st_mtime_ns
            with path.open("rb") as file:
                head = file.read(_PIECE)
                file.seek(max(size - _PIECE, 0))
                digest = hashlib.sha256(head + file.read(_PIECE)).hexdigest()
    except OSError as error:
        raise BackendError("footage-input", f"{path} cannot be read: {error.strerror or error}.") from error
    return {"path": str(path.resolve()), "size": size, "changed": changed, "hash": digest}


class Manifest:
    """The manifest in a working folder, which is made where it is missing.

    Raises BackendError 'footage-folder' where the folder holds something that this program did not put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._stages: dict[str, dict[str, Any]] = {}
        self._version = VERSION
        path = folder / _NAME
        if path.exists():
            try:
                data = json.loads(path.read_text("utf-8"))
                self._version, self._stages = int(data["version"]), dict(data["stages"])
            except (ValueError, KeyError, TypeError):
                self._version, self._stages = 0, {}
        elif any(p.name != f"{_NAME}.tmp" for p in folder.iterdir()):
            raise BackendError(
                "footage-folder",
                f"{folder} is where this run would keep its work, but it holds something else; move it, or give "
                "another -o.",
            )

    def stage_folder(self, stage: str) -> Path:
        """Where a stage keeps its files."""
        return self.folder / stage

    def begin(self, keys: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Compare with the keys of this run, forget what no longer holds, and say why in sentences for people."""
        wanted = json.loads(json.dumps(keys))
        sentences = []
        if self._version != VERSION:
            sentences.append(f"{self.folder} was begun by another version of this program; everything is done again.")
            self._version, self._stages = VERSION, {}
        stale: set[str] = set()
        for stage, needs in STAGES.items():
            saved = self._stages.get(stage)
            changes = _changes(saved["key"], wanted[stage]) if saved else []
            if saved and changes:
                again = "everything" if stage == "decode" else f"the stage '{stage}' and what follows from it"
                sentences.append(f"{'; '.join(changes)}: {again} is done again.")
            if saved is None or changes or stale & set(needs):
                stale.add(stage)
                self._stages.pop(stage, None)
        # A stage is struck off before its files go, and entered again when they are gone: a kill in between leaves
        # nothing that could be taken for its result.
        self._write()
        for stage in stale:
            if self.stage_folder(stage).exists():
                shutil.rmtree(self.stage_folder(stage))
            self._stages[stage] = {"key": wanted[stage], "done": False}
        self._write()
        for stage in STAGES:
            self.stage_folder(stage).mkdir(exist_ok=True)
        return sentences

    @property
    def resumed(self) -> bool:
        """True where an earlier run has got somewhere."""
        return any(s["done"] for s in self._stages.values()) or any(
            any(self.stage_folder(stage).iterdir()) for stage in STAGES if self.stage_folder(stage).is_dir()
        )

    def done(self, stage: str) -> bool:
        """True where a stage is complete."""
        return bool(self._stages[stage]["done"])

    def finish(self, stage: str, facts: Mapping[str, Any] | None = None) -> None:
        """A stage is complete; ``facts`` are kept for later runs."""
        self._stages[stage].update(done=True, facts=dict(facts or {}))
        self._write()

    def reopen(self, stage: str) -> None:
        """A stage's result has been taken away: it is to be done anew, the others are kept."""
        saved = self._stages.pop(stage)
        self._write()
        shutil.rmtree(self.stage_folder(stage))
        self._stages[stage] = {"key": saved["key"], "done": False}
        self._write()

    def facts(self, stage: str) -> dict[str, Any]:
        """What ``finish`` was told."""
        return dict(self._stages[stage].get("facts", {}))

    def keys(self) -> dict[str, Any]:
        """The keys of all stages, as the dataset tells them."""
        return {stage: self._stages[stage]["key"] for stage in STAGES}

    def _write(self) -> None:
        write_json(self.folder / _NAME, {"version": VERSION, "stages": self._stages})


def write_json(path: Path, data: Any) -> None:
    """Write JSON as write_bytes does."""
    write_bytes(path, (json.dumps(data, indent=1) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file of the working folder, which one run has to itself: whoever finds it finds it whole."""
    with whole(path, alone=True) as temporary:
        temporary.write_bytes(data)


def _changes(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Clauses on what differs between two keys."""
    clauses = []
    for name in sorted({*saved, *wanted}):
        before, now = saved.get(name), wanted.get(name)
        if before == now:
            continue
        if name == "inputs":
            clauses += _input_changes(before or {}, now or {})
        elif before is not None and now is not None and _is_file(before) and _is_file(now):
            clauses += _file_changes(before, now)
        else:
            clauses.append(f"--{name} was {_show(before)}, now {_show(now)}")
    return clauses


def _input_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if list(before) != list(now):
        return [f"The inputs were {', '.join(before)}, now {', '.join(now)}"]
    return [clause for name in now for clause in _file_changes(before[name], now[name])]


def _file_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if before == now:
        return []
    if before["path"] != now["path"]:
        return [f"{before['path']} was given, now {now['path']}"]
    return [f"{now['path']} has changed since the last run"]


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and {"path", "hash"} <= set(value)


def _show(value: Any) -> str:
    if value in (None, "", [], False):
        return "not given"
    if value is True:
        return "given"
    if _is_file(value):
        return str(value["path"])
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
