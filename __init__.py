# SPDX-License-Identifier: GPL-3.0-or-later
"""Neural Avatar: the root package, and the entry point that Blender calls.

The folder of this file is at once the Python package ``neural_avatar`` and the Blender extension. Blender's modules are
imported inside :func:`register` only, so that the backend and the training package can import this package without
Blender.
"""

__version__ = "0.2.0"


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import addon

    addon.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled, and at exit."""
    from . import addon

    addon.unregister()
