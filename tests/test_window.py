# SPDX-License-Identifier: GPL-3.0-or-later
"""The viewport preview in a real Blender window, by the pictures on the screen. `.ci/blender_window.sh` provides the
window."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import AvatarInstance, RenderRequest
from neural_avatar.neural_backend.renderer import Renderer

ROOT = Path(__file__).resolve().parent.parent
AVATAR = ROOT / "assets" / "demo.avatar"

pytestmark = pytest.mark.slow


def run(script: str, out: Path) -> dict[str, Any]:
    """Run a script in a window, with the checkout as an extension of a configuration of its own; returns what it
    told."""
    extensions = out / "resources" / "extensions" / "user_default"
    extensions.mkdir(parents=True)
    (extensions / "neural_avatar").symlink_to(ROOT)
    base = Path(sys.executable).resolve().parent.parent
    # Frames of other runs at the same time are none of this one's business.
    (out / "frames").mkdir()
    environment = {
        **os.environ, "NEURAL_AVATAR_PYTHON": sys.executable, "NEURAL_AVATAR_DEVICE": "cpu",
        "BLENDER_USER_RESOURCES": str(out / "resources"), "WINDOW_TIMEOUT": "420",
        "NEURAL_AVATAR_FRAMES": str(out / "frames"),
    }  # fmt: skip
    done = subprocess.run(
        [ROOT / ".ci" / "blender_window.sh", ROOT / "tests" / "window" / script, out, ROOT, sys.prefix, base],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode == 77:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    facts: dict[str, Any] = {}
    if (out / "facts.jsonl").exists():
        for line in (out / "facts.jsonl").read_text().splitlines():
            facts.update(json.loads(line))
    assert "error" not in facts, facts["error"]
    assert done.returncode == 0 and facts.get("finished"), f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return facts


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Pictures of views, and what was wished for in them."""
    out = tmp_path_factory.mktemp("shows")
    return out, run("shows.py", out)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer("cpu")


def on_screen(out: Path, name: str, note: str) -> np.ndarray:
    """The 3D view's part (height, width, 3) of a picture of the window, 0 to 1, top row first."""
    x, y, width, height = np.load(out / f"{note}.npz")["place"]
    return np.asarray(Image.open(out / f"{name}.png").convert("RGB"), np.float32)[y : y + height, x : x + width] / 255


def expected(out: Path, note: str, renderer: Renderer) -> tuple[np.ndarray, np.ndarray]:
    """The backend's own frame of a noted view: display colour (height, width, 3) where alpha is 1, and alpha."""
    n = np.load(out / f"{note}.npz")
    assert n["level"] == 1
    camera = Camera(n["K"], n["R"], n["t"], *map(int, n["size"]), bool(n["orthographic"]), float(n["near"]))
    person = AvatarInstance(str(AVATAR), "someone", n["joints"], n["confidence"])
    color = renderer.render(RenderRequest(camera, (person,), ("color",))).planes["color"][::-1]
    linear = color[..., :3].clip(0, 1)
    display = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    return display, color[..., 3]


@pytest.mark.parametrize("name", ["rendered", "overlay", "orthographic"])
def test_view_shows_the_backends_own_frame(shown: tuple[Path, dict[str, Any]], renderer: Renderer, name: str) -> None:
    out, _ = shown
    screen, (color, alpha) = on_screen(out, name, name), expected(out, name, renderer)
    # What lies outside the camera's frame is under the passepartout.
    inside = np.zeros_like(alpha, bool)
    height, width = alpha.shape
    inside[int(height * 0.3) : int(height * 0.68), int(width * 0.27) : int(width * 0.73)] = True
    solid = (alpha > 0.99) & inside
    assert solid.sum() > 2000
    off = np.abs(screen - color)[solid]
    assert off.mean() < 2 / 255 and np.quantile(off, 0.99) < 8 / 255, (off.mean(), np.quantile(off, 0.99))
    # Outside the figure there is one background.
    empty = (alpha == 0) & inside
    assert np.abs(screen[empty] - np.median(screen[empty], 0)).max() < 4 / 255


def test_rendered_view_keeps_the_avatars_look_under_agx(shown: tuple[Path, dict[str, Any]], renderer: Renderer) -> None:
    out, _ = shown
    screen, (color, alpha) = on_screen(out, "kept", "kept"), expected(out, "kept", renderer)
    height = len(alpha)
    solid = alpha > 0.99
    solid[: int(height * 0.3)] = solid[int(height * 0.68) :] = False
    off = np.abs(screen - color)[solid]
    # What the table leaves over (docs/compositing.md), and the screen's eight bits; without it AgX is off by far more.
    assert solid.sum() > 2000 and np.median(off) < 3 / 255 and off.mean() < 8 / 255, (np.median(off), off.mean())


def test_scene_hides_the_avatar_and_is_hidden_by_it(shown: tuple[Path, dict[str, Any]], renderer: Renderer) -> None:
    out, facts = shown
    screen, alone = on_screen(out, "set", "set"), on_screen(out, "set_alone", "set")
    color, alpha = expected(out, "set", renderer)
    height = alpha.shape[0]
    x0, y0, x1, y1 = facts["front"]
    left, right, top, bottom = int(x0) + 3, int(x1) - 2, int(height - y1) + 3, int(height - y0) - 2
    before = np.zeros_like(alpha, bool)
    before[top:bottom, left:right] = True
    assert (alpha[before] > 0.99).mean() > 0.5, "the cube was to stand before the body"
    # Before the avatar: the cube, as if nobody were there.
    solid_before = before & (alpha > 0.99)
    # The cube's two faces seen at an angle leave a corner of its bounding box free.
    assert (np.abs(screen - alone)[solid_before].max(-1) < 2 / 255).mean() > 0.95
    # Elsewhere the avatar, also where the large cube stands behind.
    near = np.zeros_like(alpha, bool)
    near[top - 8 : bottom + 8, left - 8 : right + 8] = True
    behind = (alpha > 0.99) & ~near
    behind[int(height * 0.7) :] = False
    assert (np.abs(screen - color)[behind].max(-1) < 8 / 255).mean() > 0.97
    large = behind & (np.abs(alone - alone[2, 2]).max(-1) > 0.2)
    assert large.sum() > 1000, "the large cube was to stand behind the body"


def test_overlay_in_another_engines_rendered_view(tmp_path: Path, renderer: Renderer) -> None:
    facts = run("eevee.py", tmp_path)
    screen, alone = on_screen(tmp_path, "eevee", "eevee"), on_screen(tmp_path, "eevee_alone", "eevee")
    color, alpha = expected(tmp_path, "eevee", renderer)
    height = len(alpha)
    x0, y0, x1, y1 = facts["front"]
    inner = slice(int(height - y1) + 8, int(height - y0) - 8), slice(int(x0) + 8, int(x1) - 8)
    hidden = np.zeros_like(alpha, bool)
    hidden[inner] = alpha[inner] > 0.99
    assert hidden.sum() > 300 and (np.abs(screen - alone)[hidden].max(-1) < 4 / 255).mean() > 0.95
    outer = np.ones_like(alpha, bool)
    outer[int(height - y1) - 8 : int(height - y0) + 8, int(x0) - 8 : int(x1) + 8] = False
    shown = (alpha > 0.99) & outer
    shown[int(height * 0.7) :] = False
    assert shown.sum() > 1000 and (np.abs(screen - color)[shown].max(-1) < 8 / 255).mean() > 0.97


def test_playback_survives_everything(tmp_path: Path) -> None:
    facts = run("playback.py", tmp_path)
    assert facts["first"] > 5 and facts["again"] == 0, "a second playback asks for nothing"
    assert facts["growth"] < 5 << 20
    assert facts["kept_playing"] and facts["pictures_while_asleep"] == 0
    assert facts["another"] and "stopped unexpectedly" in facts["sentences"][0]
    assert facts["kept_after_load"] == facts["views_after_load"] == 0
    # It quit in the middle of a request: nothing may be left.
    assert not Path(f"/proc/{facts['pid']}").exists()
    assert facts["folders"] and not [folder for folder in facts["folders"] if Path(folder).exists()]


def test_playblast_shows_the_avatar_of_each_frame(tmp_path: Path) -> None:
    facts = run("playblast.py", tmp_path)
    assert facts["blender_"] == facts["avatar_"] == ["FINISHED"]
    pictures = {
        name: [np.asarray(Image.open(tmp_path / f"{name}_{n:04d}.png").convert("RGB"), int) for n in (1, 2, 3)]
        for name in ("blender", "avatar")
    }
    for without, having in zip(pictures["blender"], pictures["avatar"], strict=True):
        assert without.shape == having.shape == (270, 480, 3)
        added = (np.abs(without - having) > 8).any(-1)
        # A person, but neither the cube that stands before, nor the background.
        assert 5000 < added.sum() < 30000
        assert np.abs(without - having)[~added].max() <= 8
        cube = (without > 150).all(-1)
        assert cube.sum() > 2000 and added[cube].mean() < 0.02
    # The body walks from left to right and back.
    middle = [np.flatnonzero((np.abs(a - b) > 8).any((0, 2))).mean() for a, b in zip(*pictures.values(), strict=True)]
    assert len({round(m) for m in middle}) > 1
    first, second, _ = pictures["avatar"]
    assert (np.abs(first - second) > 8).any(-1).sum() > 3000
    local = np.asarray(Image.open(tmp_path / "local_0002.png").convert("RGB"), int)
    # The lines around the cube, which is selected there, are all that may differ.
    assert (np.abs(local - pictures["blender"][1]) > 8).any(-1).sum() < 2000, "nobody but the cube is in local view"
    assert facts["kept"] == "mine" and facts["written"] == ["kept_0002.png", "kept_0003.png"]
    assert "cannot be written" in facts["refusal"] and "Traceback" not in facts["refusal"]
    assert facts["frame"] == 1 and facts["images"] == []
    assert facts["closed"] == [7, 1] and 0 < facts["part"] < 100


def test_a_film_is_rendered_while_the_window_draws(tmp_path: Path) -> None:
    facts = run("job.py", tmp_path)
    assert facts["errors"] == [] and facts["ended"] == ["complete"]
    # The render has a thread of its own; what adds or removes data is done by the first one.
    assert facts["threads"] == {"handler": [False], "table": [True], "link": [True]}
    shot = {name: np.asarray(Image.open(tmp_path / f"{name}.png"), float) for name in _film("job") + _film("first")}
    for job, first in zip(_film("job"), _film("first"), strict=True):
        assert np.abs(shot[job] - shot[first]).max() <= 1, job
    for one, next_one in zip(_film("job"), _film("job")[1:], strict=False):
        assert np.abs(shot[one] - shot[next_one]).max() > 20


def _film(name: str) -> list[str]:
    return [f"{name}_{frame:04d}" for frame in (1, 2, 3)]


def test_what_fails_in_a_set_pops_up(tmp_path: Path) -> None:
    facts = run("troubles.py", tmp_path)
    assert facts["written"] == ["film_0001.png", "film_0004.png"]
    sentences, in_first_thread = facts["shown"][-1]
    assert len(sentences) == 1 and sentences[0].startswith("Frames 2–3: Armature '") and in_first_thread
    # At the first failure, and at the end: not once for each frame.
    assert len(facts["shown"]) <= 2
