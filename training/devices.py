# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device likes: numbers of half the size, and channels beside each other in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..neural_backend import faults
from ..neural_backend.interface.messages import BackendError


def bfloat16_pays(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 are faster on this device: on GPUs and CPUs that multiply in it, not where it is
    emulated."""
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):  # it is asked of the current one, which need not be this
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def in_bfloat16(precision: str, device: torch.device, begun: str = "") -> bool:
    """Whether a run's network computes in bfloat16. precision: as TrainConfig's. begun: what 'auto' was for the run so
    far (see precision_name), which it stays unless this device computes slower so."""
    if precision != "auto":
        return precision == "mixed"
    return bfloat16_pays(device) and begun != precision_name(False)


def precision_name(mixed: bool) -> str:
    """What a run's facts say of the numbers that its network computes in."""
    return "bfloat16" if mixed else "float32"


def lay_out(module: nn.Module | None, device: torch.device) -> None:
    """Lay a network's weights out as the device's convolutions want them: channels last for tensor cores. Training on
    CPUs is a tenth slower so."""
    if module is not None and device.type == "cuda":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def as_laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A copy of ``tensor`` on the device of ``like``, and with its layout in memory where their shapes are equal: fused
    optimisers walk through both as if they were one."""
    if tensor.shape != like.shape:
        return tensor.to(like.device)
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


@contextmanager
def enough_memory() -> Iterator[None]:
    """Raises BackendError 'out-of-memory' where memory does not suffice for what is done inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not faults.out_of_memory(error):
            raise
        raise BackendError(
            "out-of-memory",
            "The GPU, or the machine, has too little memory for this run. Close other programs that use it and give "
            "the same command again, which goes on from the newest checkpoint; or start over with a smaller --batch or "
            "--size, and --restart.",
            str(error),
        ) from error
