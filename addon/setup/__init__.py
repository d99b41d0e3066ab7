# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer's own Python environment: made, tested, repaired and removed from the preferences.

Knows no Blender, save for :mod:`.operators` and :mod:`.panel`: all else runs, and is tested, in any Python.
"""
