# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing small files whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 under a temporary name and rename it. Raises OSError, an older file of that name intact. Of
    several writers at once one has the last word."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(text.encode("utf-8"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
