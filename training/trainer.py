# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: one step after another until the budget is spent, resumable at every step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..neural_backend.avatar import Avatar
from ..neural_backend.interface.messages import BackendError
from . import parallel
from .adversarial import make_adversary
from .batches import UNSEEN_EVERY, BatchSource
from .checkpoint import Checkpoint, forget_newest, nest, shared_checkpoint, unnest, write_checkpoint
from .config import TrainConfig
from .devices import as_laid_out, lay_out
from .initialise import body_tensors
from .light import LightGains
from .objective import Objective, Terms
from .pretraining import lesson_of
from .schedule import Budget, Stopwatch, learning_rate, network_rate
from .sequences import at_network_size
from .surfaces import ProxySurfaces, Surfaces, undisputed

#: Textures learn this much faster than the network.
TEXTURE_RATE = 2.0
#: Parameters that are textures.
TEXTURES = ("textures", "view_textures")
#: What names of the light's parameters begin with in a checkpoint.
LIGHT = "light"
#: Rollbacks that stand (see STEADY) after which a run gives up.
MAX_ROLLBACKS = 8
#: Steps beyond the last number that was none after which a rollback is forgiven: a long run may meet one such every few
#: hours, which tells nothing of its rate. Adam's second moments look back about as many steps, so nothing of what led
#: there is left in them.
STEADY = 1000


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    elapsed: seconds on the budget's clock; rate_scale: halved at each rollback, doubled as one is forgiven; rollbacks:
    their number; forgiven: how many of them are; good_from: the step from which steps count towards the next one's
    forgiveness; free: True once a pre-trained network has been set free (see TrainConfig.pretrain); finished: the
    avatar of this step is written.
    """

    step: int = 0
    elapsed: float = 0.0
    rate_scale: float = 1.0
    rollbacks: int = 0
    forgiven: int = 0
    good_from: int = 0
    free: bool = False
    finished: bool = False

    @property
    def standing(self) -> int:
        """How many rollbacks are not forgiven."""
        return self.rollbacks - self.forgiven

    def stepped(self) -> RunState:
        """After a step that went well. It is a matter of steps alone, so a resumed run, and every process of one,
        forgives at the same."""
        state = replace(self, step=self.step + 1, finished=False)
        if not state.standing or state.step < state.good_from + STEADY:
            return state
        return replace(state, rate_scale=state.rate_scale * 2, forgiven=state.forgiven + 1, good_from=state.step)

    def rolled_back(self, to: RunState) -> RunState:
        """After one that did not: at an earlier state, at half the rate. Good steps count from beyond the farthest that
        failed, so one that fails at the same place over and over is never forgiven."""
        return replace(
            to, rate_scale=self.rate_scale / 2, rollbacks=self.rollbacks + 1, forgiven=self.forgiven,
            good_from=max(self.good_from, self.step),
        )  # fmt: skip


class Trainer:
    """Owns the avatar's optimisation: weights, their running mean, Adam's moments, and the state of the run.

    facts: plain data on how the avatar was made, kept with the checkpoints and put into the avatar's provenance.
    began: when the run did, by time.monotonic; now where it is not given.
    """

    def __init__(
        self,
        config: TrainConfig,
        avatar: Avatar,
        source: BatchSource,
        image_loss: nn.Module,
        folder: Path,
        fingerprint: str,
        surfaces: Surfaces | None = None,
        began: float | None = None,
    ) -> None:
        self.config, self.avatar, self.folder = config, avatar, folder
        self.budget, self.state = Budget.of(config), RunState()
        self.facts: dict[str, Any] = {}
        self._source, self._surfaces = source, surfaces or ProxySurfaces(avatar, source.shots)
        self._fingerprint = fingerprint + self._surfaces.fingerprint
        self._device = avatar.proxy_params.device
        lay_out(avatar.generator, self._device)
        textures = [p for n, p in avatar.named_parameters() if n in TEXTURES]
        network = [p for n, p in avatar.named_parameters() if n not in TEXTURES]
        self.light = LightGains(source.shots).to(self._device) if config.light_gain else None
        self.adversary = make_adversary(config, avatar)
        self._objective = Objective(config, avatar, image_loss, self.light, self.adversary)
        gains = list(self.light.parameters()) if self.light is not None else []
        groups = [{"params": network, "rate": network_rate(config)}, {"params": gains, "rate": config.lr},
                  {"params": textures, "rate": config.lr * TEXTURE_RATE}]  # fmt: skip
        self._optimizer = torch.optim.Adam(
            [g for g in groups if g["params"]], lr=config.lr, fused=self._device.type != "mps"
        )
        self._mean = {n: p.detach().clone() for n, p in avatar.named_parameters()}
        self._began = time.monotonic() if began is None else began
        self._watch = Stopwatch(self.budget.kind, self._began)
        self._elapsed = self._watch.elapsed

    def goes_on(self, asked: bool = False) -> bool:
        """Look at the clock; whether there is budget left, and no process of the run was asked to stop."""
        self._elapsed, asked = parallel.agree(self._watch.elapsed, asked)
        return self.progress < 1 and not asked

    @property
    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.budget.progress(self.state.step, self._elapsed)

    @property
    def elapsed(self) -> float:
        """Seconds on the budget's clock when it was last looked at, in all processes alike."""
        return self._elapsed

    @property
    def pretraining(self) -> bool:
        """Whether the next step is one of pre-training (see TrainConfig.pretrain)."""
        return self.config.taught and self.config.pretrain > 0 and not self.state.free

    @property
    def pretrained(self) -> bool:
        """Whether pre-training has had its share, and the textures wait to be averaged."""
        return self.pretraining and self.progress >= self.config.pretrain

    @property
    def guidance(self) -> float:
        """The weight, from 1 down to 0, with which the next step is held to known surfaces (see TrainConfig.guide)."""
        guided = self.config.taught and self.config.guide > 0
        return max(0.0, 1 - self.progress / self.config.guide) if guided else 0.0

    @property
    def detail(self) -> int:
        """How many times the network's size the next step's pictures have (see TrainConfig.refine)."""
        return 2 if self.progress > 1 - self.config.refine else 1

    # -- one step ------------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """Do one step. Returns its losses (see Terms.logged) and rate; after a rollback, {} (the state has gone back to
        the last checkpoint)."""
        state = self.state
        scale = learning_rate(state.step, self.progress) * state.rate_scale
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * scale
        if self.guidance:  # the textures are right from the start; a network that knows nothing yet would blur them
            self._optimizer.param_groups[-1]["lr"] *= 1 - self.guidance
        self._optimizer.zero_grad(set_to_none=True)
        terms = self._terms()
        total = terms.total
        total.backward()  # type: ignore[no-untyped-call]
        learned = self._learned().values()
        parallel.average_gradients(learned)
        norm = nn.utils.clip_grad_norm_(learned, self.config.clip)
        # One look at the device for all numbers; in every process the same, so that all go back or none does.
        numbers = torch.stack([norm, total, *terms.logged.values()]).detach()
        size, loss, *parts = parallel.mean_over_processes(numbers).tolist()
        if not (math.isfinite(loss) and math.isfinite(size)):
            self._roll_back()
            return {}
        self._optimizer.step()
        self._update_mean(state.step)
        values = {"loss": loss, **dict(zip(terms.logged, parts, strict=True)), "lr": self.config.lr * scale}
        if self.adversary is not None and not self.pretraining:
            values["discriminator"] = self.adversary.learn(scale)
            if not math.isfinite(values["discriminator"]):
                self._roll_back()
                return {}
        self.state = state.stepped()
        return values

    def rehearse(self) -> None:
        """Compute a step of the largest pictures that the run will see, and learn nothing from it: a GPU whose memory
        does not suffice for the end is told of at the beginning."""
        detail = 2 if self.config.refine else 1
        step = self.state.step + -(self.state.step + 1) % UNSEEN_EVERY  # the next that looks at unseen sides too
        terms = self._objective.terms(self._source.batch(step, 0, detail), step, detail)
        terms.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.zero_grad(set_to_none=True)

    def _terms(self) -> Terms:
        step, attempt, detail = self.state.step, self.state.rollbacks, self.detail
        if self.pretraining:
            lesson = lesson_of(self.config, self.avatar, self._source, self._surfaces, step, attempt)
            return self._objective.pretraining_terms(lesson)
        batch, guide = self._source.batch(step, attempt, detail), None
        if self.guidance:
            alpha, valid = (at_network_size(x, detail)[:, 0] for x in (batch.truth.rgba[:, 3:], batch.truth.valid))
            guide = undisputed(self._surfaces.seen(batch.which, batch.cameras), alpha, valid)
        return self._objective.terms(batch, step, detail, guide, self.guidance)

    def _update_mean(self, step: int) -> None:
        decay = min(self.config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, parameter in self.avatar.named_parameters():
                self._mean[name].lerp_(parameter, 1 - decay)

    def _learned(self) -> dict[str, nn.Parameter]:
        """Everything that steps change, by name: the avatar's weights, and those of what learns beside it."""
        beside = {f"{LIGHT}.{n}": p for n, p in self.light.named_parameters()} if self.light is not None else {}
        return {**dict(self.avatar.named_parameters()), **beside}

    # -- state ---------------------------------------------------------------------------------------------------------

    def set_free(self, average: Callable[[], None]) -> None:
        """End pre-training: ``average`` fills the textures from the network's own prediction; the running mean starts
        anew."""
        average()
        if self.avatar.textures is not None:
            parallel.make_same([self.avatar.textures])
        self._mean = {n: p.detach().clone() for n, p in self.avatar.named_parameters()}
        self.state = replace(self.state, free=True)

    def make_same(self) -> None:
        """Give all processes of the run the first one's avatar and all that learns beside it."""
        beside = () if self.adversary is None else self.adversary.parameters()
        parallel.make_same([*self._learned().values(), *beside, self.avatar.proxy_params])

    def finish(self) -> None:
        """Mark the run as finished and save that; what came after the last ``save`` does not count as training time."""
        self.state = replace(self.state, finished=True)
        self._write()

    def export_weights(self) -> dict[str, Tensor]:
        """The running mean of the weights (the last weights without one), by parameter name."""
        current = {n: p.detach() for n, p in self.avatar.named_parameters()}
        return {n: t.clone() for n, t in (self._mean if self.config.ema else current).items()}

    def with_export_weights(self, use: Callable[[Avatar], float]) -> float:
        """Call ``use`` with the avatar as it would be exported; its training weights come back afterwards."""
        kept = {n: p.detach().clone() for n, p in self.avatar.named_parameters()}
        own = dict(self.avatar.named_parameters())
        _put(own, self.export_weights())
        try:
            return use(self.avatar)
        finally:
            _put(own, kept)

    def save(self) -> None:
        """Write a checkpoint; raises BackendError 'checkpoint-write'."""
        self.state = replace(self.state, elapsed=self._watch.elapsed)
        self._write()

    def _write(self) -> None:
        weights = self._learned()
        moments = {
            f"{name}/{key}": value
            for name, parameter in weights.items()
            for key, value in self._optimizer.state.get(parameter, {}).items()
        }
        tensors = nest("weights", weights) | nest("mean", self._mean) | nest("moments", moments)
        state = {
            "run": asdict(self.state),
            "config": self.config.as_dict(),
            "data": self._fingerprint,
            "facts": self.facts,
        }
        state["network"] = asdict(self.avatar.config.network)
        if self.adversary is not None:
            tensors |= nest("adversary", self.adversary.state())
        write_checkpoint(self.folder, Checkpoint(tensors | nest("body", body_tensors(self.avatar)), state))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint. Raises BackendError 'train-resume' when it belongs to other data."""
        if checkpoint.state["data"] != self._fingerprint:
            raise BackendError(
                "train-resume",
                f"The dataset is not the one that the run in {self.folder} began with; give that one, or --restart to "
                "start over.",
            )
        self._take(checkpoint)
        self.state = RunState(**checkpoint.state["run"])
        self.facts = dict(checkpoint.state["facts"])
        self._watch = Stopwatch(self.budget.kind, self._began, self.state.elapsed)
        self._elapsed = self._watch.elapsed

    def _take(self, checkpoint: Checkpoint) -> None:
        learned = self._learned()
        _put(learned, unnest("weights", checkpoint.tensors))
        self._mean = {n: t.to(self._device) for n, t in unnest("mean", checkpoint.tensors).items()}
        moments = unnest("moments", checkpoint.tensors)
        self._optimizer.state.clear()
        for name, parameter in learned.items():
            own = unnest(name, moments)
            if own:
                self._optimizer.state[parameter] = {k: as_laid_out(v, parameter) for k, v in own.items()}
        if self.adversary is not None:
            self.adversary.restore(unnest("adversary", checkpoint.tensors))

    def _roll_back(self) -> None:
        """After a loss or gradient that is not finite: the last checkpoint, half the rate, other crops. One from which
        nothing leads on, though all in it is finite, gives way to the one before it."""
        if self.state.standing == MAX_ROLLBACKS // 2 and parallel.is_main():
            forget_newest(self.folder)
        checkpoint = shared_checkpoint(self.folder)
        if checkpoint is None or self.state.standing >= MAX_ROLLBACKS:
            raise BackendError(
                "train-diverged",
                f"The loss was not a number at step {self.state.step}, the last of {self.state.rollbacks + 1} times; "
                "try a lower --lr.",
            )
        self._take(checkpoint)
        self.state = self.state.rolled_back(RunState(**checkpoint.state["run"]))


def _put(parameters: Mapping[str, nn.Parameter], tensors: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name not in tensors or tensors[name].shape != parameter.shape:
                raise BackendError(
                    "train-resume", f"The checkpoint holds no {name} of the avatar's shape; use --restart."
                )
            parameter.copy_(tensors[name])
