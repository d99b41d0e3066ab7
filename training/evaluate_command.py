# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar evaluate`: figures on the terminal, and as JSON, table, pictures and a page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..neural_backend.avatar_file import load_avatar
from ..neural_backend.interface.avatar_header import read_header
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.renderer import choose_device
from .dataset import read_dataset
from .evaluate import Choice, evaluate_groups, write_pictures
from .figures import summary, table, worst_first, write_csv
from .files import write_text
from .measures import find_measures
from .quadrants import absent_quadrants, trained_cameras
from .reporting import Reporter
from .reports.evaluation import Subject, known_limits, write_report


@dataclass(frozen=True)
class Outputs:
    """Files to write, None for none. json: all figures; csv: a row for each frame; pictures: a folder; report: a
    page."""

    json: Path | None = None
    csv: Path | None = None
    pictures: Path | None = None
    report: Path | None = None

    def check(self) -> None:
        """Raises BackendError 'evaluate-output' where one could not be written: before minutes of work, not after."""
        for path in (self.json, self.csv, self.report):
            if path is not None and path.is_dir():
                raise BackendError("evaluate-output", f"{path} is a folder; name a file.")
            if path is not None and not path.parent.is_dir():
                raise BackendError(
                    "evaluate-output", f"There is no folder {path.parent} for {path.name}; make it first."
                )
        if self.pictures is not None:
            try:
                self.pictures.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise BackendError(
                    "evaluate-output", f"The folder {self.pictures} cannot be made: {error.strerror or error}."
                ) from error


def evaluate_command(
    avatar_path: Path,
    dataset_path: Path,
    choice: Choice,
    device: str = "auto",
    outputs: Outputs | None = None,
    inception: Path | None = None,
) -> int:
    """The command `neural-avatar evaluate`; see training.commands. Raises BackendError with a sentence for the user."""
    outputs = outputs or Outputs()
    outputs.check()
    header, avatar = read_header(avatar_path), load_avatar(avatar_path, choose_device(device))
    dataset = read_dataset(dataset_path)
    measures = find_measures(avatar.proxy_params.device, inception)
    groups = choice.groups(dataset, trained_cameras(header, dataset))
    frames = evaluate_groups(avatar, dataset, groups, measures)
    result = summary(frames)
    absent = absent_quadrants(groups) if choice.quadrants else ""
    missing = [*measures.missing.values(), *([absent] if absent else [])]
    print(table(result))
    for frame in worst_first(frames)[:3]:
        ssim, decibels = frame.metrics.ssim_box, frame.metrics.psnr_box
        print(f"worst: {frame.camera} {frame.view.row:05d}, SSIM box {ssim:.4f}, PSNR box {decibels:.2f}")
    subject = Subject(avatar_path, header, avatar, dataset)
    limits = [*missing, *known_limits(subject, frames)]
    for sentence in limits:
        print(sentence)
    if outputs.json:
        about = {"avatar": avatar_path.name, "dataset": dataset_path.resolve().name, "method": avatar.config.method}
        write_text(outputs.json, json.dumps({**about, "missing": missing, **result}, indent=1) + "\n")
    if outputs.csv:
        write_csv(outputs.csv, result["frames"])
    if outputs.pictures:
        write_pictures(avatar, dataset, frames, outputs.pictures)
    if outputs.report:
        write_report(outputs.report, subject, frames, result, limits, Reporter().progress("Report"))
    return 0
