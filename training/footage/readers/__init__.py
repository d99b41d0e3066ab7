# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that people bring: calibrations, 2D poses and 3D motion in the formats of other programs."""
