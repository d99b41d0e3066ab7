# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of failure torch reports: too little memory, which less work cures, or a device that must be begun anew.

Imports no torch: whoever serves frames starts without it.
"""

from __future__ import annotations

#: What allocators say: CUDA's and Metal's, that of CPUs, that of CPUs on Windows, cuBLAS's and cuDNN's; and cuDNN when
#: no way to compute a convolution fits into the memory that is left.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "_ALLOC_FAILED",
              "Unable to find an engine to execute this computation")  # fmt: skip


def out_of_memory(error: BaseException) -> bool:
    """Did memory not suffice, the device's or the machine's? torch has a type of its own for some cases alone."""
    if isinstance(error, MemoryError) or _is_a(error, "OutOfMemoryError"):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def device_failed(error: BaseException) -> bool:
    """Did the device itself fail (an illegal access, a failed launch, a machine that was asleep)?

    Most such errors stay with the process: whatever it asks of the device next fails too, until it ends.
    """
    return _is_a(error, "AcceleratorError") and not out_of_memory(error)


def _is_a(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)
