# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools of the developers: environments, linters, the zip of the extension. Standard library only."""
