# SPDX-License-Identifier: GPL-3.0-or-later
"""From footage of a person to an avatar file: dataset, initialisation, training, evaluation and the command line."""
