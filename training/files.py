# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing small files whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ..neural_backend.interface.files import whole


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, line ends as they are. Raises OSError, an older file of that name intact. Of several writers at once
    one has the last word."""
    with whole(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
