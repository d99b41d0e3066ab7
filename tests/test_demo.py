# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: the walk, the stage's plan, and the whole way through each Blender."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.skeleton import INDEX, JOINTS, bone_lengths

ROOT = Path(__file__).resolve().parent.parent

sys.path.insert(0, str(ROOT))
try:
    from tooling.demo import clear
finally:
    sys.path.remove(str(ROOT))


def _module(name: str) -> ModuleType:
    """A module of the demo, which is a folder of scripts and no package."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", ROOT / "demo" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _rest() -> np.ndarray:
    """A plain person of 1.7 m in a T pose."""
    rest = np.zeros((len(JOINTS), 3))
    rest[INDEX["MidHip"]], rest[INDEX["Neck"]], rest[INDEX["Nose"]] = (0, 0, 0.93), (0, 0, 1.38), (0, -0.15, 1.53)
    for side, x in (("L", 1), ("R", -1)):
        for name, place in {
            "Hip": (0.08, 0, 0.93), "Knee": (0.08, 0, 0.5), "Ankle": (0.08, 0.02, 0.08), "Heel": (0.08, 0.07, 0.06),
            "BigToe": (0.06, -0.16, 0.0), "SmallToe": (0.13, -0.13, 0.005), "Shoulder": (0.16, 0, 1.38),
            "Elbow": (0.43, 0, 1.38), "Wrist": (0.66, 0, 1.38), "Eye": (0.03, -0.12, 1.57), "Ear": (0.08, -0.03, 1.57),
        }.items():  # fmt: skip
            rest[INDEX[side + name]] = (x * place[0], *place[1:])
        hand = [i for i, name in enumerate(JOINTS) if name.startswith(f"{side}Hand_")]
        rest[hand] = rest[INDEX[f"{side}Wrist"]] + np.linspace(0, 0.18, len(hand))[:, None] * (x, 0, 0)
    return rest


@pytest.fixture(scope="module")
def steps() -> np.ndarray:
    """Two seconds of walking along an arc, 120 frames a second."""
    times = np.arange(240) / 120
    joints: np.ndarray = _module("walk").walk(_rest(), INDEX, times, heading=0.4, curvature=0.2)
    return joints


def test_walk_keeps_bone_lengths(steps: np.ndarray) -> None:
    assert np.abs(bone_lengths(steps) - bone_lengths(_rest())).max() < 1e-6


def test_walk_stands_on_the_floor_and_feet_do_not_slide(steps: np.ndarray) -> None:
    feet = [INDEX[s + n] for s in "LR" for n in ("Heel", "BigToe", "SmallToe")]
    assert steps[:, feet, 2].min() > -0.01
    assert (steps[:, feet, 2].min(1) < 0.03).all()  # never in the air
    # Somebody who walks always has something on the ground that stays where it is: heel or ball, left or right.
    toes = [(steps[:, INDEX[s + "BigToe"]] + steps[:, INDEX[s + "SmallToe"]]) / 2 for s in "LR"]
    heels = [steps[:, INDEX[s + "Heel"]] for s in "LR"]
    speed = np.stack([np.linalg.norm(np.diff(p[:, :2], axis=0), axis=1) * 120 for p in (*toes, *heels)])
    assert speed.min(0).max() < 0.12


def test_walk_goes_where_it_is_told_and_bends_knees_forward(steps: np.ndarray) -> None:
    travelled = steps[-1, INDEX["MidHip"]] - steps[0, INDEX["MidHip"]]
    assert 1.5 < np.linalg.norm(travelled[:2]) < 3.5
    across = steps[:, INDEX["LHip"]] - steps[:, INDEX["RHip"]]
    front = np.stack([across[:, 1], -across[:, 0]], -1)
    assert (
        (front / np.linalg.norm(front, axis=1)[:, None]) @ (travelled[:2] / np.linalg.norm(travelled[:2])) > 0.85
    ).all()
    for side in "LR":
        hip, knee, ankle = (steps[:, INDEX[side + n]] for n in ("Hip", "Knee", "Ankle"))
        forward = ((knee - (hip + ankle) / 2)[:, :2] * front).sum(1)
        assert (forward > 0).all()
        thigh, shin = hip - knee, ankle - knee
        cosine = (thigh * shin).sum(1) / np.linalg.norm(thigh, axis=1) / np.linalg.norm(shin, axis=1)
        bend = np.degrees(np.arccos(cosine))
        assert bend.max() > 165  # the standing leg is nearly straight
        assert bend.min() < 130  # the swinging one is not


def test_walk_is_smooth(steps: np.ndarray) -> None:
    speed = np.linalg.norm(np.diff(steps, axis=0), axis=-1) * 120
    assert speed.max() < 6  # metres a second: no joint jumps


def test_stage_brings_any_clip_to_the_middle_facing_the_camera(steps: np.ndarray) -> None:
    layout = _module("layout")
    mid, left, right = (steps[:, INDEX[n]] for n in ("MidHip", "LHip", "RHip"))
    angle, move = layout.stand_on_floor(mid, left, right, 0.0)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    placed = mid @ turn.T + move
    assert np.allclose((placed[:, :2].min(0) + placed[:, :2].max(0)) / 2, 0, atol=1e-9)
    plan = layout.plan(placed, 1.7, 24)
    for prop in plan.props:
        assert np.linalg.norm(placed[:, :2] - prop.place[:2], axis=1).min() > 0.5  # nobody walks into it
    assert (plan.camera[:, 1] < placed[:, 1] - 1).all()


@pytest.mark.parametrize("way", [0.0, 0.4, 3.0])
def test_column_hides_nobody_for_long_who_moves_little(way: float) -> None:
    placed = np.stack([np.linspace(-way / 2, way / 2, 48), np.zeros(48), np.ones(48)], -1)
    plan = _module("layout").plan(placed, 1.7, 24)
    (column,) = (prop.place[:2] for prop in plan.props if prop.kind == "column")
    eye = plan.camera[:, :2]
    to_person, to_column = placed[:, :2] - eye, column - eye
    angle = np.arctan2(*to_person.T) - np.arctan2(*to_column.T)
    hidden = np.abs(np.tan(angle)) * np.linalg.norm(to_person, axis=1) < 0.2  # metres beside the hips
    assert hidden.mean() < 0.4, hidden
    assert hidden.any() == (way > 1)
    assert np.linalg.norm(placed[:, :2] - column, axis=1).min() > 0.5


def _demo(out: Path, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "dev.py"), "demo", "--size", "96", "-o", str(out), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def _check(out: Path, frames: int) -> None:
    """Pictures, passes, film and sheet are there; the person is in front of the set, and partly behind something."""
    import av
    import OpenEXR
    from PIL import Image

    pictures, passes = sorted((out / "frames").glob("*.png")), sorted((out / "passes").glob("*.exr"))
    assert len(pictures) == len(passes) == frames
    with av.open(str(out / "demo.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == frames
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 1000
    hidden = seen = 0
    for picture, exr in zip(pictures, passes, strict=True):
        channels: dict[str, np.ndarray] = {}
        with OpenEXR.File(str(exr), separate_channels=True) as file:
            for part in file.parts:
                for name, channel in part.channels.items():
                    key = name if "." in name else f"{part.name()}.{name}"
                    channels[key] = np.asarray(channel.pixels, np.float32)
        layers = {key.split(".")[0] for key in channels}
        assert {"Combined", "Depth", "Mask", "Part", "UV", "Composite"} <= layers, layers
        rgba = [
            next(v for k, v in channels.items() if k.startswith("Combined.") and k.endswith("." + c)) for c in "RGBA"
        ]
        person = np.stack(rgba, -1)
        with Image.open(picture) as image:
            shown = np.asarray(image.convert("RGB"), np.float32) / 255
        solid = person[..., 3] > 0.995
        assert solid.sum() > 100, "nobody in the picture"
        linear = person[..., :3][solid].clip(0, 1)
        wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        same = np.abs(shown[solid] - wanted).max(-1) < 2 / 255
        seen, hidden = seen + int(same.sum()), hidden + int((~same).sum())
    assert seen > 0.3 * (seen + hidden), "the avatar does not show in the composite"
    assert hidden > 0.005 * (seen + hidden), "nothing in the set hides the avatar"


def test_a_new_run_removes_an_old_one_and_nothing_of_the_user_s(tmp_path: Path) -> None:
    made = ["frames/frame_0001.png", "passes/avatar_0001.exr", "demo.mp4", "contact_sheet.png", "blender.log"]
    kept = ["frames/holiday.png", "frames/raw/frame_0001.png", "passes/beauty.exr", "passes/avatar_final.exr", "a.mp4"]
    for name in (*made, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear(tmp_path)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)


@pytest.mark.slow
def test_demo_walk(bpy_python: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    version = request.node.callspec.params["bpy_python"]
    said = _demo(tmp_path, "--frames", "6", "--blender", version)
    assert "demo.mp4" in said and "render the frames" in said
    _check(tmp_path, 6)


@pytest.mark.slow
@pytest.mark.parametrize("clip", ["002_03", "005_06"])
def test_demo_bvh(any_bpy_python: Path, shared: Path, tmp_path: Path, clip: str) -> None:
    """Real motion capture on another program's rig, in centimetres, drives the avatar."""
    _demo(tmp_path, "--frames", "24", "--bvh", str(shared / "motion" / f"{clip}.bvh"))
    _check(tmp_path, 24)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bvh", "missing.bvh"], "no file"),
        (["--blender", "3.6"], "no Blender 3.6"),
        (["--frames", "0"], "at least 1"),
    ],
)
def test_demo_says_what_cannot_work(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    command = [sys.executable, str(ROOT / "dev.py"), "demo", "-o", str(tmp_path), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 2 and sentence in answer.stderr
    assert "Traceback" not in answer.stderr
