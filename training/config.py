# SPDX-License-Identifier: GPL-3.0-or-later
"""The one configuration of a training run. Each field's help text becomes the command line's; the whole is saved with
the run."""

from __future__ import annotations

import argparse
import math
import types
import typing
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any

from ..neural_backend.interface.avatar_header import METHODS, Method
from ..neural_backend.interface.messages import BackendError

#: What a run without a budget gets.
DEFAULT_MINUTES = 60.0
#: Options that mean nothing without textures, without a proxy, and without a network.
_TEXTURES = ("texture_size", "unseen", "weight_smooth", "weight_view")
_PROXY = ("proxy_steps", "hair", "init")
_LEARNING = (
    "skips", "wide", "minutes", "cpu_minutes", "steps", "batch", "lr", "guide", "pretrain", "image_loss", "vgg_weights",
    "weight_image", "weight_mask", "weight_smooth", "weight_view", "weight_coordinates", "weight_sides", "zoom",
    "shift", "rotation", "jitter", "dropout", "confidence_weighted", "light_gain", "refine", "precision", "ema", "clip",
)  # fmt: skip

#: Weights of the discriminators' losses where the method is v2v, in pix2pixHD's and vid2vid's proportion.
V2V_ADVERSARIAL, V2V_FEATURES = 0.1, 1.0


def _option(default: Any, help_: str, **extra: Any) -> Any:
    """A field with its help text. choices: allowed values; run: True where it may differ when a run is resumed."""
    return field(default=default, metadata={"help": help_, **extra})


@dataclass(frozen=True)
class TrainConfig:
    """What a training run does. Every field is a command line option of the same name."""

    method: str = _option(
        "textured-proxy",
        "what the network predicts: textured-proxy (textures, as residuals over the proxy surface), textured (the "
        "paper's, from the skeleton alone; taught known surfaces at first), direct (colours, the paper's ablation), "
        "direct-proxy (the same, with the proxy as input), v2v (video translation: colours from a network that also "
        "sees its own frames before, a baseline in the spirit of vid2vid), static (proxy and averaged textures, no "
        "network)",
        choices=tuple(METHODS),
    )
    skips: bool = _option(True, "skip connections from the encoder to the decoders")
    wide: bool = _option(
        False, "the paper's network (32 to 256 channels, 17 M parameters) instead of the narrow one for CPUs"
    )
    residual: bool = _option(
        True,
        "textured-proxy answers with residuals over the proxy; without, it predicts outright and is taught, as "
        "textured is, with the proxy as input (an ablation)",
    )
    size: int = _option(256, "height of the network's picture in pixels, a multiple of 32; its width is half")
    texture_size: int = _option(
        0,
        "side of each of the 24 textures in texels; 0 chooses: half the size, or all of it where the footage is finer",
    )
    view_order: int = _option(
        0, "order, up to 2, of the spherical harmonics by which the textures' colour changes with the direction of view"
    )
    minutes: float = _option(
        0.0, f"stop after this many minutes by the clock, from the start on; {DEFAULT_MINUTES:g} where no budget is "
        "given", run=True,
    )  # fmt: skip
    cpu_minutes: float = _option(
        0.0, "stop after this many minutes of this process's CPU time; waiting for others does not count", run=True
    )
    steps: int = _option(0, "stop after this many steps (resuming is then exact)", run=True)
    seed: int = _option(0, "seed of everything random")
    batch: int = _option(4, "pictures in each step")
    lr: float = _option(2e-3, "learning rate of the network; the textures' is twice that")
    proxy_steps: int = _option(200, "steps of fitting the proxy to the masks; 0 leaves the average build")
    hair: bool = _option(True, "bodies of the proxy for hair that stands off the skull")
    init: str = _option(
        "proxy",
        "what a run begins with: proxy (fitted to the masks; textures averaged through it), densepose (method textured "
        "is taught DensePose's results instead, see --densepose), random (neither taught, nor fitted, nor averaged: an "
        "ablation)",
        choices=("proxy", "densepose", "random"),
    )
    densepose: tuple[str, ...] = _option(
        (),
        "DensePose's results for each dataset, in their order: a folder with a folder of IUV pictures (PNG) or a dump "
        "of apply_net for each camera, named as it is; or one of these itself, where one camera is trained on",
        run=True, metavar="PATH",
    )  # fmt: skip
    guide: float = _option(
        0.6,
        "share of the budget, from its start, over which method textured (and --no-residual) is held to the parts and "
        "coordinates of the proxy or of DensePose as well as to the pictures, ever more weakly",
    )
    pretrain: float = _option(
        0.0, "share of the budget in which it learns those alone, before it sees pictures; the paper's way is "
        "--pretrain 0.3 --guide 0",
    )  # fmt: skip
    unseen: str = _option(
        "auto",
        "texels that no picture shows begin as the nearest seen one's colour, and those that few pixels show borrow "
        "from their neighbours (nearest); or they begin black and all others as plain means, as in the paper (black); "
        "auto: black for method textured, else nearest",
        choices=("auto", "nearest", "black"),
    )
    init_from: str = _option(
        "",
        "take the network of this avatar, of the same method; textures are averaged anew and learn at the full "
        "rate, the network at a third of it (one that holds the colours itself, as direct's, at the full rate)",
    )
    cameras: tuple[str, ...] = _option(("train",), "cameras to train on: train, all, or names")
    image_loss: str = _option(
        "auto",
        "vgg (needs the weights), fallback (multi-scale L1 + gradients + structural similarity), vgg-random (the same "
        "layers with random weights from a fixed seed, an ablation), or auto: vgg where its weights are found, else "
        "fallback",
        choices=("auto", "vgg", "vgg-random", "fallback"),
    )
    vgg_weights: str = _option("", "file of VGG19's ImageNet weights (torch state dict or safetensors)", run=True)
    weight_image: float = _option(1.0, "weight of the image loss (equation 2)")
    weight_mask: float = _option(2.0, "weight of the mask loss (equation 3)")
    weight_smooth: float = _option(0.5, "weight of the total variation of the textures")
    weight_view: float = _option(0.1, "weight that holds view-dependent colour small")
    weight_coordinates: float = _option(1.0, "weight that holds texture coordinates to the proxy's")
    weight_sides: float = _option(
        1.0, "weight that holds method textured-proxy to the proxy from sides that no camera filmed; 0 for none"
    )
    weight_adversarial: float = _option(
        -1.0, "weight of the adversarial loss, of discriminators that learn beside; below 0 for the method's own "
        f"({V2V_ADVERSARIAL:g} for v2v, 0 for all others)"
    )  # fmt: skip
    weight_features: float = _option(
        -1.0, "weight of the distance between the discriminators' features of render and film; below 0 for the "
        f"method's own ({V2V_FEATURES:g} for v2v, 0 for all others)"
    )  # fmt: skip
    weight_temporal: float = _option(
        0.0,
        "weight of change from one row to the next that the film does not show; costs a second picture in each step",
    )
    zoom: float = _option(1.12, "augmentation: largest zoom of a crop, either way")
    shift: float = _option(0.05, "augmentation: largest shift of a crop, as a share of its size")
    rotation: float = _option(8.0, "augmentation: largest roll of a crop in degrees")
    jitter: float = _option(
        0.0, "errors of a pose model made on purpose: hands, face and feet are moved by this many times its usual error"
    )
    dropout: float = _option(0.0, "probability that a hand, the face or a foot is taken for unseen in a picture")
    confidence_weighted: bool = _option(
        False, "draw bones weaker where the pose model was less sure of them, so that the network trusts them less"
    )
    light_gain: bool = _option(
        False, "learn a gain for each clip and camera, where exposure or white balance differ or drift"
    )
    refine: float = _option(0.25, "share of the budget, at its end, in which pictures are compared at twice the "
                            "network's size, as they will be rendered")  # fmt: skip
    precision: str = _option("auto", "full, mixed (the network computes in bfloat16), or auto: mixed where the "
                             "processor is faster at it", choices=("auto", "full", "mixed"))  # fmt: skip
    ema: float = _option(0.995, "decay of the running mean of the weights that is exported; 0 exports the last weights")
    clip: float = _option(5.0, "largest norm of the gradient")
    unjudged: bool = _option(
        False, "train also where datasets hold out neither cameras nor rows, so that nothing can tell how good the "
        "avatar is beyond its footage", run=True,
    )  # fmt: skip
    device: str = _option("auto", "auto, cpu, cuda, cuda:N or mps", run=True)
    threads: int = _option(
        0, "CPU threads of torch, 0 for its own choice (results depend on it in the last bit)", run=True
    )
    checkpoint_minutes: float = _option(2.0, "wall-clock minutes between checkpoints", run=True)
    cache_gb: float = _option(4.0, "memory for decoded pictures in GiB", run=True)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            finite = not isinstance(value, float) or math.isfinite(value)
            _require(finite, f"--{_flag(option.name)} must be a finite number, not {value}")
        for name in ("method", "image_loss", "precision", "init", "unseen"):
            choices = next(f for f in fields(self) if f.name == name).metadata["choices"]
            _require(getattr(self, name) in choices, f"--{_flag(name)} must be one of {', '.join(choices)}")
        sizes = self.size >= 64 and self.size % 32 == 0
        _require(sizes, f"--size must be a multiple of 32 and at least 64, not {self.size}")
        _require(not self.texture_size or 8 <= self.texture_size <= 2048, "--texture-size must lie between 8 and 2048")
        _require(0 <= self.view_order <= (2 if self.kind.textures and self.kind.network else 0),
                 "--view-order must be 0, 1 or 2, and needs a network with textures")  # fmt: skip
        _require(self.residual or self.method == "textured-proxy", "--no-residual needs --method textured-proxy")
        _require(
            self.kind.network or not self.init_from,
            "--method static has no network to take: leave --init-from out",
        )
        self._check_init()
        _require(0 <= self.seed < 2**63, f"--seed must lie between 0 and {2**63 - 1}")
        _require(self.threads >= 0 and self.cache_gb >= 0, "--threads and --cache-gb must not be negative")
        _require(self.checkpoint_minutes >= 0, "--checkpoint-minutes must not be negative")
        _require(self.batch >= 1 and self.proxy_steps >= 0, "--batch must be at least 1 and --proxy-steps at least 0")
        _require(0 < self.lr < 1, "--lr must lie between 0 and 1")
        _require(0 <= self.pretrain < 1 and 0 <= self.ema < 1, "--pretrain and --ema must lie in 0..1, below 1")
        _require(0 <= self.guide <= 1, "--guide must lie in 0..1")
        _require(self.jitter >= 0 and 0 <= self.dropout < 1, "--jitter must be at least 0, --dropout in 0..1, below 1")
        for name in ("image", "mask", "smooth", "view", "coordinates", "sides", "temporal"):
            _require(getattr(self, f"weight_{name}") >= 0, f"--weight-{name} must be at least 0")
        _require(self.clip > 0, "--clip must be more than 0")
        extras = self.adversarial or self.features or self.weight_temporal
        _require(self.kind.network or not extras, "--method static has no network that these losses could train")
        _require(0 <= self.refine <= 1, "--refine must lie in 0..1")
        _require(
            self.zoom >= 1 and 0 <= self.shift < 0.5 and 0 <= self.rotation <= 180, "the augmentation is out of range"
        )
        _require(min(self.minutes, self.cpu_minutes, self.steps) >= 0, "the budget must not be negative")
        _require(sum(bool(b) for b in (self.minutes, self.cpu_minutes, self.steps)) <= 1,
                 "give one budget: --minutes, --cpu-minutes or --steps")  # fmt: skip

    def _check_init(self) -> None:
        dense = self.init == "densepose"
        _require(self.init == "proxy" or not self.init_from, "--init and --init-from exclude each other: give one")
        _require(self.init != "random" or self.kind.network, "--method static is nothing without --init proxy")
        _require(
            not dense or self.method == "textured",
            f"--init densepose needs --method textured: the charts of {self.method} are the proxy's, or it has none",
        )
        _require(dense == bool(self.densepose), "--init densepose and --densepose PATH need each other")

    @property
    def idle(self) -> list[str]:
        """Options that were given and change nothing, as they are written: a method, or a beginning, has no use for
        them."""
        names: set[str] = set()
        for group, used in (
            (_TEXTURES, self.kind.textures),
            (_PROXY, self.has_proxy),
            (_LEARNING, self.kind.network),
            (("vgg_weights",), self.image_loss not in ("fallback", "vgg-random")),
            (("pretrain",), self.taught),
            (("guide",), self.taught),
            (("weight_coordinates",), self.method == "textured-proxy"),
            (("weight_sides",), not self.outright and self.method == "textured-proxy"),
            (("proxy_steps",), self.init != "random"),
        ):
            if not used:
                names.update(group)
        given = {f.name for f in fields(self) if getattr(self, f.name) != f.default}
        return [f"--{_flag(f.name)}" for f in fields(self) if f.name in given and f.name in names]

    @property
    def kind(self) -> Method:
        """What the method makes its picture from."""
        return METHODS[self.method]

    @property
    def has_proxy(self) -> bool:
        """Whether the proxy takes part: the network sees it, or textures are averaged through it."""
        return self.kind.textures or self.kind.reads_proxy

    @property
    def adversarial(self) -> float:
        """Weight of the adversarial loss, the method's own where none is given."""
        own = V2V_ADVERSARIAL if self.method == "v2v" else 0.0
        return own if self.weight_adversarial < 0 else self.weight_adversarial

    @property
    def features(self) -> float:
        """Weight of feature matching, the method's own where none is given."""
        own = V2V_FEATURES if self.method == "v2v" else 0.0
        return own if self.weight_features < 0 else self.weight_features

    @property
    def network_size(self) -> tuple[int, int]:
        """(height, width) of the network's picture."""
        return self.size, self.size // 2

    @property
    def outright(self) -> bool:
        """Whether the network predicts parts and coordinates outright."""
        return self.method == "textured" or not self.residual

    @property
    def holds_sides(self) -> bool:
        """Whether the network is held to the proxy where no camera looked from."""
        return self.method == "textured-proxy" and self.residual and self.weight_sides > 0

    @property
    def black_unseen(self) -> bool:
        """Whether texels that no picture shows begin black."""
        return self.unseen == "black" or (self.unseen == "auto" and self.method == "textured")

    @property
    def taught(self) -> bool:
        """Whether the network is taught parts and coordinates of known surfaces (see ``pretrain`` and ``guide``)."""
        return self.outright and not self.init_from and self.init != "random"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        own = {"weight_adversarial": self.adversarial, "weight_features": self.features}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in (asdict(self) | own).items()}

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """Sentences on the fields in which a saved run differs, those left out that may change on resuming. Fields that
        the version which began it did not have, had what is their default now."""
        own, saved = self.as_dict(), {**TrainConfig(method=self.method).as_dict(), **saved}
        return [
            f"--{_flag(f.name)} was {saved[f.name]!r}, now {own[f.name]!r}"
            for f in fields(self)
            if not f.metadata.get("run") and saved[f.name] != own[f.name]
        ]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BackendError("train-options", message[0].upper() + message[1:] + ".")


def _flag(name: str) -> str:
    return name.replace("_", "-")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser an option for each field of TrainConfig."""
    hints = typing.get_type_hints(TrainConfig)
    for f in fields(TrainConfig):
        _add_argument(parser, f, hints[f.name])


def _add_argument(parser: argparse.ArgumentParser, f: Field[Any], kind: Any) -> None:
    assert f.default is not MISSING
    names, text = [f"--{_flag(f.name)}"], f.metadata["help"].replace("%", "%%")
    shown = " ".join(f.default) if isinstance(f.default, tuple) else f.default
    text += "" if shown == "" else f" (default: {shown})"
    if kind is bool:
        parser.add_argument(*names, action=argparse.BooleanOptionalAction, default=f.default, help=text)
    elif isinstance(kind, types.GenericAlias):
        parser.add_argument(*names, nargs="+", default=f.default, metavar=f.metadata.get("metavar", "NAME"), help=text)
    else:
        choices = f.metadata.get("choices")
        parser.add_argument(*names, type=kind, default=f.default, choices=choices, help=text,
                            metavar=None if choices else {int: "N", float: "X", str: "TEXT"}[kind])  # fmt: skip


def config_from_arguments(arguments: argparse.Namespace) -> TrainConfig:
    """The configuration that the command line asks for; raises BackendError 'train-options' when it is
    contradictory."""
    values: dict[str, Any] = {f.name: getattr(arguments, f.name) for f in fields(TrainConfig)}
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return TrainConfig(**values)
