# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run begins: rest pose and proxy from the footage, an untrained or transferred network, averaged textures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..neural_backend.avatar import Avatar, AvatarConfig
from ..neural_backend.avatar_file import load_avatar
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.interface.proxy import ProxyGeometry, default_proxy
from ..neural_backend.network import NARROW, PAPER, NetworkConfig
from .batches import Shot, shots_of
from .checkpoint import Checkpoint, unnest
from .config import TrainConfig
from .dataset import Dataset, View
from .proxy_fit import ProxyFit, fit_proxy
from .rest_pose import rest_pose
from .spread import spread
from .surfaces import Surfaces
from .textures_init import FINER, AveragedTextures, average_textures

Progress = Callable[[int, int], None]


def new_avatar(config: TrainConfig, datasets: Sequence[Dataset]) -> Avatar:
    """An avatar with the rest pose of the datasets' train rows, an average proxy, and the network and textures that the
    config asks for.

    Raises BackendError 'init-from' when another avatar is asked for that does not fit, or what load_avatar raises.
    """
    rows = [np.flatnonzero(d.usable & (np.array(d.split) == "train")) for d in datasets]
    joints = np.concatenate([d.joints[r] for d, r in zip(datasets, rows, strict=True)])
    confidence = np.concatenate([d.confidence[r] for d, r in zip(datasets, rows, strict=True)])
    avatar = _build(config, *rest_pose(joints, confidence))
    if avatar.textures is not None and not config.texture_size and _footage_is_finer(avatar, datasets, config.cameras):
        return _build(replace(config, texture_size=config.size), avatar.rest_joints, avatar.rest_confidence)
    return avatar


def _footage_is_finer(avatar: Avatar, datasets: Sequence[Dataset], cameras: Sequence[str]) -> bool:
    """Whether the pictures hold more than the network's crops of them do: then textures are to hold more too."""
    views = [dataset.training_views(cameras) for dataset in datasets]
    some = [spread(v, 24, lambda view: view.camera) for v in views]
    shots = frame_views(avatar, datasets, some)
    return bool(shots) and float(np.mean([shot.magnification for shot in shots])) < FINER


def _build(config: TrainConfig, rest: object, confidence: object) -> Avatar:
    torch.manual_seed(config.seed)
    other = _other(config) if config.init_from else None
    asked = replace(PAPER if config.wide else NARROW, skips=config.skips)
    network = other.config.network if other is not None else asked
    # Also a transfer's proxy begins with the average build: where the masks say nothing, a stranger's is no better.
    build = default_proxy(config.hair)
    avatar = Avatar(_avatar_config(config, network), np.asarray(rest), np.asarray(confidence), build)
    if other is not None and other.generator is not None and avatar.generator is not None:
        avatar.generator.load_state_dict(other.generator.state_dict())
    return avatar


def _other(config: TrainConfig) -> Avatar:
    """The avatar whose network is taken. Sizes of pictures and textures and the order of its view-dependent colour may
    differ from the run's: the network is convolutional, and knows of neither of the others."""
    path = config.init_from
    other = load_avatar(path)
    network = other.config.network
    theirs, ours = (c.method + ("" if c.residual else " --no-residual") for c in (other.config, config))
    if theirs != ours:
        raise BackendError(
            "init-from",
            f"{path} was made by --method {theirs}, this run is --method {ours}; their networks do not fit each other: "
            "choose another avatar, or its method.",
        )
    for option, asked, has in (
        ("--wide", config.wide, network.channels == PAPER.channels),
        ("--no-skips", not config.skips, not network.skips),
    ):
        if asked and not has:
            raise BackendError(
                "init-from", f"{path} has a network of another build than {option} asks for; leave {option} out to "
                "take it as it is.",
            )  # fmt: skip
    if config.confidence_weighted != other.config.confidence_weighted:
        drawn, rest = ("weaker", "give") if other.config.confidence_weighted else ("alike", "leave")
        raise BackendError(
            "init-from",
            f"{path} learned from bones that were drawn {drawn} where a pose model was unsure, and would misread this "
            f"run's; {rest} --confidence-weighted{' too' if rest == 'give' else ' out'}.",
        )
    return other


def _avatar_config(config: TrainConfig, network: NetworkConfig) -> AvatarConfig:
    # A limb's chart is about a third of the body's height long: more texels than this are between the footage's pixels,
    # where each learns from few of them, and speckles.
    size, textures = config.network_size, config.texture_size or config.size // 2
    return AvatarConfig(
        config.method, size, network, textures, config.view_order, config.residual, config.confidence_weighted
    )


def frame_views(avatar: Avatar, datasets: Sequence[Dataset], views: Sequence[Sequence[View]]) -> list[Shot]:
    """Shots of the views of each dataset, framed for this avatar's body."""
    shots: list[Shot] = []
    for dataset, some in zip(datasets, views, strict=True):
        sizes = avatar.body_size * avatar.scale_of(dataset.joints, dataset.confidence)
        shots += shots_of(dataset, some, avatar.config.size, sizes)
    return shots


def fit(avatar: Avatar, shots: Sequence[Shot], steps: int, progress: Progress | None = None) -> ProxyFit:
    """Fit the proxy to the masks and give it to the avatar."""
    fitted = fit_proxy(shots, avatar.rest_joints, avatar.rest_confidence, avatar.proxy, steps, progress)
    avatar.set_proxy(fitted.geometry)
    return fitted


def fill_textures(
    avatar: Avatar, shots: Sequence[Shot], surfaces: Surfaces, black: bool = False, progress: Progress | None = None
) -> AveragedTextures:
    """Average the pictures into the avatar's textures through the shots' surfaces; returns them and which were seen.

    black: what unseen texels become (see average_textures).
    """
    assert avatar.textures is not None
    averaged = average_textures(surfaces, shots, avatar.config.texture_size, black, progress=progress)
    with torch.no_grad():
        avatar.textures.copy_(averaged.textures)
    return averaged


def body_tensors(avatar: Avatar) -> dict[str, Tensor]:
    """What a checkpoint must hold beside the weights to build the same avatar again, bit for bit."""
    return {
        "rest_joints": torch.from_numpy(avatar.rest_joints),
        "rest_confidence": torch.from_numpy(avatar.rest_confidence),
        "proxy": avatar.proxy_params,
    }


def avatar_of(config: TrainConfig, checkpoint: Checkpoint) -> Avatar:
    """The avatar of a checkpoint, by its body tensors and the sizes of its network; the weights are not set."""
    body, network = unnest("body", checkpoint.tensors), checkpoint.state["network"]
    textures = checkpoint.tensors.get("weights/textures")
    if textures is not None:
        config = replace(config, texture_size=textures.shape[-1])
    channels, blocks = tuple(network["channels"]), tuple(network["blocks"])
    sizes = NetworkConfig(channels, blocks, int(network["kernel"]), bool(network["skips"]))
    avatar = Avatar(_avatar_config(config, sizes), body["rest_joints"].numpy(), body["rest_confidence"].numpy())
    avatar.set_proxy(ProxyGeometry(body["proxy"].double().numpy()))
    return avatar
