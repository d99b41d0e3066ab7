# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages for people, each one file: of an evaluation (`neural-avatar evaluate --report`)."""
