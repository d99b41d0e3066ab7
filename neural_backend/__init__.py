# SPDX-License-Identifier: GPL-3.0-or-later
"""The renderer: bone rasterization, proxy surface, networks, textures, and the server process around them.

Importing this package imports no torch, so that Blender's process can reach :mod:`.interface` through it.
"""
