# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit codes by which the backend says why it ended, or could not even greet. No imports: any Python 3 can read this
file."""

OLD_PYTHON = 70
MISSING_PACKAGE = 71
BROKEN_STREAM = 72
DEVICE_FAILED = 73
