# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender's process and the backend process share. Imports the standard library and numpy alone."""
