# SPDX-License-Identifier: GPL-3.0-or-later
"""The same log for TensorBoard, where the user has it (`pip install "PATH-TO-CHECKOUT[logs]"`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Board:
    """Writes curves into FOLDER/tensorboard; does nothing where TensorBoard is not installed.

    step: where the run goes on; what an interrupted run wrote beyond it is not shown.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Points of the curves: losses under loss/, everything else by its name."""
        if self._writer is None:
            return
        for name, value in values.items():
            own = name in ("lr", "preview_psnr", "waiting")
            self._writer.add_scalar(name if own else f"loss/{'total' if name == 'loss' else name}", value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            self._writer.close()
