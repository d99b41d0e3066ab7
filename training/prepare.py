# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a training run needs before its first step: footage, avatar, losses and trainer, made anew or taken
from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.past import PAST_FRAMES
from . import atlas, densepose, initialise, parallel
from .batches import BatchSource, Shot
from .checkpoint import Checkpoint, shared_checkpoint
from .config import TrainConfig
from .crops import Augmentation
from .dataset import Dataset, read_dataset
from .devices import in_bfloat16, precision_name
from .disturbance import Disturbance
from .files import write_text
from .interrupt import Interrupt
from .losses import FallbackImageLoss, PerceptualImageLoss
from .pictures import PictureCache
from .preview import Preview, preview_shots
from .reporting import Reporter
from .sides import FEW, FilmedSides
from .surfaces import PredictedSurfaces, Surfaces, make_surfaces
from .trainer import Trainer
from .vgg import find_vgg_weights, load_vgg, random_vgg

#: Options in which processes of one run may differ, as the machines do on which they run.
_OWN = ("device", "threads", "cache_gb", "vgg_weights", "init_from", "densepose")


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin or to go on."""

    trainer: Trainer
    source: BatchSource
    preview: Preview
    datasets: list[Dataset]
    shots: list[Shot]


def prepare(
    paths: Sequence[Path], folder: Path, config: TrainConfig, device: torch.device, reporter: Reporter,
    interrupt: Interrupt, began: float,
) -> Run:  # fmt: skip
    """Footage, avatar and trainer, in all processes of the run alike; from the checkpoint where there is one."""
    if config.threads:
        torch.set_num_threads(config.threads)
    checkpoint = shared_checkpoint(folder)
    # Each process makes everything by itself, which takes no longer than waiting for one that does, and leaves no
    # second way in which a run can begin.
    with parallel.agreed():
        if checkpoint is not None:
            _check_options(config, checkpoint, folder)
        cache = PictureCache(int(config.cache_gb * 2**30))
        datasets = [read_dataset(path, cache) for path in paths]
        begun: dict[str, Any] = checkpoint.state["facts"] if checkpoint is not None else {}
        image_loss, loss_name = make_image_loss(config, str(begun.get("image_loss", "")))
        if config.kind.network:
            reporter.say(f"Image loss: {loss_name}.")
        if config.idle:
            reporter.say(f"Without effect on method {config.method}: {', '.join(config.idle)}.")
        avatar, shots, surfaces, facts = _begin(config, datasets, checkpoint, folder, device, reporter, interrupt)
        augmentation, errors = (
            Augmentation(config.zoom, config.shift, config.rotation),
            Disturbance(config.jitter, config.dropout),
        )
        part = (parallel.rank(), parallel.size())
        before = PAST_FRAMES if avatar.config.reads_past else int(config.weight_temporal > 0)
        sides = _unseen_sides(config, shots, facts, reporter)
        source = BatchSource(shots, config.batch, config.seed, augmentation, device, errors, before, part, sides=sides)
        before_in = str(begun.get("precision", ""))
        avatar.mixed_precision = in_bfloat16(config.precision, device, before_in)
        precision = precision_name(avatar.mixed_precision)
        if before_in not in ("", precision):
            reporter.say(f"The run began in {before_in} and goes on in {precision}, which is faster here.")
        trainer = Trainer(config, avatar, source, image_loss.to(device), folder, source.fingerprint(), surfaces, began)
        trainer.facts = {**facts, **surfaces.about, "image_loss": loss_name, "precision": precision}
        if checkpoint is not None:
            trainer.restore(checkpoint)
            trainer.facts["precision"] = precision
            reporter.say(f"Resuming at step {trainer.state.step}.")
        if parallel.is_main():  # also of a run that goes on: its budget may be larger now
            with reporter.side_product("file config.json"):
                write_text(folder / "config.json", json.dumps(config.as_dict(), indent=1) + "\n")
        preview = Preview(folder, preview_shots(avatar, datasets, shots, reporter.say), reporter)
    options = {key: value for key, value in config.as_dict().items() if key not in _OWN}
    parallel.require_alike(
        {
            "options": json.dumps(options),
            "data": source.fingerprint() + surfaces.fingerprint,
            "image loss": loss_name,
            "precision": precision,
            "kind of device": device.type,
        }
    )
    trainer.make_same()
    trainer.goes_on()  # all by one clock from here on
    return Run(trainer, source, preview, datasets, shots)


def _unseen_sides(
    config: TrainConfig, shots: Sequence[Shot], facts: dict[str, Any], reporter: Reporter
) -> FilmedSides | None:
    """The sides that were filmed, where there are others; their share goes into the facts."""
    sides = FilmedSides(shots) if config.holds_sides else None
    share = sides.unseen_share() if sides is not None else 0.0
    if share < FEW:
        return None
    facts["unseen_sides"] = round(share, 3)
    reporter.say(f"Of the sides of the body {share:.0%} were not filmed: there the surface alone tells how it looks.")
    return sides


def _check_held_out(config: TrainConfig, datasets: Sequence[Dataset], reporter: Reporter) -> None:
    """Say what will not be known of the avatar; raises BackendError 'dataset-heldout' where that is everything."""
    lacking = [(dataset.path, lacks) for dataset in datasets if (lacks := dataset.not_held_out(config.cameras))]
    told = [f"{path} holds out {' and '.join(lacks)}" for path, lacks in lacking]
    if not config.unjudged and len(lacking) == len(datasets) and all(len(lacks) == 2 for _, lacks in lacking):
        raise BackendError(
            "dataset-heldout",
            f"{told[0]}: nothing could tell how the avatar looks beyond its footage; hold some out, or give --unjudged "
            "to train on all of it.",
        )
    for sentence in told:
        reporter.say(f"{sentence}: figures will not tell how the avatar looks beyond its footage.")


def _check_options(config: TrainConfig, checkpoint: Checkpoint, folder: Path) -> None:
    differences = config.differences(checkpoint.state["config"])
    if differences:
        raise BackendError(
            "train-resume",
            f"A run with other options is in {folder}: {'; '.join(differences)}. Give the same options to resume it, "
            "another -o, or --restart to start over.",
        )


def _begin(
    config: TrainConfig, datasets: list[Dataset], checkpoint: Checkpoint | None, folder: Path, device: torch.device,
    reporter: Reporter, interrupt: Interrupt,
) -> tuple[Avatar, list[Shot], Surfaces, dict[str, Any]]:  # fmt: skip
    """The avatar on its device, its shots and their known surfaces, and facts on its making; from the checkpoint where
    there is one."""
    views = [dataset.training_views(config.cameras) for dataset in datasets]
    if checkpoint is None:
        _check_held_out(config, datasets, reporter)
    # Before the pictures are read, which takes a while: what is wrong with --init-from is told at once.
    avatar = initialise.new_avatar(config, datasets) if checkpoint is None else initialise.avatar_of(config, checkpoint)
    if config.densepose:
        densepose.places(config.densepose, [dataset.path for dataset in datasets])
    reporter.say(f"Reading {sum(map(len, views))} pictures.")
    for dataset, some in zip(datasets, views, strict=True):
        dataset.preload(some)

    def framed() -> list[Shot]:
        return [s for s in initialise.frame_views(avatar, datasets, views) if not s.dataset.picture(s.view).empty]

    if checkpoint is not None:
        avatar, shots = avatar.to(device).train(), framed()
        return avatar, shots, make_surfaces(config, avatar, shots, reporter.say), {}
    shots = framed()
    if left_out := sum(map(len, views)) - len(shots):
        reporter.say(f"{left_out} of them are left out: their mask is empty, or the body is outside.")
    _check_shots(shots)
    facts: dict[str, Any] = {"datasets": [d.path.resolve().name for d in datasets], "pictures": len(shots)}
    if config.init != "random" and config.has_proxy and config.proxy_steps:
        fitted = initialise.fit(avatar, shots, config.proxy_steps, reporter.progress("Fitting the proxy"))
        facts["proxy_iou"] = round(fitted.iou_after, 4)
        reporter.say(f"The proxy covers the masks with IoU {fitted.iou_after:.3f} ({fitted.iou_before:.3f} before).")
    if interrupt.asked:
        raise KeyboardInterrupt  # there is nothing yet that a checkpoint could hold
    avatar = avatar.to(device).train()
    surfaces = make_surfaces(config, avatar, shots, reporter.say)
    if avatar.textures is not None and not (config.taught and config.pretrain) and config.init != "random":
        # A network that predicts outright points where its own textures are to be; residuals stay near the surface, and
        # those of another person would blur what it holds in focus.
        known = PredictedSurfaces(avatar, shots) if config.init_from and config.outright else surfaces
        facts |= fill(config, avatar, shots, known, folder, reporter)
    return avatar, shots, surfaces, facts


def _check_shots(shots: Sequence[Shot]) -> None:
    if not shots:
        raise BackendError("dataset-empty", "The body is outside every training picture; check the cameras and joints.")
    if len({(id(shot.dataset), shot.view.row) for shot in shots}) < 2:
        shot = shots[0]
        raise BackendError(
            "dataset-frames",
            f"A single frame is left to train on, row {shot.view.row} of {shot.dataset.path}; check the others' masks "
            "and cameras.",
        )


def fill(
    config: TrainConfig, avatar: Avatar, shots: Sequence[Shot], surfaces: Surfaces, folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Average the textures through the shots' surfaces; facts on how much of them was seen."""
    report = reporter.progress("Averaging the textures")
    averaged = initialise.fill_textures(avatar, shots, surfaces, config.black_unseen, report)
    reporter.say(f"{averaged.coverage:.1%} of the texels were seen.")
    if parallel.is_main():
        with reporter.side_product("texture atlas"):
            atlas.write_start(folder, averaged.textures, averaged.seen)
    parts = [round(share, 4) for share in averaged.coverage_parts]
    return {"coverage": round(averaged.coverage, 4), "coverage_parts": parts}


def make_image_loss(config: TrainConfig, begun: str = "") -> tuple[nn.Module, str]:
    """The image loss that the configuration asks for, and its name; the name says so where weights could not be had.

    begun: the name of the loss that a resumed run began with, which it keeps: 'auto' was decided then. Raises
    BackendError 'vgg-weights' when weights are missing or unusable, 'train-resume' when others are given than began.
    """
    if config.image_loss == "vgg-random":
        return PerceptualImageLoss(random_vgg()), "random VGG19 features, first 12 layers"
    fallback = config.image_loss == "fallback" or begun.startswith(FallbackImageLoss.name)
    if fallback and begun and config.vgg_weights and config.image_loss == "auto":
        raise BackendError(
            "train-resume", f"The run began with the image loss {begun}; leave --vgg-weights out to resume it, or give "
            "--restart to start over with them.",
        )  # fmt: skip
    path = None if fallback else find_vgg_weights(config.vgg_weights)
    if path is not None:
        return PerceptualImageLoss(load_vgg(path)), PerceptualImageLoss.name
    if config.image_loss == "vgg" or begun.startswith(PerceptualImageLoss.name):
        why = ", with which this run began," if begun else ""
        raise BackendError(
            "vgg-weights",
            f"VGG19's ImageNet weights{why} were not found; `neural-avatar weights vgg19` downloads them, "
            "or give them with --vgg-weights FILE.",
        )
    reason = " (VGG19's weights were not found; `neural-avatar weights vgg19` downloads them)"
    reason = "" if config.image_loss == "fallback" else reason
    return FallbackImageLoss(), begun or FallbackImageLoss.name + reason
