# SPDX-License-Identifier: GPL-3.0-or-later
"""One run in several processes, as torchrun starts them: real processes on this machine's own loopback."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from neural_avatar.neural_backend.avatar_file import load_avatar
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import parallel
from neural_avatar.training.checkpoint import Checkpoint, read_checkpoint

#: A run of a few seconds: small pictures, one camera, hardly any proxy fitting.
SMALL = ("--size", "64", "--batch", "2", "--texture-size", "32", "--proxy-steps", "2", "--cameras", "cam00",
         "--threads", "1", "--device", "cpu", "--image-loss", "fallback", "--seed", "5")  # fmt: skip
#: Nothing leaves this machine.
LOCAL = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo", "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torchrun on Windows needs a build of torch with libuv")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun would tell the process of that number."""
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {**os.environ, **LOCAL, "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in told.items()}}


def torchrun(root: Path, *arguments: object, code: int = 0) -> str:
    """Run `torchrun --nproc-per-node 2 __main__.py ARGUMENTS`; returns what it said."""
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-addr", "127.0.0.1", "--master-port",
                free_port())  # fmt: skip
    words = [sys.executable, *map(str, launcher), str(root / "__main__.py"), *map(str, arguments)]
    done = subprocess.run(words, env={**os.environ, **LOCAL}, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def both(root: Path, *commands: tuple[object, ...]) -> list[subprocess.Popen[str]]:
    """Start a process of one run for each command line, as torchrun would."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, str(root), *map(str, arguments)], env=variables(rank, len(commands), port),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, arguments in enumerate(commands)
    ]  # fmt: skip


def ends(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Each one's exit code and words, once all have ended."""
    said = [process.communicate(timeout=300)[0] for process in processes]
    return [(process.returncode, words) for process, words in zip(processes, said, strict=True)]


def wait_for_steps(processes: list[subprocess.Popen[str]], avatar: Path, step: int) -> None:
    """Wait until the run has done that many steps, or fail when a process ends first."""
    log = avatar.with_name(avatar.name + ".train") / "log.csv"
    while not (log.exists() and any(int(row["step"] or 0) >= step for row in log_of(avatar))):
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(0.05)
            pytest.fail(f"it ended: {ends(processes)}")


def alone(root: Path, *arguments: object) -> str:
    words = [sys.executable, str(root), *map(str, arguments)]
    return subprocess.run(words, env={**os.environ, **LOCAL}, capture_output=True, text=True, timeout=300).stderr


def checkpoint_of(avatar: Path) -> Checkpoint:
    found = read_checkpoint(avatar.with_name(avatar.name + ".train"))
    assert found is not None
    return found


def log_of(avatar: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((avatar.with_name(avatar.name + ".train") / "log.csv").open()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ((), ("smooth",)),
        (
            ("--method", "v2v", "--weight-temporal", 0.5, "--precision", "full"),
            ("temporal", "adversarial", "features", "discriminator"),
        ),
    ],
    ids=["textured-proxy", "v2v"],
)
def test_two_processes_take_the_step_of_one(
    root: Path, footage: Path, tmp_path: Path, kind: tuple[object, ...], terms: tuple[str, ...]
) -> None:
    one, two = tmp_path / "one.avatar", tmp_path / "two.avatar"
    options = ("train", footage, "--steps", 6, *SMALL, "--jitter", 1, "--dropout", 0.3, "--light-gain", *kind)
    alone(root, *options, "-o", one)
    said = torchrun(root, *options, "-o", two)
    assert said.count("Wrote ") == 1 and said.count("Reading ") == 1 and "Traceback" not in said
    assert load_avatar(two).config.method == ("v2v" if kind else "textured-proxy")
    rows = list(zip(log_of(one), log_of(two), strict=True))
    assert len(rows) > 3
    # In v2v's coarse network instance norm sees a few pixels, and makes much of what rounding leaves of a step.
    off = 2e-3 if kind else 2e-4
    for a, b in rows:  # the same losses over the same pictures, up to the order in which numbers were added
        for name in ("loss", "image", "mask", *terms):
            assert float(a[name]) == pytest.approx(float(b[name]), rel=off), (name, a, b)
    if kind:
        return
    a, b = (
        torch.cat([t.flatten() for k, t in sorted(checkpoint_of(x).tensors.items()) if k.endswith("exp_avg")])
        for x in (one, two)
    )
    assert float((a - b).norm()) < 0.05 * float(a.norm()) > 0  # gradients, averaged over steps


def workers(root: Path, folder: Path, script: str, *arguments: object) -> list[tuple[int, str]]:
    """Two processes of one group that run a script in which the package can be imported; how they ended."""
    start = f"import runpy\nrunpy.run_path({str(root / 'neural_backend' / 'start.py')!r})['load_package']()\n"
    (folder / "worker.py").write_text(start + script, "utf-8")
    words, port = [sys.executable, str(folder / "worker.py"), *map(str, arguments)], free_port()
    return ends([
        subprocess.Popen(words, env=variables(rank, 2, port), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
        for rank in range(2)
    ])  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list a process's threads")
def test_no_thread_of_the_group_outlives_it(root: Path, tmp_path: Path) -> None:
    """One that frees its last tensor while the interpreter ends would abort the process."""
    script = """
from pathlib import Path
import torch
from neural_avatar.training import parallel
with parallel.joined("cpu", 4):
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(3))])  # its first use imports what keeps process groups
    assert parallel.from_main(lambda: b"x") == b"x"
names = {p.read_text().strip() for p in Path("/proc/self/task").glob("*/comm")}
print([name for name in names if "gloo" in name or "store" in name])
"""
    assert [(code, words.strip()) for code, words in workers(root, tmp_path, script)] == [(0, "[]")] * 2


def test_gradients_are_means_and_what_has_none_keeps_none(root: Path, tmp_path: Path) -> None:
    script = """
import torch
from neural_avatar.training import parallel
with parallel.joined("cpu", 4):
    rank = parallel.rank()
    last = torch.zeros(2, 8, 3, 3).to(memory_format=torch.channels_last)
    three = [torch.nn.Parameter(last), torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))]
    three[0].grad = torch.arange(144.0).view(2, 8, 3, 3).to(memory_format=torch.channels_last) * (rank + 1)
    if rank == 1:
        three[1].grad = torch.ones(3)
    parallel.average_gradients(three)
    assert torch.equal(three[0].grad, torch.arange(144.0).view(2, 8, 3, 3) * 1.5)
    assert three[0].grad.stride() == three[0].stride()
    assert three[1].grad.tolist() == [0.5] * 3 and three[2].grad is None
    assert parallel.agree(10.0 + rank, rank == 1) == (10.0, True)
    assert parallel.from_main(lambda: b"x" * 5) == b"x" * 5 and parallel.from_main(lambda: b"") == b""
print("right")
"""
    assert [(code, words.strip()) for code, words in workers(root, tmp_path, script)] == [(0, "right")] * 2


def test_a_number_that_is_none_in_one_process_takes_all_back(root: Path, footage: Path, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import torch
from neural_avatar.training import initialise, parallel
from neural_avatar.training.batches import BatchSource
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.crops import Augmentation
from neural_avatar.training.dataset import read_dataset
from neural_avatar.training import trainer as engine
from neural_avatar.training.losses import FallbackImageLoss
from neural_avatar.training.trainer import Trainer

engine.STEADY = 2
torch.set_num_threads(1)
config = TrainConfig(steps=8, size=64, batch=2, texture_size=16, cameras=("cam00",), image_loss="fallback")
with parallel.joined("cpu", config.batch) as device:
    data = read_dataset(sys.argv[1])
    avatar = initialise.new_avatar(config, [data]).train()
    shots = initialise.frame_views(avatar, [data], [data.training_views(config.cameras)[:4]])
    source = BatchSource(shots, 2, 0, Augmentation(), device, part=(parallel.rank(), parallel.size()))
    own = Path(sys.argv[2]) if parallel.is_main() else Path("another machine's")
    trainer = Trainer(config, avatar, source, FallbackImageLoss(), own, source.fingerprint())
    trainer.step()
    if parallel.is_main():
        trainer.save()
    if not parallel.is_main():
        with torch.no_grad():
            avatar.textures.fill_(float("nan"))
    assert trainer.step() == {}
    assert trainer.state.step == 1 and trainer.state.rollbacks == 1 and trainer.state.rate_scale == 0.5
    assert trainer.step()["loss"] > 0 and trainer.state.rate_scale == 0.5
    assert trainer.step()["loss"] > 0 and trainer.state.rate_scale == 1  # forgiven in all at the same step
    total = float(sum(p.detach().double().abs().sum() for p in avatar.parameters()))
    source.close()
print(repr(total))
"""
    (tmp_path / "run").mkdir()
    (code, total), (other, same) = workers(root, tmp_path, script, footage, tmp_path / "run")
    assert code == other == 0 and total == same and float(total) > 0, (total, same)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_one_that_is_asked_to_stop_stops_all_and_the_run_goes_on_alone(
    root: Path, footage: Path, tmp_path: Path, asked: int
) -> None:
    avatar = tmp_path / "person.avatar"
    options = ("train", footage, "-o", avatar, *SMALL)
    processes = both(root, *[(*options, "--steps", 10**6)] * 2)
    wait_for_steps(processes, avatar, 2)
    processes[asked].send_signal(signal.SIGINT)
    codes = ends(processes)
    assert [code for code, _ in codes] == [130, 130], codes
    assert "resumes it" in codes[0][1] and "resumes it" not in codes[1][1]
    step = checkpoint_of(avatar).state["run"]["step"]
    assert step > 0 and not avatar.exists()
    said = alone(root, *options, "--steps", step + 1)  # another number of processes, the same batch
    assert f"Resuming at step {step}." in said and avatar.is_file()
    assert "Traceback" not in torchrun(root, *options, "--steps", step + 2)
    assert checkpoint_of(avatar).state["run"]["step"] == step + 2


@pytest.mark.slow
def test_what_fails_in_one_process_ends_both_with_its_sentence(root: Path, footage: Path, tmp_path: Path) -> None:
    options = ("-o", tmp_path / "a.avatar", "--steps", 2, *SMALL)
    here, missing = ("train", footage, *options), ("train", tmp_path / "nothing", *options)
    codes = ends(both(root, here, missing))
    assert [code for code, _ in codes] == [1, 1], codes
    assert re.search(r"neural-avatar: .*nothing.*\(In process 2 of 2\.\)", codes[0][1])
    assert "Traceback" not in codes[0][1] + codes[1][1] and "neural-avatar:" not in codes[1][1]  # told once

    codes = ends(both(root, here, (*here, "--lr", "0.003")))
    assert [code for code, _ in codes] == [1, 1] and "other options" in codes[0][1], codes

    said = torchrun(root, *here, "--batch", 3, code=1)
    assert "multiple of 2" in said


@pytest.mark.slow
def test_one_that_dies_ends_the_other_and_the_checkpoint_stays(root: Path, footage: Path, tmp_path: Path) -> None:
    avatar = tmp_path / "person.avatar"
    options = ("train", footage, "-o", avatar, "--steps", 10**6, *SMALL, "--checkpoint-minutes", "0")
    processes = both(root, options, options)
    wait_for_steps(processes, avatar, 2)
    processes[1].kill()
    codes = ends(processes)
    assert codes[0][0] == 1 and "the same command goes on from there" in codes[0][1].replace("\n", " "), codes
    assert "Traceback" not in codes[0][1]
    assert checkpoint_of(avatar).state["run"]["step"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables(0, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BackendError, match="no device 'cuda'"), parallel.joined("cuda", 2):
        pass


def test_what_hinders_gpus_from_exchanging_data_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "NCCL error in: NCCLUtils.cpp:77, unhandled system error\nLast error:\nError: shared memory is too small"
    raised: list[Exception] = [torch.distributed.DistBackendError(said), torch.OutOfMemoryError("CUDA out of memory.")]

    def fails(_: object) -> None:
        raise raised.pop(0)

    monkeypatch.setattr(parallel, "size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", fails)
    with pytest.raises(BackendError, match=r"shared memory is too small.*NCCL_DEBUG"):
        parallel.mean_over_processes(torch.zeros(1))
    with pytest.raises(torch.OutOfMemoryError):  # of this process; no other has ended
        parallel.mean_over_processes(torch.zeros(1))


def test_without_torchrun_there_is_no_group(root: Path, footage: Path, tmp_path: Path) -> None:
    words = [sys.executable, str(root), "train", str(footage), "-o", str(tmp_path / "a.avatar"), "--steps", "1", *SMALL]
    # A port that answers nobody: whoever tried to join would wait there.
    done = subprocess.run(words, env={**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
