# SPDX-License-Identifier: GPL-3.0-or-later
"""The adversarial loss: discriminators that learn to tell renders from film, and what they say of a render.

Least squares (Mao et al. 2017) and feature matching, as in pix2pixHD and vid2vid. A discriminator of pictures sees each
together with what the network was shown of the pose; for method v2v another one sees three frames in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..neural_backend.avatar import Avatar
from ..neural_backend.past import PAST_FRAMES
from . import parallel
from .checkpoint import nest, unnest
from .config import TrainConfig
from .devices import as_laid_out, lay_out
from .discriminators import MultiScaleDiscriminator

#: Channels of a picture: premultiplied colour and alpha.
_PICTURE = 4
#: The discriminators learn this much slower than the network, which is to stay ahead of them.
RATE = 0.2


@dataclass(frozen=True)
class Seen:
    """What a discriminator judges: renders and film, (B, C, H, W) each. The renders carry their gradient.

    share: how many there are of what each process has on average: they count alike, however processes share the batch
    out. Where it is 0, this process has none, and others have some.
    """

    name: str
    fake: Tensor
    real: Tensor
    share: float = 1.0


class Adversary:
    """The discriminators of a run, with an optimiser of their own.

    condition: channels of what the network is shown of the pose. frames: how many frames in a row a second
    discriminator sees; 0 for none. mixed: compute in bfloat16. Draws from no random generator but its own.
    """

    def __init__(
        self, condition: int, frames: int, seed: int, lr: float, device: torch.device, mixed: bool = False
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            networks: dict[str, nn.Module] = {"picture": MultiScaleDiscriminator(condition + _PICTURE)}
            if frames:
                networks["film"] = MultiScaleDiscriminator(frames * _PICTURE, scales=1)
        self._networks = nn.ModuleDict(networks).to(device)
        lay_out(self._networks, device)
        self._lr = lr * RATE
        self._optimizer = torch.optim.Adam(
            self._networks.parameters(), self._lr, (0.5, 0.999), fused=device.type != "mps"
        )
        self._mixed = mixed
        self._seen: tuple[Seen, ...] = ()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The discriminators' weights."""
        return self._networks.parameters()

    @property
    def judges_film(self) -> bool:
        """Whether there is a discriminator of frames in a row."""
        return "film" in self._networks

    def terms(self, seen: Sequence[Seen]) -> tuple[Tensor, Tensor]:
        """What the discriminators say of the renders: the adversarial loss and the distance of features (feature
        matching), each a mean over scales and discriminators. They learn from the same pictures in ``learn``."""
        self._seen = tuple(replace(s, fake=s.fake.detach()) for s in seen)
        adversarial, features = seen[0].fake.new_zeros(()), seen[0].fake.new_zeros(())
        self._networks.requires_grad_(False)  # the gradient goes through them, to the renders alone
        for s in self._mine(seen):
            with torch.no_grad():
                wanted = self._judged(s.name, s.real)
            for own, target in zip(self._judged(s.name, s.fake), wanted, strict=True):
                adversarial = adversarial + s.share * (own[-1] - 1).square().mean()
                pairs = zip(own[:-1], target[:-1], strict=True)
                features = features + s.share * torch.stack([functional.l1_loss(a, b) for a, b in pairs]).mean()
        self._networks.requires_grad_(True)
        scales = self._scales(seen)
        return adversarial / scales, features / scales

    def learn(self, scale: float) -> float:
        """One step of the discriminators on what they last saw. scale: of their learning rate. Returns their loss; not
        finite when they have diverged."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * scale
        self._optimizer.zero_grad(set_to_none=True)
        losses = []
        for s in self._mine(self._seen):
            for real, fake in zip(self._judged(s.name, s.real), self._judged(s.name, s.fake), strict=True):
                losses.append(s.share * ((real[-1] - 1).square().mean() + fake[-1].square().mean()) / 2)
        loss = torch.stack(losses).sum() / self._scales(self._seen)
        self._seen = ()
        loss.backward()  # type: ignore[no-untyped-call]
        parallel.average_gradients(self._networks.parameters())
        norm = nn.utils.clip_grad_norm_(self._networks.parameters(), math.inf)
        self._optimizer.step()
        mean, size = parallel.mean_over_processes(torch.stack([loss.detach(), norm])).tolist()
        return float(mean) if math.isfinite(size) else math.nan

    @staticmethod
    def _mine(seen: Sequence[Seen]) -> list[Seen]:
        return [s for s in seen if s.share]

    def _scales(self, seen: Sequence[Seen]) -> int:
        """Over how many discriminators losses are means."""
        networks = [self._networks[s.name] for s in seen]
        return sum(len(n.scales) for n in networks if isinstance(n, MultiScaleDiscriminator))

    def _judged(self, name: str, pictures: Tensor) -> list[list[Tensor]]:
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self._mixed):
            scales = self._networks[name](pictures)
        return [[layer.float() for layer in scale] for scale in scales]

    def state(self) -> dict[str, Tensor]:
        """Weights and moments, for a checkpoint."""
        weights = dict(self._networks.named_parameters())
        moments = {
            f"{name}/{key}": value
            for name, p in weights.items()
            for key, value in self._optimizer.state.get(p, {}).items()
        }
        return nest("weights", weights) | nest("moments", moments)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take what ``state`` gave."""
        weights, moments = unnest("weights", state), unnest("moments", state)
        self._networks.load_state_dict(weights)
        self._optimizer.state.clear()
        for name, parameter in self._networks.named_parameters():
            own = unnest(name, moments)
            if own:
                self._optimizer.state[parameter] = {k: as_laid_out(v, parameter) for k, v in own.items()}


def make_adversary(config: TrainConfig, avatar: Avatar) -> Adversary | None:
    """The discriminators that a run asks for; None where it asks for none, and then nothing of it is computed."""
    if not (config.adversarial or config.features):
        return None
    frames = 1 + PAST_FRAMES if avatar.config.reads_past else 0
    device = avatar.proxy_params.device
    return Adversary(avatar.config.shown_channels, frames, config.seed, config.lr, device, avatar.mixed_precision)
