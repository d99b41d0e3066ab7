# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that the benchmarks of training share: kept, resumed, several side by side.

A run is `neural-avatar train` and `evaluate` in processes of their own, each on its own threads, exactly as a user
calls them. Beside its avatar lie what was asked (NAME.asked.json), its log, the machines whose minutes it took
(NAME.machine), its figures (NAME.json), those of every frame (NAME.csv) and pictures. What is finished is not done
again; what was interrupted resumes; an avatar that is to be judged by other pictures is judged anew, not trained anew.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = runpy.run_path(str(ROOT / "neural_backend" / "start.py"))["load_package"]().__name__
AVATARS = importlib.import_module(f"{PACKAGE}.neural_backend.interface.avatar_header")
#: Seeds of a benchmark whose spread is told.
SEEDS = (0, 1, 2)
Key = TypeVar("Key")
#: The split of the ends of films whose beginnings are trained on; test_far is of motion unlike any trained on.
NEAR = "test_near"


@dataclass(frozen=True)
class Test:
    """An evaluation: the dataset, and options of `evaluate` that choose its frames."""

    data: Path
    options: tuple[str, ...] = ("--cameras", "heldout", "--split", "test_far")


def unseen(dataset: Path) -> dict[str, Test]:
    """What a run is judged by: the unseen dance ('', the main test) and, where the dataset has that split, motion near
    what was trained on; both by held-out cameras."""
    near = NEAR in importlib.import_module(f"{PACKAGE}.training.dataset").read_dataset(dataset).split
    return {"": Test(dataset), **({NEAR: Test(dataset, ("--cameras", "heldout", "--split", NEAR))} if near else {})}


@dataclass(frozen=True)
class Run:
    """A training run: its files' name, the dataset, options of `train`, and tests by name ('' is the main one, which
    also gives the table of frames and pictures)."""

    name: str
    data: Path
    options: tuple[str, ...]
    tests: Mapping[str, Test]


@dataclass
class Runner:
    """Does runs, ``jobs`` side by side, in the folder ``work``. failed: a sentence for each run that failed.
    device: where runs compute, as `train --device`.

    A failure stops nothing else. Ctrl-C, or a polite kill, is passed on to the runs, which then write a checkpoint.
    """

    work: Path
    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    failed: dict[str, str] = field(default_factory=dict)
    _children: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def path(self, run: Run, ending: str, test: str = "") -> Path:
        """Where a run's file lies."""
        return self.work / f"{run.name}{'.' * bool(test)}{test}{ending}"

    def figures(self, run: Run, test: str = "") -> dict[str, Any] | None:
        """What `evaluate --json` wrote of a finished run; None where it is not finished. Added to it: 'made', the
        avatar's provenance, and, among the means of 'all', 'steps', how many training made; None where none tells."""
        result = self.path(run, ".json", test)
        if not result.exists():
            return None
        self._check(run)
        if not self._judged(run, test):
            return None
        loaded: dict[str, Any] = json.loads(result.read_text("utf-8"))
        avatar = self.path(run, ".avatar")
        loaded["made"] = AVATARS.read_header(avatar).provenance if avatar.exists() else {}
        loaded["all"]["steps"] = loaded["made"].get("steps")
        return loaded

    def finished(self, runs: Mapping[Key, Run], test: str = "") -> dict[Key, dict[str, Any]]:
        """The figures of those runs that are finished and judged by a test."""
        return {key: found for key, run in runs.items() if (found := self.figures(run, test))}

    def machines(self, runs: Iterable[Run]) -> list[str]:
        """What runs were trained on, each machine once: a resumed benchmark may have had several."""
        files = (self.path(run, ".machine") for run in runs)
        return sorted({line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()})

    def do(self, runs: Iterable[Run]) -> None:
        """Do all of the runs that are not finished yet."""
        self.work.mkdir(parents=True, exist_ok=True)
        waiting = []
        for run in runs:
            self._check(run)
            if not all(self._judged(run, test) for test in run.tests):
                waiting.append(run)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        pool = ThreadPoolExecutor(self.jobs)
        futures = {pool.submit(self._do, run): run for run in waiting}
        try:
            for future in as_completed(futures):
                run = futures[future]
                error = future.exception()
                if isinstance(error, RunFailed):
                    self.failed[run.name] = str(error)
                elif error is not None:
                    raise error
                else:
                    print(told(run, future.result()), flush=True)
        except KeyboardInterrupt:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # some who ask, ask twice
            self._stopping.set()
            for child in tuple(self._children):
                child.terminate()
            raise SystemExit("Stopped; the same command goes on from here.") from None
        finally:
            pool.shutdown(cancel_futures=True)
            signal.signal(signal.SIGTERM, before)

    def _do(self, run: Run) -> dict[str, Any]:
        avatar, device = self.path(run, ".avatar"), ("--device", self.device)
        for name in run.tests:
            if not self._judged(run, name):  # of other pictures, which must not pass for these
                self.path(run, ".json", name).unlink(missing_ok=True)
        self.path(run, ".asked.json").write_text(json.dumps(self._asked(run), indent=1) + "\n", "utf-8")
        if not avatar.exists():  # it is written last of all, and renamed
            self._note_machine(run)
            threads = ("--threads", str(self.threads))
            self._command(run, "train", run.data, "-o", avatar, *run.options, *threads, *device)
        for name, test in run.tests.items():
            result = self.path(run, ".json", name)
            if not result.exists():
                partial = result.with_suffix(".part")
                more = () if name else ("--csv", self.path(run, ".csv"), "--pictures", self.path(run, ".pictures"))
                if more:
                    shutil.rmtree(self.path(run, ".pictures"), ignore_errors=True)
                self._command(run, "evaluate", avatar, test.data, *test.options, *device, "--json", partial, *more)
                partial.replace(result)
        for checkpoint in avatar.with_name(avatar.name + ".train").glob("*.safetensors"):
            checkpoint.unlink()  # a hundred megabytes, of no more use
        figures = self.figures(run, next(iter(run.tests)))
        assert figures is not None
        return figures

    def _note_machine(self, run: Run) -> None:
        """Add this machine to those whose minutes the run took, before it takes any."""
        path = self.path(run, ".machine")
        known = path.read_text("utf-8").splitlines() if path.exists() else []
        if machine(self.device) not in known:
            path.write_text("\n".join([*known, machine(self.device)]) + "\n", "utf-8")

    def _asked(self, run: Run) -> dict[str, Any]:
        """What a run is asked for, as it is kept beside it."""
        tests = {name: [test.data.name, *test.options] for name, test in run.tests.items()}
        return {"data": run.data.resolve().name, "train": list(run.options), "tests": tests, "threads": self.threads}

    def _kept(self, run: Run) -> dict[str, Any]:
        """What the run that lies there was asked for; what this one is where none does."""
        path = self.path(run, ".asked.json")
        kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else self._asked(run)
        return kept

    def _judged(self, run: Run, test: str) -> bool:
        """Whether a run has figures, and of the very pictures that its test asks for."""
        kept, asked = (one["tests"].get(test) for one in (self._kept(run), self._asked(run)))
        return kept == asked and self.path(run, ".json", test).exists()

    def _check(self, run: Run) -> None:
        """An avatar of other options must not pass for this one: ends the program where it would."""
        kept, asked = ({**one, "tests": None} for one in (self._kept(run), self._asked(run)))
        if kept != asked:
            path = self.path(run, ".asked.json")
            raise SystemExit(f"{run.name} was begun with other options ({path}); delete its files, or give --work.")

    def _command(self, run: Run, *words: object) -> None:
        """`neural-avatar WORDS` in a process of its own, what it says appended to the run's log."""
        if self._stopping.is_set():
            raise CancelledError
        environment = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self.threads))}
        log = self.path(run, ".log")
        with log.open("ab") as file:
            # A session of its own: a Ctrl-C reaches it once, through us, and not a second time from the terminal.
            child = subprocess.Popen(
                [sys.executable, str(ROOT), *map(str, words)], env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip
            self._children.add(child)
            if self._stopping.is_set():
                child.terminate()
            code = child.wait()
            self._children.discard(child)
        if code:
            raise RunFailed(f"`neural-avatar {words[0]}` ended with {code}; see {log}")


class RunFailed(Exception):
    """A command of a run ended with an error."""


def machine(device: str) -> str:
    """What minutes are spent on here, and by which program, for figures that depend on it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    gpu = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    pays = importlib.import_module(f"{PACKAGE}.training.devices").bfloat16_pays(torch.device(device))
    number = "bfloat16" if pays else "float32"  # what --precision auto comes to
    return f"{gpu}{name}, {os.cpu_count()} cores, torch {torch.__version__}, networks in {number}{program()}"


def program() -> str:
    """By which program, as git knows it: ', program at COMMIT'; '' where git does not say."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return f", program at {done.stdout.strip()}" if done.returncode == 0 else ""


def told(run: Run, figures: Mapping[str, Any]) -> str:
    """A line on a finished run."""
    means = figures["all"]
    steps = "" if means.get("steps") is None else f", {means['steps']} steps"
    return f"{run.name}: SSIM box {means['ssim_box']:.4f}, PSNR box {means['psnr_box']:.2f}{steps}"


def add_options(parser: argparse.ArgumentParser, work: str, jobs: int = 2) -> None:
    """The options that all of these programs have."""
    parser.add_argument("--jobs", type=int, default=jobs, help=f"runs side by side (default: {jobs})")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / work, help="where runs are kept")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="where the tables go")
