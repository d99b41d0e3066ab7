# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a device busy and a run sound: batches made ahead and in parts, layout in memory, the mean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import crops, devices, losses, runs
from neural_avatar.training import trainer as engine
from neural_avatar.training.batches import Batch, BatchSource
from neural_avatar.training.checkpoint import read_checkpoint
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training.devices import as_laid_out
from neural_avatar.training.disturbance import Disturbance
from neural_avatar.training.initialise import frame_views, new_avatar
from neural_avatar.training.losses import FallbackImageLoss
from neural_avatar.training.objective import SURFACE_COORDINATES
from neural_avatar.training.prefetch import Prefetch, workers_for
from neural_avatar.training.surfaces import ProxySurfaces, undisputed
from neural_avatar.training.trainer import RunState, Trainer

CONFIG = TrainConfig(size=64, batch=4, texture_size=16, steps=6, cameras=("cam00",), precision="full", device="cpu")
CPU = torch.device("cpu")


@pytest.fixture
def source_of(footage: Path) -> Iterator[Callable[..., BatchSource]]:
    """Makes sources of batches of four of the same shots."""
    data = read_dataset(footage)
    shots = frame_views(new_avatar(CONFIG, [data]), [data], [data.training_views(CONFIG.cameras)[:10]])
    made = []

    def make(**more: Any) -> BatchSource:
        made.append(BatchSource(shots, 4, 3, Augmentation(), CPU, Disturbance(1.0, 0.5), **more))
        return made[-1]

    yield make
    for source in made:
        source.close()


def equal(a: Batch, b: Batch, part: slice = slice(None)) -> bool:
    """Whether a is that part of b."""
    return (
        np.array_equal(a.joints, b.joints[part]) and np.array_equal(a.confidence, b.confidence[part])
        and a.which == b.which[part] and torch.equal(a.truth.rgba, b.truth.rgba[part])
        and torch.equal(a.truth.valid, b.truth.valid[part])
        and torch.equal(a.truth.backgrounds, b.truth.backgrounds[:, part])
        and all(np.array_equal(x.K, y.K) for x, y in zip(a.cameras, b.cameras[part], strict=True))
    )  # fmt: skip


def test_what_a_step_sees_depends_neither_on_threads_nor_on_the_order_of_asking(
    source_of: Callable[..., BatchSource],
) -> None:
    one, many = source_of(workers=1), source_of(workers=4)
    straight = [one.batch(step) for step in range(5)]
    jumping = {step: many.batch(step) for step in (3, 0, 4, 2, 1)}
    assert all(equal(jumping[step], batch) for step, batch in enumerate(straight))
    assert not equal(one.batch(2, attempt=1), straight[2])
    assert one.batch(2, detail=2).truth.rgba.shape[-2:] == (128, 64)


def test_the_parts_of_several_processes_are_the_batch_of_one(source_of: Callable[..., BatchSource]) -> None:
    whole, parts = source_of(before=2), [source_of(before=2, part=(rank, 2)) for rank in range(2)]
    for step in range(4):
        batch, (joints, _, cameras) = whole.batch(step), whole.poses(step)
        for rank, part in enumerate(parts):
            own = slice(rank * 2, rank * 2 + 2)
            found = part.batch(step)
            assert equal(found, batch, own) and found.before is not None and batch.before is not None
            assert np.array_equal(found.before.joints, batch.before.joints[own])
            assert np.array_equal(found.before.there, batch.before.there[own])
            assert np.array_equal(found.before.forgotten, batch.before.forgotten[own])
            assert torch.equal(found.before.truth[1].rgba, batch.before.truth[1].rgba[own])
            assert np.array_equal(part.poses(step)[0], joints[own])
            assert np.array_equal(part.poses(step)[2][0].R, cameras[own][0].R)


def test_batches_are_made_while_steps_compute() -> None:
    begun = [threading.Event() for _ in range(20)]

    def make(step: int) -> int:
        begun[step].set()
        if step == 7:
            raise ValueError("seven")
        return step

    with closing(Prefetch(3)) as prefetch:
        for step in range(6):
            assert prefetch.get((make, step), [(make, step + i) for i in (1, 2, 3)]) == step
            assert all(begun[later].wait(60) for later in (step + 1, step + 2, step + 3))  # before they are asked for
        assert 0 <= prefetch.waiting() <= 1
        prefetch.get((make, 6), [(make, 7)])
        with pytest.raises(ValueError, match="seven"):  # a fault of a thread is told by the step it belongs to
            prefetch.get((make, 7), [(make, 8)])
        assert prefetch.get((make, 12), []) == 12  # and asking for something unforeseen works too
    assert workers_for(CPU) == 1 and workers_for(torch.device("cuda", 0)) >= 1


def test_losses_count_where_the_picture_was_filmed_and_nowhere_else(footage: Path) -> None:
    data = read_dataset(footage)
    avatar = new_avatar(CONFIG, [data])
    shares = []
    for shot in frame_views(avatar, [data], [data.training_views(CONFIG.cameras)[:3]]):
        source, box = data.camera(shot.view), (0.0, 0.0, 200.0, 220.0)
        for zoom in (0.3, 1.0, 4.0):  # beyond the picture on all sides, tight, and wholly inside
            camera = replace(shot.camera, K=shot.camera.K.copy())
            middle = np.array([camera.width, camera.height]) / 2
            camera.K[:2, 2] = middle + zoom * (camera.K[:2, 2] - middle)
            camera.K[:2, :2] *= zoom
            found = crops.cut_crop(data.picture(shot.view), source, camera, box).valid[0]
            back = np.linalg.inv(crops.picture_to_crop(source, camera))
            for y, x in [(0, 0), (0, -1), (-1, 0), (-1, -1), (32, 16), (5, 30), (60, 2)]:
                u, v, w = back @ (x % camera.width + 0.5, y % camera.height + 0.5, 1)
                assert found[y, x] == (1 <= u / w <= 199 and 1 <= v / w <= 219)
            shares.append(found.mean())
    assert min(shares) < 0.5 and max(shares) == 1


def test_channels_last_trains_to_the_same_and_resumes_bit_for_bit(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_dataset(footage)

    def trainer() -> tuple[Trainer, BatchSource]:
        avatar = new_avatar(CONFIG, [data]).train()
        shots = frame_views(avatar, [data], [data.training_views(CONFIG.cameras)[:6]])
        source = BatchSource(shots, CONFIG.batch, 0, Augmentation(), CPU)
        return Trainer(CONFIG, avatar, source, FallbackImageLoss(), tmp_path, source.fingerprint()), source

    def laid_out(trainer: Trainer) -> bool:
        weights = [p for p in trainer.avatar.parameters() if p.dim() == 4 and p.shape[-1] == 3 and p.shape[1] > 1]
        return all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)

    plain, source = trainer()
    expected = [plain.step()["loss"] for _ in range(4)]
    source.close()
    assert not laid_out(plain)

    original = devices.lay_out
    monkeypatch.setattr("neural_avatar.training.trainer.lay_out", lambda m, _: original(m, torch.device("cuda")))
    straight, source = trainer()
    assert laid_out(straight)
    assert [straight.step()["loss"] for _ in range(4)] == pytest.approx(expected, rel=1e-3)
    source.close()
    first, source = trainer()
    first.step(), first.step()
    first.save()
    source.close()
    second, source = trainer()
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    second.restore(checkpoint)
    second.step(), second.step()
    source.close()
    assert laid_out(second)
    for name, tensor in straight.export_weights().items():
        assert torch.equal(tensor, second.export_weights()[name]), name


def test_a_run_that_goes_on_is_no_longer_finished(footage: Path, tmp_path: Path) -> None:
    data = read_dataset(footage)
    avatar = new_avatar(CONFIG, [data]).train()
    shots = frame_views(avatar, [data], [data.training_views(CONFIG.cameras)[:6]])
    with closing(BatchSource(shots, CONFIG.batch, 0, Augmentation(), CPU)) as source:
        trainer = Trainer(CONFIG, avatar, source, FallbackImageLoss(), tmp_path, "")
        trainer.step()
        trainer.finish()
        done = read_checkpoint(tmp_path)
        assert done is not None and done.state["run"]["finished"]
        trainer.restore(done)  # as a larger budget does: should it then be killed before its avatar is written,
        trainer.step()
        trainer.save()
    found = read_checkpoint(tmp_path)  # the shorter run's must not be taken for it
    assert found is not None and not found.state["run"]["finished"]


def test_a_rehearsal_teaches_nothing(footage: Path, tmp_path: Path) -> None:
    data, config = read_dataset(footage), replace(CONFIG, weight_adversarial=0.1, light_gain=True)
    found, sizes = [], list[tuple[int, ...]]()
    for rehearsed in (False, True):
        avatar = new_avatar(config, [data]).train()
        shots = frame_views(avatar, [data], [data.training_views(config.cameras)[:6]])
        with closing(BatchSource(shots, config.batch, 0, Augmentation(), CPU)) as source:
            trainer = Trainer(config, avatar, source, FallbackImageLoss(), tmp_path, "")
            if rehearsed:
                hook = avatar.register_forward_hook(lambda *seen: sizes.append(tuple(seen[2].alpha.shape[-2:])))
                trainer.rehearse()
                hook.remove()
                assert sizes == [(128, 64)] and trainer.state.step == 0  # as large as pictures ever get
            found.append([trainer.step() for _ in range(2)])
    assert found[0] == found[1]


@pytest.mark.parametrize("residual", [True, False])
def test_what_guides_a_network_is_logged_as_it_is_and_counts_by_its_weight(footage: Path, residual: bool) -> None:
    method = "textured" if residual else "textured-proxy"
    config = replace(CONFIG, method=method, residual=residual, guide=1.0, steps=10, refine=0)
    data = read_dataset(footage)
    avatar = new_avatar(config, [data]).train()
    shots = frame_views(avatar, [data], [data.training_views(config.cameras)[:6]])
    surfaces = ProxySurfaces(avatar, shots)
    with closing(BatchSource(shots, config.batch, 0, Augmentation(), CPU)) as source:
        trainer = Trainer(config, avatar, source, FallbackImageLoss(), Path(), "", surfaces)
        trainer.state = RunState(step=8)
        trainer.goes_on()
        assert trainer.guidance == pytest.approx(0.2)
        batch = source.batch(8)
        known = surfaces.seen(batch.which, batch.cameras)
        known = undisputed(known, batch.truth.rgba[:, 3], batch.truth.valid[:, 0])
        maps = avatar.maps(batch.joints, batch.confidence, batch.cameras)
        assert maps.coordinates is not None
        parts, coordinates = losses.surface_loss(maps.logits, maps.coordinates, known.part, known.coordinates)
        values = trainer.step()
    assert values["parts"] == pytest.approx(float(parts.detach()), rel=1e-5)
    assert values["surface"] == pytest.approx(float(coordinates.detach()), rel=1e-5)
    assert ("coordinates" in values) is not residual
    counted = {"parts": 0.2, "surface": 0.2 * SURFACE_COORDINATES}
    terms = {name: value for name, value in values.items() if name not in ("loss", "lr")}
    assert values["loss"] == pytest.approx(sum(counted.get(n, 1) * v for n, v in terms.items()), rel=1e-5)


def test_textures_learn_as_guidance_lets_go(footage: Path) -> None:
    """They are right from the start: while the network does not know yet where they lie, it would blur them."""
    config = replace(CONFIG, method="textured", guide=1.0, steps=10, refine=0)
    data = read_dataset(footage)
    avatar = new_avatar(config, [data]).train()
    shots = frame_views(avatar, [data], [data.training_views(config.cameras)[:6]])
    assert avatar.textures is not None and avatar.generator is not None
    with closing(BatchSource(shots, config.batch, 0, Augmentation(), CPU)) as source:
        trainer = Trainer(config, avatar, source, FallbackImageLoss(), Path(), "")
        textures, network = (
            avatar.textures.detach().clone(),
            [p.detach().clone() for p in avatar.generator.parameters()],
        )
        trainer.step()
        assert torch.equal(avatar.textures, textures)  # guidance is 1: not at all
        assert not all(map(torch.equal, avatar.generator.parameters(), network))
        trainer.goes_on()
        assert trainer.guidance == pytest.approx(0.9)
        rate = trainer.step()["lr"] * engine.TEXTURE_RATE * 0.1
        moved = float((avatar.textures - textures).detach().abs().max())
        # Adam moves nothing farther in its second step than its rate.
        assert 0.5 * rate < moved < 1.01 * rate


@pytest.mark.parametrize("where", ["GPU", "CPU"])
def test_too_little_memory_is_told_in_a_sentence(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(trainer: Trainer) -> dict[str, float]:
        if where == "GPU":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        torch.empty(1 << 50)
        return {}

    monkeypatch.setattr(Trainer, "step", full)
    with pytest.raises(BackendError, match="--batch or --size"):
        runs.train([footage], tmp_path / "a.avatar", replace(CONFIG, proxy_steps=1, image_loss="fallback"))
    assert read_checkpoint(tmp_path / "a.avatar.train") is not None


def test_moments_lie_in_memory_as_their_weights_do() -> None:
    weight = torch.zeros(4, 8, 3, 3).to(memory_format=torch.channels_last)
    moment = torch.arange(288.0).view(4, 8, 3, 3)
    found = as_laid_out(moment, weight)
    assert found.stride() == weight.stride() and torch.equal(found, moment)
    assert as_laid_out(torch.tensor(3.0), weight) == 3


def test_the_running_mean_is_what_is_exported(footage: Path, tmp_path: Path) -> None:
    data = read_dataset(footage)
    avatar = new_avatar(CONFIG, [data]).train()
    shots = frame_views(avatar, [data], [data.training_views(CONFIG.cameras)[:6]])
    with closing(BatchSource(shots, CONFIG.batch, 0, Augmentation(), CPU)) as source:
        trainer = Trainer(CONFIG, avatar, source, FallbackImageLoss(), tmp_path, "")
        assert avatar.textures is not None
        mean = avatar.textures.detach().clone()
        for step in range(3):
            trainer.step()
            mean.lerp_(avatar.textures.detach(), 1 - min(CONFIG.ema, (1 + step) / (10 + step)))
        assert torch.equal(trainer.export_weights()["textures"], mean)
        assert not torch.equal(avatar.textures, mean)
        seen = trainer.with_export_weights(lambda a: float((a.textures - mean).detach().abs().max()))  # type: ignore[operator]
        assert seen == 0 and not torch.equal(avatar.textures, mean)


def test_a_run_goes_on_in_the_numbers_that_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for pays in (True, False):
        monkeypatch.setattr(devices, "bfloat16_pays", lambda device, pays=pays: pays)
        assert devices.in_bfloat16("auto", cpu) is pays
        assert not devices.in_bfloat16("auto", cpu, "float32") and not devices.in_bfloat16("full", cpu, "bfloat16")
        assert devices.in_bfloat16("auto", cpu, "bfloat16") is pays and devices.in_bfloat16("mixed", cpu)


@pytest.mark.parametrize("method", ["textured-proxy", "direct"])
def test_in_half_the_bits_a_run_learns_the_same(footage: Path, tmp_path: Path, method: str) -> None:
    """Numbers of bfloat16 are right to one part in 256. Over a few steps the loss is full precision's to two parts in a
    thousand, each of its terms to one in fifty; weights, gradients and moments are float32."""
    data, config = read_dataset(footage), replace(CONFIG, method=method, steps=100, weight_adversarial=0.1)
    found: dict[bool, list[dict[str, float]]] = {}
    for mixed in (False, True):
        avatar = new_avatar(config, [data]).train()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():  # what it draws depends on all of its weights from the first step on
            for p in avatar.generator.parameters():  # type: ignore[union-attr]
                p += 0.02 * torch.randn(p.shape, generator=generator)
        avatar.mixed_precision = devices.in_bfloat16("mixed" if mixed else "full", CPU)
        kinds = set[torch.dtype]()
        avatar.generator.register_forward_hook(lambda *seen, kinds=kinds: kinds.update(x.dtype for x in seen[2]))  # type: ignore
        shots = frame_views(avatar, [data], [data.training_views(config.cameras)[:6]])
        with closing(BatchSource(shots, config.batch, 0, Augmentation(), CPU)) as source:
            trainer = Trainer(config, avatar, source, FallbackImageLoss(), tmp_path, "")
            found[mixed] = [trainer.step() for _ in range(5)]
            trainer.save()
        assert kinds == {torch.bfloat16 if mixed else torch.float32}
        saved = read_checkpoint(tmp_path)
        assert saved is not None
        kept = {**saved.tensors, **trainer.export_weights(), **{n: p.grad for n, p in avatar.named_parameters()}}
        assert {t.dtype for n, t in kept.items() if not n.startswith("body/rest")} == {torch.float32}
    for full, mixed in zip(found[False], found[True], strict=True):
        assert mixed["loss"] == pytest.approx(full["loss"], rel=2e-3) and mixed["loss"] != full["loss"]
        assert mixed == pytest.approx(full, rel=2e-2), "each of the terms"
