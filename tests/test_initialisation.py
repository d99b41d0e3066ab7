# SPDX-License-Identifier: GPL-3.0-or-later
"""How runs begin: with which surface, network and textures; as processes, on real footage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.cli import main
from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.avatar_file import load_avatar, save_avatar
from neural_avatar.neural_backend.interface.avatar_header import read_header
from neural_avatar.neural_backend.interface.proxy import HAIR, PARAM_NAMES, RADII
from neural_avatar.neural_backend.interface.skeleton import JOINT_COUNT
from neural_avatar.neural_backend.network import NARROW
from neural_avatar.training import initialise
from neural_avatar.training.atlas import START, atlas, read_picture, read_seen
from neural_avatar.training.checkpoint import read_checkpoint, unnest
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.schedule import FINE_TUNING, WARM_UP
from neural_avatar.training.trainer import TEXTURE_RATE
from support.commands import words_of as run

#: A run of a few seconds: small pictures, hardly any proxy fitting.
SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip


def cut(footage: Path, folder: Path, rows: Sequence[int]) -> Path:
    """The footage's rows alone, seen by the first train and the first held-out camera."""
    folder.mkdir()
    cameras = json.loads((footage / "cameras.json").read_text())
    cameras["cameras"] = [cameras["cameras"][i] for i in (0, 3)]
    cameras |= {"train_cameras": [0], "heldout_cameras": [1]}
    (folder / "cameras.json").write_text(json.dumps(cameras))
    with np.load(footage / "joints.npz") as data:
        columns = {k: data[k] if k == "names" else data[k][list(rows)] for k in ("joints", "names", "split", "clip")}
    np.savez(folder / "joints.npz", **columns)
    for camera in cameras["cameras"]:
        place = folder / "images" / camera["name"]
        place.mkdir(parents=True)
        for i, row in enumerate(rows):
            shutil.copy(footage / "images" / camera["name"] / f"{row:05d}.png", place / f"{i:05d}.png")
    return folder


@pytest.fixture(scope="module")
def few(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ten rows to train on and two to test, from real footage."""
    with np.load(footage / "joints.npz") as data:
        train, test = (np.flatnonzero(data["split"] == name) for name in ("train", "test_far"))
    return cut(footage, tmp_path_factory.mktemp("few") / "data", [*train[::12][:10], *test[:2]])


def other_avatar(path: Path, **config: Any) -> Path:
    """An avatar of somebody else at ``path``, its network random."""
    torch.manual_seed(1)
    rest, known = np.random.default_rng(0).normal(0, 0.3, (JOINT_COUNT, 3)), np.ones(JOINT_COUNT)
    avatar = Avatar(AvatarConfig(**{"size": (64, 32), "texture_size": 32, **config}), rest, known)
    save_avatar(path, avatar)
    return path


def weights(avatar: Path) -> dict[str, torch.Tensor]:
    """The exact weights of a finished run, by name."""
    checkpoint = read_checkpoint(avatar.with_name(avatar.name + ".train"))
    assert checkpoint is not None and checkpoint.state["run"]["finished"]
    return unnest("weights", checkpoint.tensors)


@pytest.mark.parametrize(("method", "share"), [("textured-proxy", FINE_TUNING), ("direct", 1.0)])
def test_a_network_is_taken_from_an_avatar_of_other_sizes_and_tuned(
    few: Path, tmp_path: Path, method: str, share: float
) -> None:
    order = {"view_order": 1} if method == "textured-proxy" else {}
    other = other_avatar(tmp_path / "other.avatar", method=method, size=(96, 64), texture_size=16, **order)
    path = tmp_path / "own.avatar"
    said = run("train", few, "-o", path, "--steps", 1, *SMALL, "--init-from", other, "--method", method,
               "--lr", "0.03", *(["--view-order", 1] if order else []))  # fmt: skip
    words = "texels were seen" if order else "Without effect on method direct: --texture-size, --proxy-steps."
    assert words in said and ("Without effect" in said) == (method == "direct")
    before, after = load_avatar(other).state_dict(), weights(path)
    moved = max(float((after[n] - before[n]).abs().max()) for n in after if n.startswith("generator."))
    assert moved == pytest.approx(0.03 * share / WARM_UP, rel=0.02)  # Adam's first step is the rate itself
    if method == "textured-proxy":  # the view's textures are textures, and learn at their rate
        harmonics = float(after["view_textures"].abs().max())
        assert harmonics == pytest.approx(0.03 * TEXTURE_RATE / WARM_UP, rel=0.02)


@pytest.mark.parametrize("flags", [(), ("--no-residual",)])
def test_textures_of_a_network_from_elsewhere_are_those_of_the_footage(
    few: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Everybody in this footage is of one colour; the avatar that the network comes from is not."""
    green = shutil.copytree(few, tmp_path / "green")
    for path in green.glob("images/*/*.png"):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        picture[..., :3] = (60, 200, 90)
        cv2.imwrite(str(path), picture)
    other, path = other_avatar(tmp_path / "other.avatar", residual=not flags), tmp_path / "own.avatar"
    run("train", green, "-o", path, "--steps", 1, *SMALL, "--init-from", other, "--lr", 1e-9, *flags)
    textures = weights(path)["textures"].numpy().transpose(0, 2, 3, 1)
    seen = read_seen(tmp_path / "own.avatar.train", 32)
    # A network that knows nothing and predicts outright points at one place.
    assert seen is not None and seen.mean() > (0 if flags else 0.1)
    assert np.abs(textures[seen] * 255 - (90, 200, 60)).max() < 2


def test_options_that_change_nothing_are_named() -> None:
    for options, idle in (
        ({"method": "textured", "init": "random", "pretrain": 0.5}, ["--pretrain"]),
        ({"method": "textured", "pretrain": 0.5}, []),
        ({"init": "random", "proxy_steps": 0}, ["--proxy-steps"]),
        ({"residual": False, "weight_coordinates": 5.0}, []),
        ({"method": "textured", "weight_coordinates": 5.0}, ["--weight-coordinates"]),
        ({"init_from": "a.avatar", "method": "textured", "pretrain": 0.5}, ["--pretrain"]),
        ({"weight_coordinates": 5.0, "proxy_steps": 0, "weight_sides": 2.0}, []),
        ({"residual": False, "weight_sides": 2.0}, ["--weight-sides"]),
        ({"method": "v2v", "texture_size": 64, "weight_coordinates": 2.0}, ["--texture-size", "--weight-coordinates"]),
    ):
        assert TrainConfig(**options).idle == idle  # type: ignore[arg-type]


def test_a_network_that_points_beyond_its_charts_averages_sound_textures(few: Path, tmp_path: Path) -> None:
    other = other_avatar(tmp_path / "other.avatar", residual=False)
    avatar = load_avatar(other)
    assert avatar.generator is not None
    with torch.no_grad():  # to one side or the other from pixel to pixel
        avatar.generator.decoders[1].out.weight.normal_(0, 3)
    save_avatar(other, avatar)
    path = tmp_path / "own.avatar"
    run("train", few, "-o", path, "--steps", 1, *SMALL, "--init-from", other, "--no-residual", "--lr", 1e-9)
    textures = weights(path)["textures"]
    assert textures.min() > -1e-3 and textures.max() < 1 + 1e-3


def test_avatars_that_cannot_be_begun_with_are_told_in_a_sentence(
    few: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    proxied = other_avatar(tmp_path / "proxied.avatar")
    bare = other_avatar(tmp_path / "bare.avatar", network=replace(NARROW, skips=False))
    weighted = other_avatar(tmp_path / "weighted.avatar", confidence_weighted=True)
    strange = other_avatar(tmp_path / "strange.avatar")
    data = strange.read_bytes()
    assert data.count(b"MidHip") == 1
    strange.write_bytes(data.replace(b"MidHip", b"Pelvis"))
    (tmp_path / "torn.avatar").write_bytes(data[: len(data) // 2])
    for other, options, words in (
        (proxied, ("--method", "direct"), "made by --method textured-proxy, this run is --method direct"),
        (proxied, ("--no-residual",), "this run is --method textured-proxy --no-residual"),
        (proxied, ("--method", "static"), "leave --init-from out"),
        (proxied, ("--wide",), "of another build than --wide asks for"),
        (proxied, ("--no-skips",), "of another build than --no-skips asks for"),
        (proxied, ("--confidence-weighted",), "leave --confidence-weighted out"),
        (weighted, (), "give --confidence-weighted"),
        (strange, (), "made for another skeleton"),
        (tmp_path / "torn.avatar", (), "is cut off"),
        (few / "cameras.json", (), "is not an avatar file"),
        (tmp_path / "none.avatar", (), "There is no avatar file"),
    ):
        begin = ("train", few, "-o", tmp_path / "x.avatar", "--init-from", other, *SMALL, *options)
        assert words in refused(*begin)
    assert "made for another skeleton" in run("train", few, "-o", tmp_path / "x.avatar", "--init-from", strange,
                                              *SMALL, code=1)  # fmt: skip
    run("train", few, "-o", tmp_path / "y.avatar", "--steps", 1, *SMALL, "--init-from", bare)
    assert not load_avatar(tmp_path / "y.avatar").config.network.skips  # what was not asked for comes with the network


@pytest.mark.parametrize("steps", ["0", "3"])
def test_hair_can_be_left_out_of_the_proxy(few: Path, tmp_path: Path, steps: str) -> None:
    path = tmp_path / "bald.avatar"
    run("train", few, "-o", path, "--method", "static", *SMALL, "--no-hair", "--proxy-steps", steps)
    radii = load_avatar(path).proxy.params[:, RADII]
    rows = [PARAM_NAMES.index(name) for name in HAIR]
    assert (radii[rows] == 0).all() and (radii.sum(1) == 0).sum() == len(rows)


def test_an_avatar_keeps_how_its_bones_are_drawn(few: Path, tmp_path: Path) -> None:
    path = tmp_path / "weighted.avatar"
    run("train", few, "-o", path, "--steps", 2, *SMALL, "--confidence-weighted", "--jitter", 1, "--dropout", 0.1)
    avatar, data = load_avatar(path), read_dataset(few)
    assert avatar.config.confidence_weighted and read_header(path).format_version == 2
    shot = initialise.frame_views(avatar, [data], [data.training_views()[:1]])[0]
    sure, unsure = (avatar.bone_maps(shot.joints[None], shot.confidence[None] * f, [shot.camera]) for f in (1, 0.5))
    torch.testing.assert_close(unsure, sure * 0.5)


def test_textures_hold_about_what_the_footage_does(footage: Path) -> None:
    data = read_dataset(footage)  # the person is about 190 pixels tall
    sides = {size: initialise.new_avatar(TrainConfig(size=size), [data]).config.texture_size for size in (64, 256)}
    assert sides == {64: 64, 256: 128}
    assert initialise.new_avatar(TrainConfig(size=64, texture_size=40), [data]).config.texture_size == 40


@pytest.mark.parametrize(
    ("method", "unseen", "black"),
    [("static", (), False), ("static", ("--unseen", "black"), True), ("textured", (), True),
     ("textured", ("--unseen", "nearest"), False)],
)  # fmt: skip
def test_texels_that_no_picture_shows_begin_as_asked_and_are_counted(
    few: Path, tmp_path: Path, method: str, unseen: tuple[str, ...], black: bool
) -> None:
    path = tmp_path / "a.avatar"
    words = ("train", few, "-o", path, "--steps", 1, *SMALL, "--method", method, "--pretrain", 0, "--lr", 1e-9, *unseen)
    assert main([str(word) for word in words]) == 0
    seen = read_seen(tmp_path / "a.avatar.train", 32)
    made, textures = read_header(path).provenance, load_avatar(path).textures
    assert seen is not None and textures is not None and 0 < seen.mean() < 1
    assert made["coverage"] == pytest.approx(seen.mean(), abs=1e-4)
    np.testing.assert_allclose(made["coverage_parts"], seen.mean((1, 2)), atol=1e-4)
    hidden = textures.detach().numpy().transpose(0, 2, 3, 1)[~seen]
    assert (np.abs(hidden).max() < 1e-3) == black
    start = read_picture(tmp_path / "a.avatar.train" / START)
    assert start is not None  # black there, whatever it begins with; the file rounds colours to float16
    assert np.abs(start.astype(int) - atlas(textures, seen)).max() <= 1
