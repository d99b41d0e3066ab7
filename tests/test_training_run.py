# SPDX-License-Identifier: GPL-3.0-or-later
"""Training as a user runs it: the command, in processes of its own, on real footage; interrupted, killed, resumed."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from safetensors.torch import save_file

from neural_avatar.neural_backend.avatar_file import load_avatar
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from neural_avatar.training.commands import add_commands
from neural_avatar.training.config import TrainConfig
from support.commands import begin
from support.commands import words_of as run

#: A run of a few seconds: small pictures, one camera, hardly any proxy fitting.
SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Wait until ``ready()``, or fail when the process ends first."""
    while not ready():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            pytest.fail(f"it ended with {process.returncode}: {process.communicate()[0]}")


def weights(avatar: Path) -> dict[str, torch.Tensor]:
    """The exact float32 state of a finished run."""
    checkpoint = read_checkpoint(avatar.with_name(avatar.name + ".train"))
    assert checkpoint is not None and checkpoint.state["run"]["finished"]
    return {k: v for k, v in checkpoint.tensors.items() if k.startswith(("weights/", "mean/", "moments/"))}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def finished(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of 16 steps."""
    avatar = tmp_path_factory.mktemp("run") / "person.avatar"
    run("train", footage, "-o", avatar, "--steps", 16, *SMALL, "--license", "test licence")
    return avatar


def test_a_run_leaves_an_avatar_its_log_and_a_growing_preview(finished: Path) -> None:
    avatar = load_avatar(finished)
    assert avatar.config.method == "textured-proxy" and avatar.config.size == (64, 32)
    folder = finished.with_name("person.avatar.train")
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert rows and all(float(row["loss"]) > 0 for row in rows) and any(row["preview_psnr"] for row in rows)
    preview = cv2.imread(str(folder / "preview.png"))
    assert preview.shape[0] == 64 * len(list((folder / "preview").glob("*.png"))) and preview.shape[1] == 32 * 9
    assert json.loads((folder / "config.json").read_text())["seed"] == 5


def test_the_header_tells_how_it_was_made(finished: Path) -> None:
    said = json.loads(run("info", finished, "--json"))
    assert said["license"] == "test licence"
    assert said["provenance"]["config"]["method"] == "textured-proxy" and said["provenance"]["steps"] == 16
    assert said["provenance"]["datasets"] == ["rendered_human"]
    assert "L1" in said["provenance"]["image_loss"]
    assert said["provenance"]["precision"] in ("bfloat16", "float32")
    figures = said["metrics"]
    assert figures["heldout_views"] == 24 and figures["preview_psnr"] > 10
    assert 10 < figures["heldout_psnr_box"] < 40 and 0 < figures["heldout_ssim_box"] < 1
    assert 0.5 < figures["heldout_mask_iou"] < 1


def test_the_figures_in_the_header_are_those_of_evaluate(footage: Path, finished: Path) -> None:
    from neural_avatar.training.dataset import read_dataset
    from neural_avatar.training.evaluate import Choice, evaluate, heldout_figures, mean_figures

    avatar, data = load_avatar(finished), read_dataset(footage)
    found = heldout_figures(avatar, [data], ["train"], most=2)
    views = Choice().views(data, data.train_cameras)
    first = [next(view for view in views if view.camera == camera) for camera in data.heldout_cameras]
    expected = mean_figures(evaluate(avatar, data, first))
    assert found["heldout_views"] == 2
    assert found["heldout_psnr_box"] == pytest.approx(expected["psnr_box"], abs=1e-4)
    assert found["heldout_mask_iou"] == pytest.approx(expected["mask_iou"], abs=1e-4)
    assert heldout_figures(avatar, [data], ["all"]) == {}  # what was trained on is not held out


def test_a_folder_that_cannot_hold_log_and_preview_costs_neither_avatar_nor_checkpoint(
    footage: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "person.avatar.train"
    for name in ("preview.png", "log.csv"):  # folders in the place of files: they cannot be written, whoever asks
        (folder / name).mkdir(parents=True)
    said = run("train", footage, "-o", tmp_path / "person.avatar", "--steps", 2, *SMALL)
    assert "The preview could not be written" in said and "The log could not be written" in said
    assert "Traceback" not in said and "Wrote" in said
    assert load_avatar(tmp_path / "person.avatar").textures is not None
    assert not [p.name for p in folder.rglob("*") if p.suffix in (".tmp", ".part")]


def test_training_is_kept_when_the_avatar_cannot_be_written(footage: Path, tmp_path: Path) -> None:
    avatar, folder = tmp_path / "person.avatar", tmp_path / "person.avatar.train"
    avatar.mkdir()
    options = ("train", footage, "-o", avatar, "--steps", 3, *SMALL)
    assert "is a folder" in run(*options, code=1) and not folder.exists()  # before hours of training, not after
    avatar.rmdir()
    process = begin(*options)
    wait_for(process, folder.exists)
    avatar.mkdir()
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 1 and "cannot be written" in said, said
    kept = read_checkpoint(folder)
    assert kept is not None and kept.state["run"]["step"] == 3
    avatar.rmdir()
    assert "Resuming at step 3." in run(*options) and avatar.is_file()


def test_a_resumed_run_keeps_its_image_loss(
    footage: Path, tmp_path: Path, vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # where no weights are
    common = [option if option != "fallback" else "auto" for option in SMALL]
    weights_ = ("--vgg-weights", vgg)

    def go(name: str, steps: int, *more: object, code: int = 0) -> str:
        return run("train", footage, "-o", tmp_path / name, "--steps", steps, *common, *more, code=code)

    assert "Image loss: VGG19" in go("vgg.avatar", 1, *weights_)
    said = go("vgg.avatar", 2, code=1)
    assert "with which this run began" in said and "Traceback" not in said
    assert "Resuming at step 1." in go("vgg.avatar", 2, *weights_)
    assert "Image loss: multi-scale L1" in go("l1.avatar", 1)
    said = go("l1.avatar", 2, *weights_, code=1)
    assert "leave --vgg-weights out" in said and "Traceback" not in said
    assert "Resuming at step 1." in go("l1.avatar", 2)


def test_a_finished_run_is_not_done_again(footage: Path, finished: Path) -> None:
    before = finished.stat().st_mtime_ns
    assert "finished" in run("train", footage, "-o", finished, "--steps", 16, *SMALL)
    assert finished.stat().st_mtime_ns == before


def test_a_finished_static_avatar_is_not_made_again(footage: Path, tmp_path: Path) -> None:
    words = ("train", footage, "-o", tmp_path / "still.avatar", "--method", "static", *SMALL)
    first = run(*words)
    assert "Wrote" in first and "Image loss" not in first
    again = run(*words)
    assert "still.avatar is finished" in again and "Wrote" not in again


def test_an_empty_row_of_the_preview_does_not_end_a_run(footage: Path, finished: Path, tmp_path: Path) -> None:
    """As a power cut leaves it where the disk had the name but not yet the picture."""
    avatar = tmp_path / "person.avatar"
    folder = shutil.copytree(finished.with_name("person.avatar.train"), tmp_path / "person.avatar.train")
    (folder / "preview" / "00000001.png").write_bytes(b"")
    said = run("train", footage, "-o", avatar, "--steps", 17, *SMALL, "--license", "test licence")
    assert "Resuming at step 16" in said and avatar.exists()
    rows = [path for path in (folder / "preview").glob("*.png") if path.stat().st_size]
    assert cv2.imread(str(folder / "preview.png")).shape[0] == 64 * len(rows)


def test_other_options_or_data_are_refused(footage: Path, finished: Path) -> None:
    said = run("train", footage, "-o", finished, "--steps", 16, *SMALL, "--lr", "0.001", code=1)
    assert "--lr was 0.002, now 0.001" in said and "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_resuming_gives_the_same_weights(footage: Path, finished: Path, tmp_path: Path, number: signal.Signals) -> None:
    avatar = tmp_path / "person.avatar"
    # A checkpoint after each step, so that a kill loses little; how often they are written must not change the result.
    options = ("train", footage, "-o", avatar, "--steps", 16, *SMALL, "--checkpoint-minutes", "0")
    process = begin(*options)
    log = tmp_path / "person.avatar.train" / "log.csv"
    wait_for(process, lambda: log.exists() and log.read_text().count("\n") > 3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=300)
    stopped = read_checkpoint(log.parent)
    assert stopped is not None and not avatar.exists(), said
    if number == signal.SIGINT:
        assert process.returncode == 130 and "resumes it" in said
    assert 0 <= stopped.state["run"]["step"] < 16
    assert f"Resuming at step {stopped.state['run']['step']}." in run(*options)
    assert same(weights(avatar), weights(finished))
    steps = [int(row["step"]) for row in csv.DictReader(log.open())]
    assert steps == sorted(set(steps))


def test_ctrl_c_in_a_long_stage_is_answered_and_a_second_one_stops_at_once(footage: Path, tmp_path: Path) -> None:
    process = begin("train", footage, "-o", tmp_path / "a.avatar", "--steps", 1, *SMALL, "--proxy-steps", 10**6)
    assert process.stdout is not None
    said = ""
    for words in ("Fitting the proxy", "Stops after this stage"):
        while words not in said:
            character = process.stdout.read(1)
            assert character, said
            said += character
        process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=300)
    assert process.returncode == 130 and "Interrupted." in rest and "Traceback" not in rest


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends no pipe's reader and closes no terminal so")
@pytest.mark.parametrize("number", [signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)])
def test_a_run_whose_words_nobody_reads_any_more_stops_with_a_checkpoint(
    footage: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C ends `tee` in `train 2>&1 | tee log` too, and a terminal that closes takes its end away first."""
    before = signal.signal(number, signal.SIG_DFL)  # under nohup one is ignored here, and would be there
    process = begin("train", footage, "-o", tmp_path / "a.avatar", "--steps", 10**6, *SMALL)
    signal.signal(number, before)
    log = tmp_path / "a.avatar.train" / "log.csv"
    wait_for(process, lambda: log.exists() and log.read_text().count("\n") > 1)
    assert process.stdout is not None
    process.stdout.close()
    for _ in range(1 if number == signal.SIGINT else 2):  # shell and system both tell of a terminal that closes
        process.send_signal(number)
    assert process.wait(300) == 130
    stopped = read_checkpoint(log.parent)
    assert stopped is not None and stopped.state["run"]["step"] > 0


def test_a_restart_that_cannot_begin_loses_nothing(root: Path, footage: Path, finished: Path, tmp_path: Path) -> None:
    mistyped = ("train", footage.with_name("mistyped"), "-o", finished, "--steps", 16, *SMALL, "--restart")
    assert "mistyped" in run(*mistyped, code=1)
    folder = finished.with_name(finished.name + ".train")
    assert read_checkpoint(folder) is not None and [p.name for p in folder.parent.iterdir() if "before" in p.name] == []
    shutil.copytree(folder, tmp_path / "a.avatar.train")
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"  # room for the log and no checkpoint
    words = ["train", str(footage), "-o", str(tmp_path / "a.avatar"), "--steps", "2", *SMALL, "--restart"]
    start = f"import resource, runpy, sys; {full}; sys.argv = {[str(root), *words]!r}; runpy.run_path({str(root)!r}, "
    done = subprocess.run([sys.executable, "-c", start + "run_name='__main__')"], capture_output=True, text=True)
    assert done.returncode == 1 and "could not be written" in done.stderr and "Traceback" not in done.stderr
    kept = read_checkpoint(tmp_path / "a.avatar.train")
    assert kept is not None and kept.state["run"]["step"] == 16
    anew = ("train", footage, "-o", tmp_path / "a.avatar", "--steps", 2, *SMALL, "--restart")
    assert "after 2 steps" in run(*anew)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.avatar", "a.avatar.train"]


def test_a_run_is_not_kept_in_its_dataset(tmp_path: Path) -> None:
    (tmp_path / "ada.train").mkdir()
    (tmp_path / "ada.train" / "cameras.json").write_text("{}")
    said = run("train", tmp_path / "ada.train", "-o", tmp_path / "ada", *SMALL, "--restart", code=1)
    assert "give another -o" in said and (tmp_path / "ada.train" / "cameras.json").exists()


def test_memory_that_does_not_suffice_for_judging_costs_no_avatar(
    footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from neural_avatar.cli import main
    from neural_avatar.training import export

    def full(*_: object) -> dict[str, float]:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(export, "heldout_figures", full)
    assert main(["train", str(footage), "-o", str(tmp_path / "a.avatar"), "--steps", "1", *SMALL]) == 0
    assert "Memory does not suffice" in capsys.readouterr().err
    assert load_avatar(tmp_path / "a.avatar").textures is not None


def test_textures_keep_what_the_footage_shows_beyond_the_network_s_size(
    footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_avatar.training import initialise, textures_init
    from neural_avatar.training.dataset import read_dataset
    from neural_avatar.training.evaluate import heldout_figures
    from neural_avatar.training.surfaces import ProxySurfaces

    config = TrainConfig(method="static", size=96, texture_size=128, cameras=("cam00", "cam02", "cam05"))
    data = read_dataset(footage)
    avatar = initialise.new_avatar(config, [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[::5]])
    assert sum(shot.magnification for shot in shots) / len(shots) < 0.6
    figures = []
    for finer in (0.0, textures_init.FINER):
        monkeypatch.setattr(textures_init, "FINER", finer)
        initialise.fill_textures(avatar, shots, ProxySurfaces(avatar, shots))
        figures.append(heldout_figures(avatar, [data], config.cameras, most=6)["heldout_ssim_box"])
    assert figures[1] > figures[0] + 0.002, figures


def test_the_same_seed_gives_the_same_and_another_another(footage: Path, finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.avatar"
    run("train", footage, "-o", other, "--steps", 16, *SMALL, "--seed", 6)
    assert not same(weights(other), weights(finished))


@pytest.mark.parametrize("method", ["textured", "direct", "direct-proxy", "static"])
def test_every_method_trains_and_evaluates(footage: Path, tmp_path: Path, method: str) -> None:
    avatar, report = tmp_path / "a.avatar", tmp_path / "a.json"
    said = run("train", footage, "-o", avatar, "--steps", 8, *SMALL, "--method", method, "--no-skips")
    if method in ("textured", "static"):
        assert "texels were seen" in said
    shown = tmp_path / "pictures"
    run("evaluate", avatar, footage, "--split", "test_far", "--every", 10, "--json", report, "--pictures", shown)
    found = json.loads(report.read_text())
    assert found["all"]["frames"] == 4 and {f["camera"] for f in found["frames"]} == {"cam03", "cam06"}
    assert {f["split"] for f in found["frames"]} == {"test_far"}
    assert list(shown.glob("worst0_*.png"))
    if method == "static":
        assert found["all"]["mask_iou"] > 0.6 and found["all"]["psnr"] > 15


def test_a_network_can_come_from_another_avatar(footage: Path, finished: Path, tmp_path: Path) -> None:
    avatar = tmp_path / "b.avatar"
    run("train", footage, "-o", avatar, "--steps", 1, *SMALL, "--init-from", finished, "--lr", "0.000001")
    assert json.loads(run("info", avatar, "--json"))["provenance"]["config"]["init_from"] == "person.avatar"
    own, other = load_avatar(avatar), load_avatar(finished)
    pairs = zip(own.generator.parameters(), other.generator.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)
    said = run("train", footage, "-o", tmp_path / "c.avatar", "--steps", 1, *SMALL, "--method", "direct",
               "--init-from", finished, code=1)  # fmt: skip
    assert "--method textured-proxy" in said


def test_a_loss_that_is_no_number_goes_back_to_the_checkpoint(tmp_path: Path, footage: Path) -> None:
    from neural_avatar.training import initialise, prepare
    from neural_avatar.training.batches import BatchSource
    from neural_avatar.training.crops import Augmentation
    from neural_avatar.training.dataset import read_dataset
    from neural_avatar.training.trainer import Trainer

    config = TrainConfig(steps=8, size=64, batch=1, texture_size=16, cameras=("cam00",), image_loss="fallback")
    data = read_dataset(footage)
    avatar = initialise.new_avatar(config, [data])
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[:4]])
    source = BatchSource(shots, 1, 0, Augmentation(), torch.device("cpu"))
    trainer = Trainer(config, avatar, source, prepare.make_image_loss(config)[0], tmp_path, source.fingerprint())
    trainer.step()
    trainer.save()
    good = trainer.export_weights()
    with torch.no_grad():
        next(iter(avatar.parameters())).fill_(float("nan"))
    assert trainer.step() == {}
    assert trainer.state.step == 1 and trainer.state.rate_scale == 0.5 and trainer.state.rollbacks == 1
    assert same(good, trainer.export_weights())
    assert trainer.step()["loss"] > 0
    source.close()


def test_the_previous_checkpoint_survives_a_torn_one(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, Checkpoint({"a": torch.full((3,), float(step))}, {"step": step}))
    newest = tmp_path / "checkpoint.safetensors"
    newest.write_bytes(newest.read_bytes()[:40])
    found = read_checkpoint(tmp_path)
    assert found is not None and found.state["step"] == 1 and found.tensors["a"][0] == 1
    (tmp_path / "checkpoint.previous.safetensors").write_bytes(b"")
    with pytest.raises(BackendError, match="--restart"):
        read_checkpoint(tmp_path)


@pytest.fixture
def vgg(tmp_path: Path) -> Path:
    """A file in the form of VGG19's weights, with random numbers in it."""
    torch.manual_seed(0)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    state = {f"features.{i}.weight": torch.randn(o, n, 3, 3) * 0.05 for i, (o, n) in shapes.items()}
    state |= {f"features.{i}.bias": torch.zeros(o) for i, (o, _) in shapes.items()}
    torch.save(state, tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def test_vgg_weights_are_read_safely(tmp_path: Path, vgg: Path) -> None:
    from neural_avatar.training.losses import PerceptualImageLoss
    from neural_avatar.training.prepare import make_image_loss

    save_file(torch.load(vgg, weights_only=True), tmp_path / "vgg.safetensors")
    image, truth = torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32)
    values = []
    for name in ("vgg.pth", "vgg.safetensors"):
        loss, title = make_image_loss(TrainConfig(image_loss="vgg", vgg_weights=str(tmp_path / name)))
        assert isinstance(loss, PerceptualImageLoss) and "VGG19" in title
        values.append(float(loss(image, truth).detach()))
        assert float(loss(truth, truth)) == 0
    assert values[0] == values[1] > 0
    torch.save({"x": Path("code")}, tmp_path / "evil.pth")
    for bad in ("evil.pth", "none.pth"):
        with pytest.raises(BackendError, match="VGG"):
            make_image_loss(TrainConfig(image_loss="vgg", vgg_weights=str(tmp_path / bad)))


def test_bad_options_are_told_in_a_sentence(footage: Path, tmp_path: Path) -> None:
    for options, words in (
        (("--size", "100"), "multiple of 32"),
        (("--steps", "5", "--minutes", "1"), "one budget"),
        (("--clip", "0"), "--clip must be more than 0"),
        (("--seed", "-1"), "--seed must lie between 0"),
        (("--threads", "-1"), "--threads and --cache-gb must not be negative"),
        (("--weight-adversarial", "nan"), "--weight-adversarial must be a finite number"),
        (("--weight-mask", "-1"), "--weight-mask must be at least 0"),
        (("--init-from", tmp_path / "none.avatar", "--steps", "1"), "none.avatar"),
        (("--image-loss", "vgg", "--vgg-weights", tmp_path / "none.pth", "--steps", "1"), "none.pth"),
    ):
        said = run("train", footage, "-o", tmp_path / "x.avatar", *options, code=1)
        assert words in said and "Traceback" not in said
    assert "no dataset folder" in run("train", tmp_path / "no", "-o", tmp_path / "x.avatar", code=1)


def test_every_field_of_the_config_is_an_option() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    options = parser.parse_args(["train", "d", "-o", "x.avatar"])
    assert set(TrainConfig().as_dict()) <= set(vars(options))
