# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of readers of other programs' files share: writing such files, and the sentence that refuses one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neural_avatar.neural_backend.interface.messages import BackendError


def refusal(make: Callable[[], Any], *words: str, code: str = "") -> str:
    """The sentence of the BackendError that ``make()`` raises; it holds all the words."""
    with pytest.raises(BackendError) as caught:
        make()
    for word in words:
        assert word in caught.value.message, caught.value.message
    assert not code or caught.value.code == code
    assert "\n" not in caught.value.message and caught.value.message.endswith(".")
    return caught.value.message


def write_json(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def flat(points: list[list[float]]) -> list[float]:
    return [value for point in points for value in point]
