# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender: what enabling the add-on loads."""

import sys
import threading

import bpy
import harness

before = set(sys.modules)
harness.enable()
loaded = sorted(name for name in set(sys.modules) - before if not name.startswith("numpy."))
timers = threading.active_count()
harness.tell(loaded=loaded, threads=timers, version=bpy.app.version_string)
