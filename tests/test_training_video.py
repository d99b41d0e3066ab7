# SPDX-License-Identifier: GPL-3.0-or-later
"""Losses over time and by discriminators, and the video translation baseline, which sees its own frames before."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import Avatar
from neural_avatar.neural_backend.avatar_file import load_avatar, save_avatar
from neural_avatar.neural_backend.interface.avatar_header import read_header
from neural_avatar.neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from neural_avatar.neural_backend.past import PAST_CHANNELS
from neural_avatar.neural_backend.renderer import Renderer
from neural_avatar.neural_backend.two_scale import TwoScaleGenerator
from neural_avatar.training import initialise, prepare
from neural_avatar.training.adversarial import Adversary, Seen, make_adversary
from neural_avatar.training.batches import BatchSource
from neural_avatar.training.checkpoint import read_checkpoint
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import Dataset, View, read_dataset
from neural_avatar.training.disturbance import Disturbance
from neural_avatar.training.evaluate import evaluate
from neural_avatar.training.film import Film
from neural_avatar.training.light import LightGains
from neural_avatar.training.losses import FallbackImageLoss, temporal_loss
from neural_avatar.training.objective import Objective
from neural_avatar.training.quadrants import quadrant_views
from neural_avatar.training.trainer import Trainer
from support.commands import begin
from support.commands import words_of as run

SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip
KINDS = {
    "v2v": ("--method", "v2v"),
    "losses": ("--weight-adversarial", "0.1", "--weight-features", "0.5", "--weight-temporal", "1", "--jitter", "0.5"),
}


def state(avatar: Path) -> dict[str, torch.Tensor]:
    """Everything that a finished run has learned."""
    checkpoint = read_checkpoint(avatar.with_name(avatar.name + ".train"))
    assert checkpoint is not None and checkpoint.state["run"]["finished"]
    return checkpoint.tensors


@pytest.fixture(scope="module", params=list(KINDS))
def finished(request: pytest.FixtureRequest, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 10 steps of each kind."""
    avatar = tmp_path_factory.mktemp(request.param) / "person.avatar"
    run("train", footage, "-o", avatar, "--steps", 10, *SMALL, *KINDS[request.param])
    return avatar


@pytest.fixture(scope="module")
def data(footage: Path) -> Dataset:
    """The footage."""
    return read_dataset(footage)


@pytest.fixture
def translator(data: Dataset) -> Avatar:
    """An avatar of method v2v that draws something, and for which the past matters."""
    avatar = initialise.new_avatar(TrainConfig(method="v2v", size=64), [data])
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return avatar.eval()


# -- losses ------------------------------------------------------------------------------------------------------------


def test_only_change_that_the_film_does_not_show_costs_something() -> None:
    torch.manual_seed(0)
    before, truth_before = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8)
    change, valid = torch.rand(2, 4, 8, 8), torch.ones(2, 1, 8, 8)
    still = temporal_loss(before + change, before, truth_before + change, truth_before, valid)
    assert float(still) == pytest.approx(0, abs=1e-6)  # however wrong both pictures are
    flickering = temporal_loss(before + change + 0.25, before, truth_before + change, truth_before, valid)
    assert float(flickering) == pytest.approx(0.25, abs=1e-5)
    valid[:, :, :4] = 0
    half = before + change
    half[:, :, :4] += 9
    assert float(temporal_loss(half, before, truth_before + change, truth_before, valid)) == pytest.approx(0, abs=1e-6)
    assert float(temporal_loss(half, before, half, half, torch.zeros_like(valid))) == 0


def test_discriminators_learn_to_tell_and_render_is_drawn_towards_film() -> None:
    torch.manual_seed(0)
    adversary = Adversary(condition=3, frames=3, seed=0, lr=5e-3, device=torch.device("cpu"))
    stripes = torch.zeros(1, 12, 32, 32)
    stripes[..., ::2] = 1
    pose = torch.rand(1, 3, 32, 32)

    def seen(fake: torch.Tensor) -> list[Seen]:
        pictures = Seen("picture", torch.cat([pose, fake[:, :4]], 1), torch.cat([pose, stripes[:, :4]], 1))
        return [pictures, Seen("film", fake, stripes)]

    fake = torch.full((1, 12, 32, 32), 0.5)
    adversary.terms(seen(fake))
    learned = [adversary.learn(1.0)]
    for _ in range(40):
        adversary.terms(seen(fake))
        learned.append(adversary.learn(1.0))
    assert learned[-1] < 0.1 < learned[0]
    last, features = adversary.terms(seen(fake))
    same, nothing = adversary.terms(seen(stripes))
    assert float(last) > 0.5 > 5 * float(same) and float(features) > float(nothing) == 0
    pulled = fake.clone().requires_grad_(True)
    before = adversary.state()
    for term in adversary.terms(seen(pulled)):
        assert float(torch.autograd.grad(term, pulled, retain_graph=True)[0].abs().sum()) > 0
        term.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    after = adversary.state()  # the renders' gradient is none of the discriminators' business
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_discriminators_go_on_exactly_from_what_was_kept() -> None:
    torch.manual_seed(1)
    fake, real = torch.rand(2, 4, 32, 16), torch.rand(2, 4, 32, 16)
    global_state = torch.get_rng_state()
    ours, other = (Adversary(0, 0, seed, 1e-3, torch.device("cpu")) for seed in (1, 2))
    assert torch.equal(global_state, torch.get_rng_state())  # other draws of a run do not depend on them
    for _ in range(2):
        ours.terms([Seen("picture", fake, real)])
        ours.learn(1.0)
    other.restore({name: tensor.clone() for name, tensor in ours.state().items()})
    for adversary in (ours, other):
        adversary.terms([Seen("picture", fake, real)])
        adversary.learn(0.5)
    assert all(torch.equal(a, b) for a, b in zip(ours.state().values(), other.state().values(), strict=True))


def test_a_method_without_network_has_nothing_for_them_to_train() -> None:
    for name in ("weight_adversarial", "weight_features", "weight_temporal"):
        with pytest.raises(BackendError, match="static"):
            TrainConfig(method="static", **{name: 0.1})
    assert TrainConfig(method="v2v").adversarial > 0 == TrainConfig().adversarial
    assert TrainConfig(method="v2v", weight_adversarial=0.0, weight_features=0.0).features == 0


# -- rows before -------------------------------------------------------------------------------------------------------


def test_rows_before_are_seen_by_the_same_camera_and_never_held_out(data: Dataset) -> None:
    config = TrainConfig(size=64, cameras=("cam00", "cam01"))
    avatar = initialise.new_avatar(config, [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)])
    make = (shots, 6, 3, Augmentation(), torch.device("cpu"), Disturbance(1.0, 0.2))
    with contextlib.closing(BatchSource(*make, before=2)) as source, contextlib.closing(BatchSource(*make)) as plain:
        missing = 0
        for step in range(8):
            batch, alone = source.batch(step, detail=2), plain.batch(step, detail=2)
            assert alone.before is None and batch.before is not None
            for own, theirs in zip(dataclasses.astuple(batch)[:4], dataclasses.astuple(alone)[:4], strict=True):
                assert repr(own) == repr(theirs)  # what a step sees beside does not change what it sees
            assert torch.equal(batch.truth.rgba, alone.truth.rgba) and np.array_equal(batch.joints, alone.joints)
            for i, place in enumerate(batch.which):
                view = shots[place].view
                for k in range(2):
                    row = view.row - 1 - k
                    there = all(
                        r >= 0 and data.split[r] == "train" and data.clip[r] == data.clip[view.row]
                        for r in range(row, view.row)
                    )
                    assert batch.before.there[i, k] == there
                    missing += not there
                    if there:
                        shot = next(s for s in shots if s.view == View(row, view.camera))
                        body = np.abs(batch.before.joints[i, k, :15] - shot.joints[:15])
                        assert body.max() == 0  # only hands, face and feet are disturbed
                        big = alone.cameras[i].crop(0, 0, 32, 64, 64, 128)
                        assert np.array_equal(batch.before.truth[k].rgba[i].numpy(), shot.crop(big).rgba)
        assert missing


@pytest.mark.parametrize("from_truth", [False, True])
def test_the_past_is_judged_in_the_light_of_its_take(data: Dataset, from_truth: bool) -> None:
    config = TrainConfig(method="v2v", size=64, cameras=("cam00",), weight_temporal=1.0, light_gain=True)
    avatar = initialise.new_avatar(config, [data]).train()  # untrained, it draws the same grey in every frame
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[:8]])
    with contextlib.closing(BatchSource(shots, 4, 3, Augmentation(), torch.device("cpu"), before=2)) as source:
        batch = source.batch(1)
    assert batch.before is not None and batch.before.there.any()
    nothing = np.zeros_like(batch.before.forgotten)
    before = dataclasses.replace(batch.before, from_truth=from_truth, forgotten=nothing)
    batch, light, films = dataclasses.replace(batch, before=before), LightGains(shots), []
    adversary = make_adversary(config, avatar)
    assert adversary is not None
    adversary.terms = lambda seen: films.append(seen[1]) or (torch.zeros(()), torch.zeros(()))  # type: ignore
    objective = Objective(config, avatar, FallbackImageLoss(), light, adversary)
    dark = float(objective.terms(batch, 0, 1).logged["temporal"].detach())
    with torch.no_grad():
        light.log_gains.fill_(1.0)
    bright = float(objective.terms(batch, 0, 1).logged["temporal"].detach())
    assert bright == pytest.approx(dark, rel=1e-5) and dark > 0  # a still picture is still
    gain = float(light(batch.which)[0, 0].detach())
    for i in range(3):  # the present frame, its neighbour, and the one before that
        a, b = (film.fake[:, 4 * i : 4 * i + 3][:, :, 20:40, 12:20] for film in films)
        assert torch.allclose(a if i == 2 and from_truth else a * gain, b, atol=1e-5), i


def test_a_network_learns_from_the_past_that_it_is_shown(data: Dataset) -> None:
    config = TrainConfig(method="v2v", size=64, cameras=("cam00",), weight_adversarial=0.0, weight_features=0.0)
    avatar = initialise.new_avatar(config, [data]).train()
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[:8]])
    with contextlib.closing(BatchSource(shots, 4, 3, Augmentation(), torch.device("cpu"), before=2)) as source:
        batch = source.batch(1)
    assert batch.before is not None and batch.before.there.all(1).any()
    assert isinstance(avatar.generator, TwoScaleGenerator)
    with torch.no_grad():  # they begin at zero, behind which nothing learns
        for out in avatar.generator.out.parameters():
            out.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    objective, stem = Objective(config, avatar, FallbackImageLoss(), None, None), avatar.generator.stem[0].weight

    def learned(forgotten: bool) -> torch.Tensor:
        """How far the weights that read of frames before are moved: bone maps and pictures, each frame's."""
        nothing = np.full_like(batch.before.forgotten, forgotten)
        before = dataclasses.replace(batch.before, forgotten=nothing, from_truth=True)
        loss = objective.terms(dataclasses.replace(batch, before=before), 0, 1).total
        return torch.autograd.grad(loss, stem)[0][:, -PAST_CHANNELS:].abs().sum((0, 2, 3))

    assert (learned(False) > 0).sum() > 0.5 * PAST_CHANNELS and (learned(False)[-4:] > 0).all()
    assert not learned(True).any()


def test_a_gap_in_time_is_no_neighbour(data: Dataset) -> None:
    assert data.row_before(0) is None and data.row_before(1) == 0
    times = np.arange(len(data.joints)) / 30
    times[5:] += 1
    timed = dataclasses.replace(data, times=times)
    assert timed.row_before(4) == 3 and timed.row_before(5) is None and timed.row_before(6) == 5
    border = next(i for i in range(1, len(data.clip)) if data.clip[i] != data.clip[i - 1])
    assert timed.row_before(border) is None


def test_flicker_is_measured_between_neighbours_in_time(data: Dataset, translator: Avatar) -> None:
    times = np.arange(len(data.joints)) / 30
    times[5:] += 1
    timed, camera = dataclasses.replace(data, times=times), data.camera_names.index("cam00")
    views = [View(row, camera) for row in range(3, 7)]
    measured = [not np.isnan(frame.flicker) for frame in evaluate(translator, timed, views)]
    assert measured == [False, True, False, True]
    (found,) = quadrant_views(timed, views[1:], [], most=40).values()
    assert found == views[2:]  # in pairs of neighbours: row 4 has none


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_killed_run_resumes_exactly_with_its_discriminators(footage: Path, finished: Path, tmp_path: Path) -> None:
    kind = finished.parent.name.rstrip("0123456789")
    avatar = tmp_path / "person.avatar"
    options = ("train", footage, "-o", avatar, "--steps", 10, *SMALL, *KINDS[kind], "--checkpoint-minutes", "0")
    process, log = begin(*options), tmp_path / "person.avatar.train" / "log.csv"
    while not (log.exists() and log.read_text().count("\n") > 2):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            pytest.fail(f"it ended with {process.returncode}: {process.communicate()[0]}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "Resuming at step" in run(*options)
    ours, theirs = state(avatar), state(finished)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(name.startswith("adversary/moments/") for name in ours)


def test_the_log_tells_every_term(finished: Path) -> None:
    rows = list(csv.DictReader((finished.with_name("person.avatar.train") / "log.csv").open()))
    wanted = {"v2v": ("adversarial", "features", "discriminator")}.get(finished.parent.name.rstrip("0123456789"))
    for name in wanted or ("temporal", "adversarial", "features", "discriminator", "coordinates"):
        assert any(float(row[name] or 0) > 0 for row in rows), name
    saved = json.loads((finished.with_name("person.avatar.train") / "config.json").read_text())
    assert saved["weight_adversarial"] == 0.1  # what the method chose is told in numbers


def test_a_run_s_discriminators_come_back_with_a_rollback(tmp_path: Path, data: Dataset) -> None:
    config = TrainConfig(steps=9, size=64, batch=1, texture_size=16, cameras=("cam00",), image_loss="fallback",
                         weight_adversarial=0.1)  # fmt: skip
    avatar = initialise.new_avatar(config, [data]).train()
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[:4]])
    with contextlib.closing(BatchSource(shots, 1, 0, Augmentation(), torch.device("cpu"))) as source:
        trainer = Trainer(config, avatar, source, prepare.make_image_loss(config)[0], tmp_path, source.fingerprint())
        trainer.step()
        trainer.save()
        good = read_checkpoint(tmp_path)
        trainer.step()
        with torch.no_grad():
            next(iter(trainer.adversary.parameters())).fill_(float("nan"))
        assert trainer.step() == {} and trainer.state.step == 1 and trainer.state.rollbacks == 1
        assert trainer.step()["discriminator"] > 0
        trainer.restore(good)
        trainer.save()
        again = read_checkpoint(tmp_path)
        assert all(torch.equal(good.tensors[name], again.tensors[name]) for name in good.tensors)


# -- drawing -----------------------------------------------------------------------------------------------------------


def test_a_trained_translator_evaluates(footage: Path, finished: Path, tmp_path: Path) -> None:
    report = tmp_path / "a.json"
    run("evaluate", finished, footage, "--split", "test_far", "--every", 12, "--json", report)
    found = json.loads(report.read_text())
    assert found["all"]["frames"] and found["all"]["psnr"] > 3
    method = finished.parent.name.rstrip("0123456789")
    assert found["method"] == ("v2v" if method == "v2v" else "textured-proxy")


def test_film_depends_on_its_past_and_not_on_what_was_asked_for(data: Dataset, translator: Avatar) -> None:
    camera = data.camera_names.index("cam03")
    first = next(i for i in range(40) if data.row_before(i) is None)
    film = Film(translator, data)
    in_order = {row: film.draw(View(row, camera)) for row in range(first, first + 20)}
    for row in (first + 19, first + 6, first + 7, first):
        assert np.array_equal(film.draw(View(row, camera)), in_order[row])
        assert np.array_equal(Film(translator, data).draw(View(row, camera)), in_order[row])
    alone = dataclasses.replace(data, clip=tuple(map(str, range(len(data.clip)))))  # each row a clip of its own
    assert np.array_equal(Film(translator, alone).draw(View(first, camera)), in_order[first])
    assert not np.allclose(Film(translator, alone).draw(View(first + 6, camera)), in_order[first + 6], atol=1e-3)


def test_a_still_film_settles_in_a_moving_crop(data: Dataset, translator: Avatar) -> None:
    """What stands still keeps its place in the past although crops differ from frame to frame."""
    from neural_avatar.neural_backend.past import DrawnFrame, past_of

    row, camera = 0, data.cameras[0]
    old, new = camera.crop(100, 40, 60, 120, 32, 64), camera.crop(90, 20, 80, 160, 32, 64)
    y, x = np.mgrid[:64, :32] + 0.5

    def landscape(crop: object) -> torch.Tensor:
        k = np.linalg.inv(crop.K @ np.linalg.inv(camera.K))  # type: ignore[attr-defined]
        u, v = k[0, 0] * x + k[0, 2], k[1, 1] * y + k[1, 2]
        waves = np.stack([np.sin(u / 15), np.cos(v / 20), np.sin((u + v) / 25), np.ones_like(u)])
        return torch.from_numpy((waves + 1).astype(np.float32) / 2)

    frame = DrawnFrame(data.joints[row], data.confidence[row], old, landscape(old))
    past = past_of([frame, None], new)
    assert past.drawn.tolist() == past.posed.tolist() == [[True, False]]
    inside = slice(10, 54), slice(6, 26)
    shown, wanted = past.pictures[0, 0], landscape(new)
    assert float((shown - wanted)[:, inside[0], inside[1]].abs().max()) < 0.02


def test_blender_draws_a_frame_alike_whatever_it_drew_before(data: Dataset, translator: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "a.avatar"
    save_avatar(path, translator)
    assert read_header(path).format_version == 2 and load_avatar(path).config.method == "v2v"

    def request(row: int) -> RenderRequest:
        instance = AvatarInstance(str(path), "a", data.joints[row], data.confidence[row])
        return RenderRequest(data.camera(View(row, 0)), (instance,))

    renderer = Renderer("cpu")
    first = renderer.render(request(3)).planes
    renderer.render(request(8))
    again = renderer.render(request(3)).planes
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(float(np.abs(plane).sum()) > 0 for plane in first.values())
