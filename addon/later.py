# SPDX-License-Identifier: GPL-3.0-or-later
"""numpy, imported when it is first used: what is registered at Blender's start must not wait for it.

Blender 4.2 does not load numpy itself. A module that registers classes says ``from .later import np``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["np"]

if TYPE_CHECKING:
    import numpy as np
else:

    class _Later:
        def __getattr__(self, name: str) -> Any:
            import numpy

            return getattr(numpy, name)

    np = _Later()
