# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-training on DensePose's results, and none at all: what is taught, and runs that begin so."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.cli import main
from neural_avatar.neural_backend.avatar_file import load_avatar
from neural_avatar.neural_backend.coordinates import Coordinates
from neural_avatar.training import initialise
from neural_avatar.training.batches import BatchSource, Shot
from neural_avatar.training.checkpoint import read_checkpoint
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import View, read_dataset
from neural_avatar.training.densepose import find_results
from neural_avatar.training.footage.readers.densepose import read_densepose
from neural_avatar.training.losses import surface_loss
from neural_avatar.training.surfaces import PredictedSurfaces, ProxySurfaces, make_surfaces, undisputed

#: A run of a few seconds: small pictures, hardly any proxy fitting.
SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--threads", "1", "--device",
         "cpu", "--image-loss", "fallback", "--seed", "5", "--method", "textured")  # fmt: skip
#: Rows of the small dataset for which DensePose, as it were, found nobody.
LOST = (3, 7)


@pytest.fixture(scope="module")
def few(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows to train on and two to test, seen by two train cameras and a held-out one, from real footage."""
    with np.load(footage / "joints.npz") as data:
        train, test = (np.flatnonzero(data["split"] == name) for name in ("train", "test_far"))
        rows = [*train[::12][:10], *test[:2]]
        columns = {k: data[k] if k == "names" else data[k][rows] for k in ("joints", "names", "split", "clip")}
    folder = tmp_path_factory.mktemp("few")
    cameras = json.loads((footage / "cameras.json").read_text())
    cameras["cameras"] = [cameras["cameras"][i] for i in (0, 1, 3)]
    cameras |= {"train_cameras": [0, 1], "heldout_cameras": [2]}
    (folder / "cameras.json").write_text(json.dumps(cameras))
    np.savez(folder / "joints.npz", **columns)
    for camera in cameras["cameras"]:
        (folder / "images" / camera["name"]).mkdir(parents=True)
        for i, row in enumerate(rows):
            shutil.copy(footage / "images" / camera["name"] / f"{row:05d}.png",
                        folder / "images" / camera["name"] / f"{i:05d}.png")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def results(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IUV pictures of the train cameras that stand for DensePose's: the proxy's surface, its charts mirrored, so that
    what is learned from them cannot come from the proxy."""
    folder = tmp_path_factory.mktemp("densepose")
    data = read_dataset(few)
    avatar = initialise.new_avatar(TrainConfig(method="textured"), [data])
    for view in data.training_views():
        maps = avatar.proxy_maps(data.joints[[view.row]], data.confidence[[view.row]], [data.camera(view)])
        uv = np.rint(maps.visible[0].numpy() * 255).astype(np.uint8)
        part = maps.part[0].numpy().astype(np.uint8)
        iuv = np.stack([part, (255 - uv[0]) * (part > 0), uv[1] * (part > 0)], -1)
        place = folder / data.camera_names[view.camera]
        place.mkdir(exist_ok=True)
        if view.row not in LOST:
            cv2.imwrite(str(place / f"{view.row:05d}_IUV.png"), iuv)
    return folder


def make_source(few: Path, results: Path) -> tuple[TrainConfig, initialise.Avatar, BatchSource, Sequence[Shot]]:
    config = TrainConfig(method="textured", size=128, init="densepose", densepose=(str(results),))
    data = read_dataset(few)
    avatar = initialise.new_avatar(config, [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views()])
    return config, avatar, BatchSource(shots, 6, 0, Augmentation(), torch.device("cpu")), shots


def test_surfaces_are_the_results_as_each_crop_sees_them(few: Path, results: Path) -> None:
    config, avatar, source, shots = make_source(few, results)
    said: list[str] = []
    surfaces = make_surfaces(config, avatar, shots, said.append)
    assert surfaces.about["densepose_pictures"] == 16 and "16 of 20 pictures" in said[0]
    taught = 0
    for step in range(3):
        batch = source.batch(step)
        known = surfaces.seen(batch.which, batch.cameras)
        surface = undisputed(known, batch.truth.rgba[:, 3], batch.truth.valid[:, 0])
        expected = avatar.proxy_maps(batch.joints, batch.confidence, batch.cameras)
        mirrored = torch.stack([1 - expected.visible[:, 0], expected.visible[:, 1]], 1)
        alpha = batch.truth.rgba[:, 3]
        for i, k in enumerate(batch.which):
            part, truth = surface.part[i], expected.part[i]
            if shots[k].view.row in LOST:
                assert (part == -1).all()
                continue
            taught += 1
            known = part >= 0
            assert known.float().mean() > 0.6
            assert ((part > 0) == (alpha[i] > 0.5))[known].all()  # where both disagree, nothing is taught
            assert (part == truth)[known].float().mean() > 0.93
            inside = (part == truth) & (part > 0)
            error = (surface.coordinates[i] - mirrored[i]).abs().amax(0)[inside]
            assert error.median() < 0.02 and (error > 0.1).float().mean() < 0.05
    assert taught > 8
    source.close()


class DensePoseChartResult:
    """Pickles as detectron2's class of that name does."""

    labels: torch.Tensor
    uv: torch.Tensor


def test_a_dump_for_each_camera_teaches_what_pictures_do(
    few: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("densepose", "densepose.structures", "densepose.structures.chart_result"):
        module = types.ModuleType(name)
        module.DensePoseChartResult = DensePoseChartResult  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(DensePoseChartResult, "__module__", name)
    for folder in results.iterdir():
        entries = []
        for row, surface in read_densepose(folder):
            result = DensePoseChartResult()
            result.labels, result.uv = torch.from_numpy(surface.labels).long(), torch.from_numpy(surface.uv)
            height, width = surface.labels.shape
            box = torch.tensor([[surface.x, surface.y, surface.x + width, surface.y + height]]) + 0.3
            entries.append({"file_name": f"dataset/images/{folder.name}/{row:05d}.png", "scores": torch.ones(1),
                            "pred_boxes_XYXY": box, "pred_densepose": [result]})  # fmt: skip
        torch.save(entries, tmp_path / f"{folder.name}.pkl")
    *_, shots = make_source(few, results)
    assert find_results([str(tmp_path)], shots).fingerprint() == find_results([str(results)], shots).fingerprint()
    alone = [shot for shot in shots if shot.view.camera == 1]
    assert find_results([str(tmp_path / "cam01.pkl")], alone).found == 8  # with one camera the dump itself will do


def test_a_guided_network_learns_the_surface_beside_the_pictures(
    few: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Guided from the first step on."""
    data, right = read_dataset(few), {}
    for share in (0, 1):
        path = tmp_path / f"guided_{share}.avatar"
        words = ["train", few, "-o", path, "--steps", 150, *SMALL, "--guide", share, "--lr", 0.004]
        assert main([str(word) for word in words]) == 0
        said = capfd.readouterr().err
        assert "texels were seen" in said
        avatar = load_avatar(path)
        shots = initialise.frame_views(avatar, [data], [data.training_views()])
        which, cameras = range(len(shots)), [shot.camera for shot in shots]
        known = ProxySurfaces(avatar, shots).seen(which, cameras).part
        own = PredictedSurfaces(avatar, shots).seen(which, cameras).part
        right[share] = float((own == known)[known > 0].float().mean())
    assert right[1] > 0.12 and right[1] > 2 * right[0]  # of 24 parts
    row = next(csv.DictReader((tmp_path / "guided_1.avatar.train" / "log.csv").open()))
    assert float(row["parts"]) > 0 and float(row["surface"]) > 0 and float(row["image"]) > 0


def test_what_is_not_known_teaches_nothing() -> None:
    torch.manual_seed(0)
    logits, coordinates = torch.randn(2, 25, 8, 8, requires_grad=True), torch.rand(2, 48, 8, 8, requires_grad=True)
    part, target = torch.randint(0, 25, (2, 8, 8)), torch.rand(2, 2, 8, 8)
    part[1] = -1
    known = Coordinates(None, coordinates)
    both = surface_loss(logits, known, part, target)
    alone = surface_loss(logits[:1], known.of(slice(1)), part[:1], target[:1])
    torch.testing.assert_close(both, alone)
    sum(both).backward()
    assert logits.grad is not None and (logits.grad[1] == 0).all() and (logits.grad[0] != 0).any()
    nothing = surface_loss(logits, known, torch.full_like(part, -1), target)
    assert all(float(loss.detach()) == 0 for loss in nothing)


def start(root: Path, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, str(root), *map(str, arguments)]
    return subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def test_a_run_on_densepose_s_results_resumes_exactly(
    root: Path, few: Path, results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    states = []
    for name, stop in (("whole", False), ("parts", True)):
        given = shutil.copytree(results, tmp_path / f"results_{name}")  # they may be moved
        path = tmp_path / f"{name}.avatar"
        words = ("train", few, "-o", path, "--steps", 12, *SMALL, "--init", "densepose", "--densepose", given,
                 "--pretrain", 0.6, "--guide", 1, "--checkpoint-minutes", 0)  # fmt: skip
        process, log = start(root, *words), tmp_path / f"{name}.avatar.train" / "log.csv"
        while stop and process.poll() is None:
            if log.exists() and log.read_text().count("\n") > 3:
                process.send_signal(signal.SIGINT)
                break
        said = process.communicate(timeout=300)[0]
        assert "16 of 20 pictures" in said and "Traceback" not in said, said
        if stop:
            assert process.returncode == 130, said
            process = start(root, *words)
            said = process.communicate(timeout=300)[0]
            assert "Resuming at step" in said
        assert process.returncode == 0 and "texels were seen" in said, said
        checkpoint = read_checkpoint(log.parent)
        assert checkpoint is not None and checkpoint.state["run"]["finished"]
        assert [int(row["step"]) for row in csv.DictReader(log.open())][-1] <= 12
        states.append({k: v for k, v in checkpoint.tensors.items() if k.startswith(("weights/", "mean/"))})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    # Drawn as any other avatar, and its file tells how it was made, but not where things lay.
    assert main(["evaluate", str(path), str(few), "--device", "cpu"]) == 0
    capfd.readouterr()
    assert main(["info", str(path), "--json"]) == 0
    made = json.loads(capfd.readouterr().out)["provenance"]
    assert made["densepose_pictures"] == 16 and made["densepose_overlap"] > 0.6
    assert made["config"]["densepose"] == ["results_parts"] and str(tmp_path) not in json.dumps(made)


def test_results_that_do_not_fit_are_one_sentence(
    few: Path, results: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    small, other = tmp_path / "small", tmp_path / "other"
    for file in results.rglob("*.png"):
        for folder, place in ((small, file.name), (other, f"9{file.name}")):
            (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
            picture = cv2.imread(str(file))
            picture = picture if folder is other else cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=0)
            cv2.imwrite(str(folder / file.parent.name / place), picture)
    (tmp_path / "evil").mkdir()
    for name in ("cam00", "cam01"):
        (tmp_path / "evil" / f"{name}.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")

    def begin(*options: object) -> str:
        return refused("train", few, "-o", tmp_path / "x.avatar", "--steps", 1, *SMALL, *options)

    given = ("--init", "densepose", "--densepose")
    assert "no" in begin(*given, tmp_path / "none") and "check --densepose" in begin(*given, tmp_path / "none")
    assert "2 places for 1 datasets" in begin(*given, results, results)
    assert "belongs to a picture that is trained on" in begin(*given, other)
    assert "lie beside the masks" in begin(*given, small)
    assert "was not opened" in begin(*given, tmp_path / "evil")
    assert "need each other" in begin("--init", "densepose")
    assert "need each other" in begin("--densepose", results)
    for method in ("textured-proxy", "direct"):
        assert "needs --method textured" in begin(*given, results, "--method", method)
    assert "exclude each other" in begin("--init", "random", "--init-from", tmp_path / "a.avatar")


@pytest.mark.parametrize("method", ["textured", "textured-proxy"])
def test_a_random_start_knows_nothing(
    few: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], method: str
) -> None:
    path = tmp_path / "a.avatar"
    words = ["train", few, "-o", path, "--steps", 1, *SMALL, "--init", "random", "--method", method, "--lr", 1e-6]
    assert main([str(w) for w in words]) == 0
    said = capfd.readouterr().err
    assert "texels were seen" not in said and "covers the masks" not in said
    avatar = load_avatar(path)
    assert avatar.textures is not None and (avatar.textures - 0.5).abs().max() < 0.01
    untouched = initialise.new_avatar(TrainConfig(method=method), [read_dataset(few)])
    torch.testing.assert_close(avatar.proxy_params, untouched.proxy_params)
    row = next(csv.DictReader((tmp_path / "a.avatar.train" / "log.csv").open()), None)
    assert row is None or not row.get("parts")
    assert View(0, 0) in read_dataset(few).training_views()
