# SPDX-License-Identifier: GPL-3.0-or-later
"""`python3 -m tooling.screenshots [FOLDER]`: take the pictures of docs/images that show a Blender window once more.

They are panel.png, viewport_overlay.png, viewport_panels.png and viewport_rendered.png, by
`tests/window/screenshots.py`; the folder is docs/images unless another one is named. `.ci/blender_window.sh` provides
the window, and says what it needs. Look at each picture before it is committed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .environments import ROOT, environment

SIZES = ("1280x720", "1280x900")


def take(size: str, out: Path, folder: Path) -> None:
    """The pictures of a window of one size, with the checkout as an extension of a configuration of its own."""
    python = environment("backend")
    base = python.resolve().parent.parent
    extensions = out / "resources" / "extensions" / "user_default"
    extensions.mkdir(parents=True)
    (extensions / "neural_avatar").symlink_to(ROOT)
    (out / "frames").mkdir()
    variables = {
        **os.environ, "SIZE": size, "WINDOW_TIMEOUT": "600", "NEURAL_AVATAR_PYTHON": str(python),
        "BLENDER_USER_RESOURCES": str(out / "resources"), "NEURAL_AVATAR_FRAMES": str(out / "frames"),
    }  # fmt: skip
    script = ROOT / "tests" / "window" / "screenshots.py"
    command = [ROOT / ".ci" / "blender_window.sh", script, out, ROOT, python.parent.parent, base]
    done = subprocess.run(command, env=variables, stdout=subprocess.DEVNULL)
    told, facts = out / "facts.jsonl", {}
    for line in told.read_text("utf-8").splitlines() if told.exists() else ():
        facts.update(json.loads(line))
    if done.returncode or not facts.get("finished"):
        sys.exit(facts.get("error", f"Blender's window ended with code {done.returncode}."))
    for picture in sorted(out.glob("*.png")):
        shutil.copyfile(picture, folder / picture.name)
        print(folder / picture.name)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="neural-avatar-screenshots-") as out:
            take(size, Path(out), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
