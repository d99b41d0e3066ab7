# SPDX-License-Identifier: GPL-3.0-or-later
"""From video files to a dataset: decode, pose, masks, 3D, dataset, report."""
