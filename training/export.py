# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a run: the avatar's file, with where it comes from and what it is worth on pictures that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import __version__
from ..neural_backend import faults
from ..neural_backend.avatar import Avatar
from ..neural_backend.avatar_file import make_header, save_avatar
from ..neural_backend.interface.messages import BackendError
from . import atlas
from .batches import Shot
from .dataset import Dataset
from .evaluate import heldout_figures
from .preview import thumbnail
from .reporting import Reporter
from .trainer import Trainer


@dataclass(frozen=True)
class Labels:
    """What the avatar's file says of its origin."""

    name: str = ""
    license: str = ""
    credit: str = ""


def export(
    avatar: Avatar, trainer: Trainer, output: Path, labels: Labels, datasets: Sequence[Dataset], shots: Sequence[Shot],
    score: float, reporter: Reporter,
) -> float:  # fmt: skip
    """Write the avatar as it stands. score: the preview's PSNR in dB, returned. Raises BackendError as save_avatar
    does."""
    credit = labels.credit or "; ".join(sorted({d.credit for d in datasets if d.credit}))
    config = trainer.config.as_dict()  # of files their names alone: where they lie is nobody else's business
    provenance = {
        **trainer.facts,
        "program": f"Neural Avatar {__version__}, torch {torch.__version__}",
        "config": {
            **config,
            **{key: Path(config[key]).name for key in ("init_from", "vgg_weights")},
            "densepose": [Path(path).name for path in config["densepose"]],
        },
        "steps": trainer.state.step,
        "seconds": round(trainer.state.elapsed, 1),
        "clock": trainer.budget.kind,
    }
    try:
        figures = heldout_figures(avatar, datasets, trainer.config.cameras, reporter.progress("Evaluating"))
    except (BackendError, RuntimeError, MemoryError) as error:  # what cannot be judged must not cost the avatar
        if not (isinstance(error, BackendError) or faults.out_of_memory(error)):
            raise
        figures = {}
        why = error.message if isinstance(error, BackendError) else (
            "Memory does not suffice to draw the held-out pictures as large as they are; `evaluate --device cpu` may."
        )  # fmt: skip
        reporter.say(f"{why} The avatar's file holds no figures of what was held out.")
    metrics = {"preview_psnr": round(score, 3), **figures}
    header = make_header(
        avatar, name=labels.name or output.stem, license=labels.license, credit=credit,
        thumbnail=thumbnail(avatar, shots[len(shots) // 3]), provenance=provenance, metrics=metrics,
    )  # fmt: skip
    save_avatar(output, avatar, header)
    if avatar.textures is not None:
        with reporter.side_product("texture atlas"):
            atlas.write_end(trainer.folder, avatar.textures)
    return score
