# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on inside real Blenders, each script a process of its own whose exit must be clean."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.avatar_file import make_header, save_avatar
from neural_avatar.neural_backend.interface.body import FRAME_INDEX, body_frames
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import AvatarInstance, RenderRequest
from neural_avatar.neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from neural_avatar.neural_backend.renderer import Renderer
from support.blender_scripts import read_passes, run
from support.people import make_avatar, rest_skeleton


def expected_planes(renderer: Renderer, avatar: Path, note: Path) -> dict[str, np.ndarray]:
    """What the backend itself gives for the joints and the camera that a script has noted, top row first."""
    n = np.load(note)
    view = Camera(
        n["K"], n["R"], n["t"], *map(int, n["size"]), orthographic=bool(n["orthographic"]), near=float(n["near"])
    )
    people = tuple(
        AvatarInstance(str(avatar), "someone", j, c) for j, c in zip(n["joints"], n["confidence"], strict=True)
    )
    return {k: v[::-1] for k, v in renderer.render(RenderRequest(view, people)).planes.items()}


def assert_same(passes: dict[str, np.ndarray], planes: dict[str, np.ndarray], name: str) -> None:
    """Equal to what float16 holds; labels may differ where two parts are level."""
    assert np.abs(passes["Combined"] - planes["color"]).max() < 2e-3, name
    assert np.abs(passes["Mask"] - planes["mask"]).max() < 2e-3
    same_side = (passes["Depth"] > 1e9) == (planes["depth"] > 1e9)
    assert same_side.mean() > 0.9995
    assert (passes["Depth"][planes["depth"] > 1e9].max(initial=1e10)) == np.float32(1e10)
    near = same_side & (planes["depth"] < 1e9)
    assert near.sum() > 100
    assert np.abs(passes["Depth"] - planes["depth"])[near].max() < 0.02
    labels = passes["Part"] == planes["part"]
    assert labels.mean() > 0.999
    assert np.abs(passes["UV"] - planes["uv"])[labels[..., 0]].max() < 5e-3


def test_camera_conversion_is_blenders_own(bpy_python: Path, tmp_path: Path) -> None:
    told = run(bpy_python, "camera_views.py", resources=tmp_path)
    assert told["worst"] < 1e-3
    assert told["worst_region"] < 1e-3
    assert told["errors"] == {"panoramic": "camera-type", "nowhere": "camera-broken"}


def test_joints_of_rigs(bpy_python: Path, tmp_path: Path, avatar: Path, shared: Path) -> None:
    motions = [shared / "motion" / name for name in ("002_03.bvh", "005_06.bvh")]
    faced = make_avatar(tmp_path / "faced.avatar", with_face=True)
    told = run(bpy_python, "rigs.py", avatar, faced, tmp_path / "joints.npz", *motions, resources=tmp_path)
    rest, confidence = rest_skeleton()
    found = np.load(tmp_path / "joints.npz")
    known = confidence > 0
    assert np.array_equal(found["own_confidence"] > 0, known)
    assert np.abs(found["own_rest"] - rest)[known].max() < 1e-4
    turned = (rest * 0.01) @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + (1, 2, 3)
    assert np.abs(found["own_moved"] - turned)[known].max() < 1e-4
    # A mirrored person has a left and a right all the same, and the face in front: both sides of this one are alike but
    # for the hands.
    sides = list(range(JOINT_COUNT))
    sides[LEFT_HAND:RIGHT_HAND], sides[RIGHT_HAND:FACE] = sides[RIGHT_HAND:FACE], sides[LEFT_HAND:RIGHT_HAND]
    body_and_face = np.r_[:LEFT_HAND, FACE:JOINT_COUNT]
    assert found["plain_confidence"][FACE:].min() > 0 and (found["plain_confidence"] == 0).any()
    for name in ("mirrored", "instance"):
        assert np.abs(found[name] - found["plain"])[body_and_face].max() < 1e-4, name
        assert np.array_equal(found[f"{name}_confidence"], found["plain_confidence"][sides]), name
        hands = slice(LEFT_HAND, FACE)
        assert np.abs(found[name] - (found["plain"] * (-1, 1, 1))[sides])[hands].max() < 1e-4, name
        frames = body_frames(found[name][None], found[f"{name}_confidence"][None])
        assert frames.axes[0, FRAME_INDEX["torso"], 1] @ (0, -1, 0) > 0.99, name
    assert np.abs(found["twice"] - found["plain"]).max() < 1e-4
    assert np.array_equal(found["twice_confidence"], found["plain_confidence"])
    for name, code in (("unmapped", "joints-unmapped"), ("empty", "joints-unmapped"), ("nan", "joints-broken")):
        assert told["errors"][name][0] == code
        assert "Someone else" in told["errors"][name][1] and "left knee" in told["errors"][name][1]
    assert told["presets"] == ["Character Creator"] * 2
    runner = found["motion_0"]
    at = {name: runner[:, INDEX[name]] for name in INDEX}
    # A runner looks and points the toes where he goes, whatever the file's rest pose.
    heading = at["MidHip"][-1] - at["MidHip"][0]
    heading /= np.linalg.norm(heading)
    look = (at["LEye"] + at["REye"] - at["LEar"] - at["REar"]) / 2
    assert (look @ heading > 0.8 * np.linalg.norm(look, axis=1)).all()
    assert ((at["Nose"] - at["Neck"])[:, 2] > 0.1).all()
    for side in "LR":
        foot = at[f"{side}BigToe"] - at[f"{side}Heel"]
        shin = at[f"{side}Ankle"] - at[f"{side}Knee"]
        angle = (foot * shin).sum(1) / np.linalg.norm(foot, axis=1) / np.linalg.norm(shin, axis=1)
        assert (np.abs(angle) < 0.85).all()
        level = foot[at[f"{side}Ankle"][:, 2].argmin()]
        assert level @ heading > 0.8 * np.linalg.norm(level)


def test_rigify(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "rigify_rigs.py", avatar, tmp_path / "joints.npz", resources=tmp_path)
    found = np.load(tmp_path / "joints.npz")
    assert told["presets"]["meta"] == "Rigify (meta-rig)" and told["presets"]["generated"] == "Rigify (generated)"
    for name, heads in told["heads"].items():
        for joint, place in heads.items():
            assert np.abs(found[name][INDEX[joint]] - place).max() < 1e-4, (name, joint)
    assert np.abs(found["posed"] - found["generated"])[INDEX["LWrist"]].max() > 0.05
    assert np.abs(found["meta"] - found["generated"])[:25].max() < 0.02
    for name in ("meta", "generated", "posed"):
        at = {joint: found[name][i] for joint, i in INDEX.items()}
        assert (found[f"{name}_confidence"][:67] == 1).all(), name
        assert at["Neck"][2] < at["Nose"][2] and at["Nose"][1] < at["Neck"][1] - 0.03  # it looks along -Y
        assert at["MidHip"][2] < at["Neck"][2] and abs(at["MidHip"][0]) < 0.02
        for side, sign in (("L", 1), ("R", -1)):
            assert all(at[f"{side}{j}"][0] * sign > 0.01 for j in ("Eye", "Ear", "Hip", "Shoulder", "Ankle", "BigToe"))
            assert at[f"{side}Eye"][1] < at[f"{side}Ear"][1] - 0.03  # eyes are before ears
            assert abs(at[f"{side}Eye"][2] - at[f"{side}Ear"][2]) < 0.08
            assert at[f"{side}Hip"][2] > at[f"{side}Knee"][2] + 0.2 > at[f"{side}Ankle"][2] + 0.4
            assert at[f"{side}BigToe"][1] < at[f"{side}Ankle"][1] - 0.08 < at[f"{side}Heel"][1] - 0.08
            assert at[f"{side}SmallToe"][0] * sign > at[f"{side}BigToe"][0] * sign
            assert max(at[f"{side}BigToe"][2], at[f"{side}Heel"][2]) < at[f"{side}Ankle"][2]
    for animal, (kind, text, armature) in told["others"].items():
        assert kind == "BackendError" and armature in text and text.endswith("."), animal
    assert set(told["others"]) == {"horse", "shark"}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    torch.set_num_threads(1)
    return Renderer("cpu")


def test_renders_are_the_backends(bpy_python: Path, tmp_path: Path, avatar: Path, renderer: Renderer) -> None:
    told = run(bpy_python, "renders.py", avatar, tmp_path, resources=tmp_path / "config")
    names = [
        "still",
        "orthographic",
        "border_crop",
        "close",
        "film",
        "several",
        "killed",
        "after_kill",
        "enabled_again",
    ]
    for name in (*names, *(f"animation_{i:04d}" for i in (1, 2, 3))):
        planes = expected_planes(renderer, avatar, tmp_path / f"{name}.npz")
        passes = read_passes(tmp_path / f"{name}.exr")
        assert_same(passes, planes, name)
        if name != "film":
            assert np.array_equal(passes["Composite"], passes["Combined"])
    assert len(np.load(tmp_path / "several.npz")["joints"]) == 2
    film = read_passes(tmp_path / "film.exr")
    behind = np.array([0.1, 0.2, 0.4, 1.0])
    assert np.abs(film["Composite"] - (film["Combined"] + behind * (1 - film["Combined"][..., 3:]))).max() < 1e-3
    whole, border = read_passes(tmp_path / "still.exr")["Combined"], read_passes(tmp_path / "border.exr")["Combined"]
    inside = np.zeros(whole.shape[:2], bool)
    inside[120 - 108 : 120 - 25, 48:123] = True
    assert np.abs(border - whole)[inside].max() < 2e-3 and not border[~inside].any()
    png = np.asarray(Image.open(tmp_path / "still_png.png")).astype(float) / 255
    color = expected_planes(renderer, avatar, tmp_path / "still_png.npz")["color"]
    solid = color[..., 3] > 0.999
    linear = color[..., :3] / np.maximum(color[..., 3:], 1e-6)
    display = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
    assert solid.sum() > 300
    assert np.abs(png[..., :3] - display)[solid].max() <= 1.01 / 255
    first, second, third = told["pids"]
    assert len({first, second, third}) == 3
    frames = [read_passes(tmp_path / f"animation_{i:04d}.exr")["Combined"] for i in (1, 2, 3)]
    assert all(np.abs(a - b).max() > 0.1 for a, b in itertools.pairwise(frames))


def test_who_is_out_of_the_picture_is_not_asked_for(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    """The backend draws 256 people at most."""
    told = run(bpy_python, "many.py", avatar, tmp_path, resources=tmp_path / "config")
    few, many = told["drawn 13"], told["drawn 301"]
    assert few[0] < 20 and many[0] > 300 and few[1:] == many[1:] and 3 <= many[1] <= 7 and many[2]
    for kind in ("sharp", "blurred"):
        assert told[f"{kind} 13"] == told[f"{kind} 301"] == "", told
        small, large = (read_passes(tmp_path / f"{kind}_{count}.exr") for count in (13, 301))
        assert small["Mask"].max() > 0.3
        for name, plane in small.items():
            assert np.abs(large[name] - plane).max() < 1e-5, (kind, name)


PLATES: dict[str, dict[str, Any]] = {
    "stretch": {"file": "wide.png", "settings": {}},
    "fit": {"file": "wide.png", "settings": {"frame_method": "FIT"}},
    "crop": {"file": "wide.png", "settings": {"frame_method": "CROP"}},
    "fit_tall": {"file": "tall.png", "settings": {"frame_method": "FIT"}},
    "crop_tall": {"file": "tall.png", "settings": {"frame_method": "CROP"}},
    "same_size": {"file": "same.png", "settings": {}},
    "faint": {"file": "wide.png", "settings": {"alpha": 0.4}},
    "faint_on_film": {"file": "wide.png", "settings": {"alpha": 0.4, "frame_method": "FIT"}, "film": True},
    "moved": {"file": "wide.png", "settings": {"frame_method": "FIT", "offset": (0.2, -0.15)}},
    "small_turned": {"file": "tall.png", "settings": {"frame_method": "FIT", "scale": 0.7, "rotation": 0.6}},
    "mirrored": {"file": "tall.png", "settings": {"use_flip_x": True}},
    "in_front": {"file": "wide.png", "settings": {"display_depth": "FRONT"}},
}


def smooth_picture(path: Path, width: int, height: int, seed: int) -> None:
    """An sRGB picture with soft edges of its own, without two alike places."""
    waves = np.random.default_rng(seed).uniform(0.5, 3, (4, 2))
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    channels = [0.5 + 0.5 * np.sin(6 * (a * x + b * y)) for a, b in waves]
    channels[3] = np.clip(1.5 * channels[3] + 0.2, 0, 1)
    Image.fromarray((np.stack(channels, -1) * 255).round().astype(np.uint8)).save(path)


def linear_pixels(path: Path) -> np.ndarray:
    """Scene-linear and premultiplied, (H, W, 4), top row first."""
    p = np.asarray(Image.open(path).convert("RGBA")) / 255
    p[..., :3] = np.where(p[..., :3] <= 0.04045, p[..., :3] / 12.92, ((p[..., :3] + 0.055) / 1.055) ** 2.4)
    p[..., :3] *= p[..., 3:]
    return p


def plain_plate(pixels: np.ndarray, settings: dict[str, Any], width: int = 160, height: int = 120) -> np.ndarray:
    """A background picture in a frame that is wider than high, one pixel after the other."""
    rows, columns = pixels.shape[:2]
    out = np.zeros((height, width, 4))
    factors = width / columns, height / rows
    factor = {"FIT": min(factors), "CROP": max(factors)}.get(settings.get("frame_method", ""))
    size = np.array([width, height] if factor is None else [columns * factor, rows * factor])
    size *= settings.get("scale", 1)
    # The offset is told in widths of the frame, and of a picture that is as wide.
    right, up = settings.get("offset", (0, 0))
    middle = np.array([width / 2 + right * width, height / 2 - up * width * rows / columns])
    clockwise = settings.get("rotation", 0)
    turn = np.array([[np.cos(clockwise), np.sin(clockwise)], [-np.sin(clockwise), np.cos(clockwise)]])
    for i in range(height):
        for k in range(width):
            x, y = turn @ (np.array([k + 0.5, i + 0.5]) - middle) / size
            x = -x if settings.get("use_flip_x") else x
            u, v = (x + 0.5) * columns, (y + 0.5) * rows
            if not (0 <= u < columns and 0 <= v < rows):
                continue
            u, v = np.clip([u - 0.5, v - 0.5], 0, [columns - 1, rows - 1])
            left, top = int(u), int(v)
            right_one, lower = min(left + 1, columns - 1), min(top + 1, rows - 1)
            upper_row = pixels[top, left] * (1 - (u - left)) + pixels[top, right_one] * (u - left)
            lower_row = pixels[lower, left] * (1 - (u - left)) + pixels[lower, right_one] * (u - left)
            out[i, k] = upper_row * (1 - (v - top)) + lower_row * (v - top)
    return out * settings.get("alpha", 1)


def assert_composite(passes: dict[str, np.ndarray], behind: np.ndarray, name: str) -> None:
    """The avatar over what is behind it; the picture's own edge may fall on either side of a pixel."""
    expected = passes["Combined"] + behind * (1 - passes["Combined"][..., 3:])
    off = np.abs(passes["Composite"] - expected).max(-1)
    assert (off > 2e-3).mean() < 0.002, (name, off.max(), (off > 2e-3).mean())


def test_plates(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    out.mkdir()
    for i, (name, size) in enumerate({"wide": (200, 90), "tall": (70, 130), "same": (160, 120)}.items()):
        smooth_picture(pictures / f"{name}.png", *size, i)
    with av.open(str(pictures / "moving.mov"), "w") as movie:
        stream = movie.add_stream("png", rate=24)
        stream.width, stream.height, stream.pix_fmt = 200, 90, "rgb24"
        for i in (1, 2, 3):
            smooth_picture(pictures / f"moving_{i:04d}.png", 200, 90, 10 + i)
            picture = np.asarray(Image.open(pictures / f"moving_{i:04d}.png"))[..., :3]
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")))
        movie.mux(stream.encode())
    cases = json.dumps([{"name": name, **case} for name, case in PLATES.items()])
    told = run(bpy_python, "plate.py", avatar, pictures, out, cases, resources=tmp_path / "config")

    def composite(name: str, behind: np.ndarray) -> None:
        assert_composite(read_passes(out / f"{name}.exr"), behind, name)

    for name, case in PLATES.items():
        behind = plain_plate(linear_pixels(pictures / case["file"]), case["settings"])
        film = np.array([0.05, 0.1, 0.2, 1]) * case.get("film", False)
        composite(name, behind + film * (1 - behind[..., 3:]) if name != "in_front" else np.zeros_like(behind))
    for i in (1, 2, 3):
        pixels = linear_pixels(pictures / f"moving_{i:04d}.png")
        for kind in ("sequence", "clips"):
            composite(f"{kind}_{i}", plain_plate(pixels, {}))
        shown = np.asarray(Image.open(pictures / f"moving_{i:04d}.png").convert("RGB"))
        Image.fromarray(shown).save(pictures / "opaque.png")
        for kind in ("movie", "clip"):
            composite(f"{kind}_{i}", plain_plate(linear_pixels(pictures / "opaque.png"), {}))
    wide, tall = (linear_pixels(pictures / f"{n}.png") for n in ("wide", "tall"))
    for name in ("still_first", "still_again", "still_moved"):
        composite(name, plain_plate(wide, {}))
    raw = np.asarray(Image.open(pictures / "wide.png")) / 255
    raw[..., :3] *= raw[..., 3:]
    composite("still_raw", plain_plate(raw, {}))
    painted = ((np.array([0.5, 0.25]) * 255).round() / 255 + 0.055) / 1.055
    composite("still_painted", np.broadcast_to([*painted**2.4, 0, 1], (120, 160, 4)))
    composite("still_reloaded", plain_plate(tall, {}))
    composite("still_border", plain_plate(tall, {})[0:90, 40:120])
    composite("gone", np.zeros((120, 160, 4)))
    composite("clip_gone", np.zeros((120, 160, 4)))
    for i, behind in ((1, "moving_0001"), (2, ""), (3, "moving_0003")):
        pixels = linear_pixels(pictures / f"{behind}.png") if behind else np.zeros((1, 1, 4))
        composite(f"gap_{i}", plain_plate(pixels, {}))
    # What cannot be read is told, once for each frame; no more than that.
    lacking = {"gap_2": "gap_0001.png", "clip_gone": "moving_0001.png", "gone": "still.png"}
    assert told["warnings"].keys() == lacking.keys()
    for name, image in lacking.items():
        ((level, sentence),) = told["warnings"][name]
        assert level == "WARNING" and f"'{image}'" in sentence and "frame 2 " in sentence, (name, sentence)
    assert told["images"] and told["number"] >= 2 and told["ours"] == 2
    assert told["saved"] == told["left"] == []
    assert told["counts"] == {
        "still_first": 1, "still_again": 0, "still_moved": 0, "still_raw": 1, "still_painted": 1, "still_reloaded": 1,
    }  # fmt: skip


def test_mishaps_are_told_in_a_sentence(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    corrupt, newer = tmp_path / "corrupt.avatar", tmp_path / "newer.avatar"
    corrupt.write_bytes(avatar.read_bytes()[:1000])
    person = Avatar(AvatarConfig(method="static", texture_size=16), *rest_skeleton())
    import dataclasses

    save_avatar(newer, person, dataclasses.replace(make_header(person), format_version=99))
    told = run(bpy_python, "mishaps.py", avatar, corrupt, newer, tmp_path, resources=tmp_path / "config")
    outcomes = told["outcomes"]
    for name in ("good", "good_again"):
        assert not outcomes[name]["error"] and not outcomes[name]["told"]
        assert read_passes(tmp_path / f"{name}.exr")["Mask"].max() > 0.9
    for name, word in {
        "missing": "nobody.avatar", "corrupt": "corrupt.avatar", "newer": "newer", "unmapped": "left knee",
        "nan": "left knee", "no_python": "NEURAL_AVATAR_PYTHON", "wrong_python": "/nowhere/python",
        "no_torch": "PyTorch",
    }.items():  # fmt: skip
        outcome = outcomes[name]
        assert [level for level, _ in outcome["told"]] == ["ERROR"], (name, outcome)
        assert word in outcome["told"][0][1] and outcome["told"][0][1] in outcome["error"], (name, outcome)
        assert not outcome["written"], name  # a farm sees that the frame is not done
        assert outcome["told"][0][1] in told["log"]
    for name, level in (("behind", "INFO"), ("outside", "INFO"), ("no_avatar", "WARNING")):
        assert not outcomes[name]["error"] and [one for one, _ in outcomes[name]["told"]] == [level], (
            name,
            outcomes[name],
        )
        passes = read_passes(tmp_path / f"{name}.exr")
        assert not any(passes[p].any() for p in ("Combined", "Mask", "Part", "UV", "Composite"))
        assert (passes["Depth"] == np.float32(1e10)).all()
    assert "camera" in outcomes["no_camera"]["error"].lower()
    assert outcomes["empty_border"]["error"]


def test_installed_zip(bpy_python: Path, tmp_path: Path, avatar: Path, extension_zip: Path) -> None:
    told = run(
        bpy_python, "installed.py", extension_zip, avatar, tmp_path / "picture.exr", resources=tmp_path / "config"
    )
    assert read_passes(tmp_path / "picture.exr")["Mask"].max() > 0.9
    assert told["written"] and Path(told["log"]).is_relative_to(tmp_path)
