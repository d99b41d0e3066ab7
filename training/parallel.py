# SPDX-License-Identifier: GPL-3.0-or-later
"""One run on several devices and machines: data parallelism among the processes that ``torchrun`` starts.

Every process holds the whole avatar, computes its part of each global batch, and averages gradients with the others, so
that all take the same step. The first process alone speaks and writes; its clock is everyone's. Without torchrun's
environment variables nothing here touches the network, and every function does what one process alone needs.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch import distributed as dist

from ..neural_backend import faults
from ..neural_backend.interface.messages import BackendError
from ..neural_backend.renderer import choose_device

#: What torchrun tells each process it starts.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: How long a process waits for the others: one that reads its footage over a slow network may come late.
_PATIENCE = timedelta(minutes=30)


def launched() -> bool:
    """Whether torchrun started this process."""
    return all(name in os.environ for name in _VARIABLES)


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that speaks and writes."""
    return rank() == 0


@contextmanager
def joined(wish: str, batch: int) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did, for as long as the block lasts; yields the device to use.

    wish: as choose_device. batch: pictures in a step, of all processes together. Raises BackendError
    'device-missing', 'parallel-options', 'parallel-join'.
    """
    if not launched():
        yield choose_device(wish)
        return
    device, count = _own_device(wish), int(os.environ["WORLD_SIZE"])
    if batch % count:
        raise BackendError(
            "parallel-options",
            f"--batch {batch} cannot be shared out evenly among {count} processes; make it a multiple of {count}.",
        )
    # Its functions keep, as a default, the process group that there is when they are first imported, which optimisers
    # do; and threads of a group that outlives the interpreter can end the process with an abort.
    importlib.import_module("torch.distributed.nn.functional")
    # NCCL carries what lies on GPUs; gloo everything else, and all of it where there is no NCCL (Windows).
    with_nccl = device.type == "cuda" and dist.is_nccl_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if with_nccl else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise BackendError(
            "parallel-join",
            f"The {count} processes of this run did not find each other at {place}; see that every machine can reach "
            "that address, and that the number of machines given to torchrun is right.",
            str(error),
        ) from error
    try:
        yield device
    except BaseException:
        if not with_nccl:  # NCCL would wait for processes that may be gone; the end of this one frees everything
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _own_device(wish: str) -> torch.device:
    """This process's device: each process of a machine has a GPU of its own."""
    local, beside = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if wish == "mps" or (wish.startswith("cuda:") and beside > 1):
        raise BackendError(
            "parallel-options",
            f"--device {wish} is one device, and {beside} processes were started here; leave --device at auto, or give "
            "cpu or cuda.",
        )
    if wish not in ("auto", "cuda") or not torch.cuda.is_available():
        return choose_device("cpu" if wish == "auto" else wish)
    found = torch.cuda.device_count()
    if local >= found:
        raise BackendError(
            "device-missing",
            f"{beside} processes were started on a machine with {found} CUDA devices; give torchrun --nproc-per-node "
            f"{found}, or train with --device cpu.",
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


# -- in every step -----------------------------------------------------------------------------------------------------


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, before it is clipped.

    A parameter that got no gradient in any process keeps none; where some got one, it counts as zero in the others.
    Every process must give the same parameters in the same order.
    """
    learned = [p for p in parameters if p.requires_grad]
    if size() == 1 or not learned:
        return
    present = torch.tensor([float(p.grad is not None) for p in learned]).to(learned[0].device)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    flat = torch.cat([present, *(part.reshape(-1) for part in parts)])
    mean_over_processes(flat)
    counts, *pieces = torch.split_with_sizes(flat, [len(learned), *(p.numel() for p in learned)])
    for parameter, part, piece, some in zip(learned, parts, pieces, counts.tolist(), strict=True):
        if some:
            # Into what is there: a fused optimiser takes it that gradients lie in memory as their parameters do.
            parameter.grad = part.copy_(piece.view(parameter.shape))


def mean_over_processes(values: Tensor) -> Tensor:
    """Replace values by their mean over all processes; returns them."""
    if size() > 1:
        with _others():
            dist.all_reduce(values)
        values /= size()
    return values


def agree(elapsed: float, asked: bool) -> tuple[float, bool]:
    """What all processes go by: the seconds on the first one's clock, and whether any of them was asked to stop."""
    if size() == 1:
        return elapsed, asked
    words = torch.tensor([elapsed if is_main() else 0.0, float(asked)], dtype=torch.float64)
    with _others():
        dist.all_reduce(words)
    return float(words[0]), bool(words[1])


# -- at the start and the end ------------------------------------------------------------------------------------------


def make_same(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's tensors: what each has computed may differ in the last bit between
    machines."""
    if size() > 1:
        with _others(), torch.no_grad():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)


def require_alike(facts: Mapping[str, str]) -> None:
    """Raise BackendError 'parallel-differs' in all processes where one has other facts (by name) than the first."""
    if size() == 1:
        return
    everyone: list[dict[str, str]] = [json.loads(words) for words in _gather(json.dumps(dict(facts)).encode())]
    for number, own in enumerate(everyone):
        differing = [name for name in facts if own.get(name) != everyone[0].get(name)]
        if differing:
            _raise_in_all(BackendError(
                "parallel-differs",
                f"Process {number + 1} of {size()} was started with other {' and '.join(differing)} than the first; "
                "every machine must get the same command and the same data.",
            ))  # fmt: skip


@contextmanager
def agreed() -> Iterator[None]:
    """A stage without any exchange in it that may fail in one process: then it fails in all, with the same sentence.

    Raises BackendError 'parallel-peer' here for an unforeseen fault elsewhere.
    """
    failure: BaseException | None = None
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if size() == 1:
            raise
        failure = error
    if size() == 1:
        return
    try:
        everyone = _gather(json.dumps(_words(failure)).encode())
    except BackendError as lost:
        raise failure or lost from None
    told: list[dict[str, str]] = [json.loads(words) for words in everyone]
    number = next((i for i, words in enumerate(told) if words), None)
    if number is None:
        return
    words = told[number]
    if words["code"] == "interrupted":
        raise KeyboardInterrupt
    if failure is not None and not isinstance(failure, BackendError):
        raise failure
    where = "" if len(set(everyone)) == 1 else f" (In process {number + 1} of {size()}.)"
    _raise_in_all(BackendError(words["code"], words["message"] + where))


def from_main(make: Callable[[], bytes]) -> bytes:
    """What ``make`` returns in the first process, in all; where it fails there, it fails in all."""
    if size() == 1:
        return make()
    data = b""
    with agreed():
        if is_main():
            data = make()
    with _others():
        length = torch.tensor([len(data)])
        dist.broadcast(length, 0)
        if not int(length):
            return b""
        sent = _bytes(data) if is_main() else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(sent, 0)
    return sent.numpy().tobytes()


def _words(failure: BaseException | None) -> dict[str, str]:
    if failure is None:
        return {}
    if isinstance(failure, KeyboardInterrupt):
        return {"code": "interrupted"}
    if isinstance(failure, BackendError):
        return {"code": failure.code, "message": failure.message}
    return {"code": "parallel-peer", "message": f"{type(failure).__name__}: {failure}"}


def _raise_in_all(error: BackendError) -> NoReturn:
    """Of the processes that share a terminal, one tells."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        raise SystemExit(1)
    raise error


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _gather(data: bytes) -> list[bytes]:
    """The data of every process, in their order."""
    with _others():
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
        dist.all_gather(lengths, torch.tensor([len(data)]))
        longest = max(1, *(int(n) for n in lengths))
        padded = [torch.zeros(longest, dtype=torch.uint8) for _ in lengths]
        dist.all_gather(padded, _bytes(data.ljust(longest, b"\0")))
    return [p.numpy().tobytes()[: int(n)] for p, n in zip(padded, lengths, strict=True)]


@contextmanager
def _others() -> Iterator[None]:
    """An exchange with the others, which may be gone."""
    try:
        yield
    except RuntimeError as error:
        if faults.out_of_memory(error) or faults.device_failed(error):
            raise
        if isinstance(error, dist.DistBackendError):  # NCCL's, which also begins at the first exchange
            raise BackendError(
                "parallel-exchange",
                "The GPUs of this run cannot exchange data, or another process has ended "
                f"({str(error).strip().splitlines()[-1]}). With NCCL_DEBUG=INFO set it tells more. The newest "
                "checkpoint, where there is one, is kept: the same command goes on from there.",
                str(error),
            ) from error
        raise BackendError(
            "parallel-lost",
            "Another process of this run has ended, so this one ends too. The newest checkpoint is kept: the same "
            "command goes on from there.",
            str(error),
        ) from error
