# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run: films in, a dataset out, stage by stage; killed and started again as often as need be."""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import __version__
from ...neural_backend.interface.messages import BackendError
from . import stages
from .advice import advice
from .alone import alone_in
from .assemble import assemble
from .check import findings
from .films import Film, open_films
from .manifest import STAGES, Manifest, fingerprint, write_json
from .progress import Voice
from .readers.axes import to_z_up
from .report import write_report
from .selection import Choice
from .survey import look_through

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC, errno.EFBIG}


@dataclass(frozen=True)
class FootageOptions:
    """What the command line asks for; each field is the option of its name."""

    videos: tuple[str, ...]
    output: Path
    calibration: Path | None = None
    poses: Path | None = None
    masks: Path | None = None
    person: int | None = None
    rate: float | None = None
    choice: Choice = field(default_factory=Choice)
    crop: int = 512
    heldout: tuple[str, ...] = ()
    holdout: float = 0.1
    up: str = ""
    focal: float = 0.0
    height: float = 1.75
    cutoff: float = 6.0
    sync: bool = True
    refine: bool = True
    lift: Path | None = None
    grabcut: bool = False
    deeplab: Path | None = None
    pose_size: int = 960
    credit: str = ""
    overwrite: bool = False
    restart: bool = False
    keep: bool = False

    def check(self) -> None:
        """Raises BackendError 'footage-options' or 'up-axis' for what cannot be."""
        times = [t for t in (self.choice.start, self.choice.end) if t is not None]
        several = len(self.videos) > 1
        for wrong, sentence in (
            (not 64 <= self.crop <= 4096, "--crop must lie in 64..4096 pixels"),
            (not 0 <= self.holdout < 1, "--holdout is a share and must lie in 0..1, below 1"),
            (self.choice.every < 1, "--every must be 1 or more"),
            (not 0 <= self.choice.fps < math.inf, "--fps must be a number, and not negative"),
            (self.rate is not None and not 0 < self.rate <= 10000, "--rate must be a number above 0"),
            (not all(map(math.isfinite, times)), "--start and --end must be numbers of seconds"),
            (self.person is not None and self.person < 1, "--person counts from 1, the largest"),
            (not 0 <= self.focal < math.inf, "--focal must be a number, and not negative"),
            (not 0 <= self.cutoff < math.inf, "--cutoff must be a number, and not negative; 0 is for none"),
            (not 0.3 <= self.height <= 3, "--height must lie in 0.3..3 metres"),
            (not 128 <= self.pose_size <= 4096, "--pose-size must lie in 128..4096 pixels"),
            (several and self.focal > 0, "--focal is for one camera; the lenses of several are in their --calibration"),
            (several and self.lift is not None, "--lift is for one camera; several see depth themselves"),
            (self.up and self.calibration is None and self.poses is None, "--up names an axis "
             "of --calibration or --poses, and neither is given; leave it away"),
        ):  # fmt: skip
            if wrong:
                raise BackendError("footage-options", f"{sentence}.")
        to_z_up(self.up)


def make_dataset(options: FootageOptions) -> int:
    """Make the dataset, or go on where an earlier run stopped. Returns 0.

    Raises BackendError with a sentence for everything that the user can mend.
    """
    options.check()
    _check_output(options)
    output = options.output
    working = output.with_name(output.name + ".partial")
    voice = Voice()
    with _disk(working):
        films = open_films(options, voice)
        keys = _keys(options, films)
        if _is_complete(output, keys) and not options.overwrite:
            voice.tell(f"{output} is complete and was made from these films with these options.")
            if not options.keep:
                shutil.rmtree(working, ignore_errors=True)
            return 0
        if output.exists() and not options.overwrite:
            raise BackendError(
                "footage-output", f"{output} exists already; give --overwrite to replace it, or another -o."
            )
        with alone_in(working):
            if options.restart and (working / "manifest.json").exists():
                shutil.rmtree(working)
            manifest = Manifest(working)
            again = manifest.begin(keys)
            for sentence in again:
                voice.tell(sentence)
            if manifest.resumed:
                voice.tell(f"Going on with the work in {working}.")
            _run(options, manifest, films, voice)
            _publish(options, manifest, voice)
    return 0


def _check_output(options: FootageOptions) -> None:
    """Raises BackendError 'footage-output' where the output has no name, or overwriting it would destroy what is no
    dataset, or what is read from."""
    output = options.output
    if output.name in ("", ".."):
        raise BackendError("footage-output", f"-o {output} is no name for a dataset; give a new folder.")
    if not (options.overwrite and output.exists()):
        return
    known = [output / "joints.npz", output / "footage.json"]
    if not output.is_dir() or (any(output.iterdir()) and not any(path.is_file() for path in known)):
        raise BackendError(
            "footage-output", f"{output} is no dataset, so --overwrite does not replace it; give another -o."
        )
    given = (*options.videos, options.calibration, options.poses, options.masks, options.lift, options.deeplab)
    inside = [g for g in given if g is not None and Path(g).resolve().is_relative_to(output.resolve())]
    if inside:
        raise BackendError(
            "footage-output", f"{inside[0]} lies in {output}, which --overwrite would replace; give another -o."
        )


def _keys(options: FootageOptions, films: list[Film]) -> dict[str, dict[str, Any]]:
    """What each stage's result depends on."""

    def of(path: Path | None) -> dict[str, Any] | None:
        return None if path is None else fingerprint(path)

    choice = options.choice
    return {
        "decode": {
            "inputs": {film.name: film.fingerprint for film in films}, "start": choice.start, "end": choice.end,
            "every": choice.every, "fps": choice.fps, "rate": options.rate,
        },
        "pose": {"poses": of(options.poses), "person": options.person, "pose-size": options.pose_size},
        "masks": {"masks": of(options.masks), "grabcut": options.grabcut, "deeplab": _deeplab(options.deeplab)},
        "3d": {
            "calibration": of(options.calibration), "up": options.up, "focal": options.focal, "height": options.height,
            "cutoff": options.cutoff, "no-sync": not options.sync, "no-refine": not options.refine,
            "lift": of(options.lift),
        },
        "dataset": {
            "crop": options.crop, "holdout": options.holdout, "heldout": list(options.heldout),
            "credit": options.credit,
        },
    }  # fmt: skip


def _deeplab(path: Path | None) -> dict[str, Any] | str | None:
    return fingerprint(path) if path is not None and path.is_file() else None if path is None else "torchvision's own"


def _run(options: FootageOptions, manifest: Manifest, films: list[Film], voice: Voice) -> None:
    """Every stage that is not done; what an earlier run said of the others is said again, for the report."""
    state = stages.State(options, manifest, films, voice)
    steps: dict[str, Callable[[stages.State], None]] = {
        "decode": stages.decode, "pose": stages.pose, "masks": stages.masks, "3d": stages.space,
        "dataset": assemble,
    }  # fmt: skip
    for stage, step in steps.items():
        if manifest.done(stage):
            facts = manifest.facts(stage)
            voice.said += [note for note in facts.get("notes", []) if note not in voice.said]
            continue
        before, wall, cpu = len(voice.said), time.monotonic(), time.process_time()
        step(state)
        manifest.finish(stage, {
            "notes": voice.said[before:], "seconds": round(time.monotonic() - wall, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
        })  # fmt: skip


def _publish(options: FootageOptions, manifest: Manifest, voice: Voice) -> None:
    """Look the dataset through, write the report, and give the folder its name."""
    folder, output = stages.dataset_folder(manifest), options.output
    survey = look_through(folder, voice.progress("check"), manifest.stage_folder("dataset") / "survey.table")
    write_report(survey, folder / "report.html", output.name, voice.said)
    write_json(folder / "footage.json", {
        "program": f"Neural Avatar {__version__}", "keys": manifest.keys(), "notes": voice.said,
        "seconds": {stage: manifest.facts(stage).get("seconds") for stage in STAGES},
        "cpu_seconds": {stage: manifest.facts(stage).get("cpu_seconds") for stage in STAGES},
    })  # fmt: skip
    faults = [f for f in findings(survey) if f.fault]
    if output.exists():
        old = output.with_name(output.name + ".old")
        if old.exists():
            shutil.rmtree(old)
        os.replace(output, old)
        os.replace(folder, output)
        shutil.rmtree(old)
    else:
        os.replace(folder, output)
    if options.keep:
        manifest.reopen("dataset")
    else:
        shutil.rmtree(manifest.folder)
    for fault in faults:
        voice.tell(f"Check: {fault.text}")
    for item in advice(survey):
        voice.tell(f"{'Serious' if item.serious else 'Worth knowing'}: {item.title}. {item.remedy}")
    stored = int(survey.stored.sum())
    voice.tell(f"Wrote {output}: {len(survey.dataset.joints)} rows, {stored} pictures. See {output / 'report.html'}.")


def _is_complete(output: Path, keys: dict[str, Any]) -> bool:
    import json

    try:
        saved = json.loads((output / "footage.json").read_text("utf-8"))["keys"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(saved == json.loads(json.dumps(keys)))


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full disk, told as one sentence that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise BackendError(
            "footage-disk",
            f"There is no room left on the disk of {folder} ({error.strerror}); free some, and the same command goes "
            "on where it stopped.",
            str(error),
        ) from error
