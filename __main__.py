# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m neural_avatar …`, and `python <checkout>/__main__.py …` from a checkout of any name."""

from __future__ import annotations

import importlib
import os
import runpy
import sys

if __package__:
    _package = __package__
else:
    _here = os.path.dirname(os.path.abspath(__file__))
    # Python puts the script's folder on its path; there, every room could be imported a second time under another name.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != _here]
    _package = runpy.run_path(os.path.join(_here, "neural_backend", "start.py"))["load_package"]().__name__

if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{_package}.cli").main())
