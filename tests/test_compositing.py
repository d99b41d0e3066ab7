# SPDX-License-Identifier: GPL-3.0-or-later
"""Avatars in sets: compositing set up by one click, shadows, mattes, motion blur, and looks under view transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from neural_avatar.addon import matte
from neural_avatar.neural_backend.compose import empty_planes, scene_linear, srgb_to_linear, write_layers
from neural_avatar.neural_backend.interface.messages import PLANES, TABLE_UNIT, AvatarInstance
from neural_avatar.neural_backend.interface.skeleton import BODY_BONES, JOINT_COUNT
from neural_avatar.neural_backend.layer import Layer
from support.blender_scripts import read_passes, run


def picture(path: Path) -> np.ndarray:
    """An EXR's picture (H, W, 4), top row first."""
    channels = OpenEXR.File(str(path), separate_channels=True).channels()
    return np.stack([np.asarray(channels[c].pixels, np.float32) for c in "RGBA"], -1)


def _kinds(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the blue wall, the green thing in front, and somebody are."""
    wall = (p[..., 2] > 0.9) & (p[..., :2].max(-1) < 0.1)
    thing = (p[..., 1] > 0.9) & (p[..., 0] < 0.1) & (p[..., 2] < 0.1)
    return wall, thing, ~wall & ~thing


def test_one_click_puts_the_avatar_into_the_set(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "compositing.py", avatar, tmp_path, resources=tmp_path / "config")
    shot = {path.stem: picture(path) for path in tmp_path.glob("*.exr")}
    assert told["again"] and told["engine"] == "CYCLES" and told["scenes"] == 2
    plain, joined, behind = shot["plain"], shot["joined"], shot["behind"]
    wall, thing, _ = _kinds(plain)
    somebody = np.abs(joined - plain)[..., :3].max(-1) > 0.1
    # In front of the wall, behind the thing; where the thing stands behind, the legs hide it.
    assert (somebody & wall).sum() > 300 and (somebody & thing).sum() < 0.02 * somebody.sum()
    legs = np.abs(behind - joined)[..., :3].max(-1) > 0.1
    assert (legs & thing).sum() > 300
    assert np.abs(shot["mended"] - joined).max() < 1e-4
    assert np.abs(shot["removed"] - plain).max() < 1e-4 and np.abs(shot["hidden"] - plain).max() < 1e-4
    assert told["followed"] == ["Other", 200, 11] and shot["followed"].shape == (120, 200, 4)
    assert (np.abs(shot["followed"][..., 0]) > 0.1).sum() > 300
    assert told["cut"] == "Other" and np.abs(shot["cut"] - joined).max() > 0.5
    assert told["between"] == [1, 0.75, 0.2] and told["whole"] == [1, 0]
    assert np.abs(shot["between"] - shot["between_still"]).max() < 1e-4
    assert told["hidden"] == ["Camera"]
    assert told["removed"] == [True, 1, 0]
    without, left = told["guests"]
    assert without == sorted(["Camera", "Mine", "Renamed", told["person"]])
    assert left == sorted(["Camera", "Mine", told["person"]]) and told["mine"] and told["stays"] == left
    assert told["older"] == [left, False] and np.abs(shot["older"] - joined).max() < 1e-4
    assert told["collections"] == ["Away"]
    # Only the user's scene writes, and each frame has somebody in it.
    assert sorted(p.name for p in tmp_path.glob("film_*")) == ["film_0001.exr", "film_0002.exr"]
    assert all(np.abs(shot[f"film_000{i}"] - plain)[..., :3].max() > 0.1 for i in (1, 2))
    # A user's own nodes stay; they work on the set alone, or on both.
    assert told["own_END"] and told["own_START"]
    end, start = shot["own_END"], shot["own_START"]
    core = np.abs(end - joined)[..., :3].max(-1) < 1e-3
    assert (core & somebody).sum() > 0.7 * somebody.sum() and not (core & wall & ~somebody).any()
    assert (np.abs(start - end)[..., :3].max(-1) > 0.1)[core & somebody].mean() > 0.9
    _, _, there = _kinds(shot["layers"])
    assert (there & thing).sum() < 0.03 * there.sum() and (there & wall).sum() > 300
    assert told["set_engine"] != "NEURAL_AVATAR" and told["engine_back"] == "NEURAL_AVATAR"
    assert len(told["errors"]) == 1 and "avatar" in told["errors"][0] and told["scenes_after"] == 1


def test_crowds_of_instances_stand_in_the_set(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "crowds.py", avatar, tmp_path, resources=tmp_path / "config")
    none = picture(tmp_path / "none.exr")

    def somebody(name: str) -> int:
        return int((np.abs(picture(tmp_path / f"{name}.exr") - none)[..., :3].max(-1) > 0.1).sum())

    for name in ("named", "nested", "object", "collection", "again", "particle", "particles", "empty"):
        assert somebody(name) > 150, name
        assert told[name] == sorted(["Camera", name]), name
    assert told["none"] == told["grass"] == told["gone"] == ["Camera"]
    assert told["set"] == told["child"] == sorted(["Camera", told["person"]])
    assert told["verts"] == ["Camera", "guest", "verts"] and somebody("verts") > 150 and somebody("child") > 100
    assert somebody("set") > 100 and somebody("hidden") == somebody("gone") == 0
    assert told["panel"] and told["alone"] == ["Camera", "named"]


def test_rigs_that_depend_on_their_scene(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "scene_rigs.py", avatar, tmp_path, resources=tmp_path / "config")

    def shot(name: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / f"{name}.png"), float)

    assert told["plain"] == told["again"] == []
    assert told["copied"] == [1.5, "as told", [1.0, 2.0]]
    stills = [shot(f"still{i}_0001") for i in range(3)]
    assert np.abs(stills[0] - stills[1]).max() > 60 and np.abs(stills[1] - stills[2]).max() > 60
    for i, still in enumerate(stills):
        assert np.abs(shot(f"moving_{i + 1:04d}") - still).max() <= 2, i
    assert np.abs(shot("part_0003") - stills[2]).max() <= 2
    # What cannot be brought over is told.
    assert told["fallen"] and told["frame"] == [8, 8]
    (warning,) = told["apart"]
    assert f"'{told['name']}'" in warning and "Bake" in warning


def test_avatars_are_seen_by_the_camera_of_each_cut(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "cuts.py", avatar, tmp_path, resources=tmp_path / "config")

    def shot(name: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / f"{name}.png"), float)

    plain = {name: shot(f"{name}_0001") for name in ("right", "left", "middle")}
    assert np.abs(plain["right"] - plain["left"]).max() > 60 and np.abs(plain["left"] - plain["middle"]).max() > 60
    cut = {1: "Right", 2: "Right", 3: "Left", 4: "Left", 5: "Middle"}
    for film, frames in (("whole", range(1, 6)), ("part", (3, 4)), ("back", (1,))):
        assert told[film] == [[frame, cut[frame], cut[frame]] for frame in frames], film
        for frame in frames:
            off = np.abs(shot(f"{film}_{frame:04d}") - plain[cut[frame].lower()])
            assert off.max() <= 2, (film, frame)
    for frame in (2, 3):
        assert told["blurred"] == told["sharp"]
        assert np.abs(shot(f"blurred_{frame:04d}") - shot(f"sharp_{frame:04d}")).max() <= 2, frame


def test_shadow_proxy_follows_any_rig_and_is_not_seen(
    bpy_python: Path, tmp_path: Path, avatar: Path, request: pytest.FixtureRequest
) -> None:
    motion: Path | str = ""
    try:
        motion = request.getfixturevalue("shared") / "motion" / "002_03.bvh"
    except pytest.skip.Exception as missing:
        print(f"WITHOUT MOTION CAPTURE: {missing}")
    told = run(bpy_python, "shadow.py", avatar, motion, tmp_path, resources=tmp_path / "config")
    assert told["same"] and told["meshes"] == 1 and told["scenes"], told["first"]
    assert told["visible"] == {"camera": False, "shadow": True, "glossy": True, "diffuse": True, "transmission": True}
    found = np.load(tmp_path / "shadow.npz")
    cases = sorted({name.split("_")[0] for name in found.files})
    assert "own" in cases and (len(cases) == 4 or not motion)
    for case in cases:
        vertices, joints = found[f"{case}_vertices"], found[f"{case}_joints"]
        for a, b in BODY_BONES:  # the surface surrounds each bone, in every pose
            gap = np.linalg.norm(vertices - (joints[a] + joints[b]) / 2, axis=1).min()
            assert gap < 0.13, (case, a, b)
        known = joints[found[f"{case}_confidence"] > 0]
        low, high = known.min(0) - 0.35, known.max(0) + 0.35
        assert (vertices > low).all() and (vertices < high).all(), case
    with_it, without = picture(tmp_path / "with.exr"), picture(tmp_path / "without.exr")
    sky = without[..., 3] == 0
    assert np.array_equal(with_it[sky], without[sky])  # the mesh itself would stand before the sky
    floor = without[..., 3] > 0.99
    darker = (with_it[..., 1] < 0.5 * without[..., 1]) & floor
    assert 100 < darker.sum() < 0.5 * floor.sum()
    # An avatar that is not rendered throws no shadow.
    assert told["hidden"] == [True, True] and told["shown"] == [False, False]
    assert np.array_equal(with_it, picture(tmp_path / "shown.exr"))
    assert told["drivers"] == ["hide_viewport"] and told["kept"] and told["mended"] == 2
    mirror = picture(tmp_path / "mirror.exr")
    assert mirror[floor][:, 1].std() > 0.01 and np.isfinite(mirror).all()


def test_mattes_of_avatars_that_overlap(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "mattes.py", avatar, tmp_path, resources=tmp_path / "config")
    assert told["layer"].endswith(".CryptoObject")
    assert told["names"] == told["numbers"]  # Blender's own node calls them the same
    header = OpenEXR.File(str(tmp_path / "both.exr"), separate_channels=True).parts[0].header
    fields = {k.rsplit("/", 1)[-1]: v for k, v in header.items() if k.startswith("cryptomatte/")}
    assert fields["hash"] == "MurmurHash3_32" and fields["conversion"] == "uint32_to_float32"
    assert f'"Änne":"{told["numbers"]["Änne"]:08x}"' in fields["manifest"]
    both, near, far = (read_passes(tmp_path / f"{n}.exr") for n in ("both", "near", "far"))
    assert "CryptoObject02" not in both
    coverage = {name: _coverage(both, number) for name, number in told["numbers"].items()}
    mask = {"near": near["Mask"][..., 0], "far": far["Mask"][..., 0]}
    overlap = (mask["near"] > 0.5) & (mask["far"] > 0.5)
    assert overlap.sum() > 200
    assert np.abs(sum(coverage.values()) - both["Mask"][..., 0]).max() < 2e-3
    in_front = near["Depth"][..., 0] < far["Depth"][..., 0]
    expected = np.where(in_front, mask["near"], mask["near"] * (1 - mask["far"]))
    solid = overlap & (np.abs(near["Depth"] - far["Depth"])[..., 0] > 0.02)
    assert np.abs(coverage["Änne"] - expected)[solid].max() < 5e-3
    alone = (mask["far"] > 0) & (mask["near"] == 0)
    assert np.abs(coverage["Bert"] - mask["far"])[alone].max() < 2e-3
    index = both["IndexOB"][..., 0]
    assert set(np.unique(index)) == {0, 3, 7}
    assert (index[coverage["Änne"] > 0.6] == 3).all() and (index[coverage["Bert"] > 0.6] == 7).all()
    channels = OpenEXR.File(str(tmp_path / "node.exr"), separate_channels=True).channels()
    node = channels["Composite.Combined.R"].pixels
    assert np.abs(node - coverage["Bert"]).max() < 2e-3

    # Exposure and white balance are light: factors before the view transform.
    color, exposed, warm = (read_passes(tmp_path / f"{n}.exr")["Combined"] for n in ("near", "exposed", "warm"))
    lit = color[..., 3] > 0.9
    assert np.abs(exposed[..., :3] - 2 * color[..., :3]).max() < 4e-3
    ratio = (warm[lit][:, :3] / color[lit][:, :3].clip(1e-3)).mean(0)
    assert ratio[0] > ratio[1] > ratio[2] and ratio[0] > 1.05 and ratio[2] < 0.85
    luminance = (warm[lit][:, :3] @ (0.2126, 0.7152, 0.0722)) / (color[lit][:, :3] @ (0.2126, 0.7152, 0.0722))
    assert 0.8 < luminance.mean() < 1.2
    coarse = read_passes(tmp_path / "coarse.exr")
    both_masks = np.stack([coarse["Mask"], near["Mask"]]) > 0.5
    assert both_masks.all(0).sum() / both_masks.any(0).sum() > 0.85
    assert np.abs(coarse["Combined"] - color).max() > 0.01

    # Motion blur is the mean of the moments, premultiplied and linear.
    assert told["off"] and told["frame"] == [2, 0.0, 0.0]
    still, blurred = (read_passes(tmp_path / f"{n}.exr") for n in ("still", "blurred"))
    moments = [read_passes(tmp_path / f"moment_{i}.exr") for i in range(3)]
    for name in ("Combined", "Mask"):
        mean = np.mean([m[name] for m in moments], 0)
        assert np.abs(blurred[name] - mean).max() < 3e-3, name
        assert np.abs(blurred[name] - still[name]).max() > 0.2
    for name in ("Part", "UV", "IndexOB"):
        if name in still:
            assert np.array_equal(blurred[name], still[name]), name
    inside = still["Depth"] < 1e9
    assert np.array_equal(blurred["Depth"][inside], still["Depth"][inside])
    nearest = np.min([m["Depth"] for m in moments], 0)
    assert np.allclose(blurred["Depth"][~inside], nearest[~inside], atol=0.01)
    for number in told["numbers"].values():
        mean = np.mean([_coverage(m, number) for m in moments], 0)
        assert np.abs(_coverage(blurred, number) - mean).max() < 3e-3


def _coverage(passes: dict[str, np.ndarray], number: int) -> np.ndarray:
    """The share of each pixel that a number's avatar covers, as any reader of Cryptomatte adds it up."""
    total = np.zeros(passes["Mask"].shape[:2])
    for name, pairs in passes.items():
        if name.startswith("CryptoObject"):
            for k in (0, 2):
                bits = np.ascontiguousarray(pairs[..., k], np.float32).view(np.uint32)
                total += np.where(bits == number, pairs[..., k + 1], 0)
    return total


def test_an_avatar_keeps_its_look_under_other_view_transforms(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "look.py", avatar, tmp_path, resources=tmp_path / "config")
    assert told["standard_has_no_table"] and told["standard_keeps"] and told["settings_kept"]
    for name in ("agx", "agx_punchy", "filmic"):
        middle, most, nearly_all = told["errors"][name]  # in 1/255, colours that are not too strong or bright
        assert middle < 0.6 and most < 4 and nearly_all < 20, (name, told["errors"])
        low, high = told[f"{name}_range"]
        assert low > -0.11 and high < 18.1

    def pixels(name: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / f"{name}.png"), float)

    standard = pixels("standard")
    solid = standard[..., 3] == 255
    assert solid.sum() > 300
    for name in ("agx", "agx_punchy", "filmic"):
        plain, kept = (np.abs(pixels(f"{name}_{n}") - standard)[solid][:, :3].max(-1) for n in ("plain", "kept"))
        assert np.median(kept) < 3 and kept.mean() < 0.35 * plain.mean(), (name, kept.mean(), plain.mean())
    assert np.array_equal(pixels("button"), standard)
    # Drawn: the table of before until a new one is there, which comes with rest alone.
    assert told["first"] == [None, True] and told["made_dragging"] == []
    assert told["dragged"] == [[None, True]] * 9
    assert told["rested"] == [[None, False], [0.25, False]] and told["made_resting"] == [0.25, "redraw"]
    assert told["played"] == [[0.25, True]] * 3 and told["made_playing"] == []
    assert told["stopped"] == [False, [0.5, False], 2] and told["gone"] == [False, 2]


def test_soft_edges_stay_soft_in_large_pictures(bpy_python: Path, tmp_path: Path) -> None:
    """A network's picture is small: in a frame of a film's size its edges are many pixels wide."""
    demo = next((Path(__file__).resolve().parent.parent / "assets").glob("*.avatar"))
    told = run(bpy_python, "edges.py", demo, tmp_path, resources=tmp_path / "config")
    assert told["error"] == ""
    wall = 0.8
    for name, part in (("", np.s_[:700]), ("blurred_", np.s_[60:700, 275:625])):
        joined, alone = picture(tmp_path / f"{name}joined.exr")[part], read_passes(tmp_path / f"{name}alone.exr")
        color, mask = alone["Combined"][part], alone["Mask"][part]
        assert ((mask > 0.02) & (mask < 0.45)).sum() > 2000, name
        assert np.abs(joined[..., :3] - (color[..., :3] + wall * (1 - mask))).max() < 2e-3, name
        # Depth is what it ever was, and EdgeDepth goes on from there to the end of what is seen.
        depth, edge = alone["Depth"][part], alone["EdgeDepth"][part]
        if not name:
            assert np.array_equal(depth < 1e9, mask >= 0.5) and np.array_equal(edge[mask >= 0.5], depth[mask >= 0.5])
        assert (edge[mask > 4e-3] < 10).all(), name
    # What stands in front hides the legs, edges included.
    front = picture(tmp_path / "joined.exr")[780:1000]
    assert np.abs(front[..., :3] - (0, 0.4, 0)).max() < 2e-3
    assert told["mended"] == [0.125, 1, "EdgeDepth", True]


def test_films_wait_while_blender_refuses_changes(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    """Blender 5.0 refuses the changes of all threads while any panel is drawn."""
    for i in (1, 2, 3):
        Image.new("RGB", (80, 60), (60 * i, 200 - 50 * i, 40 * i)).save(tmp_path / f"moving_{i:04d}.png")
    told = run(bpy_python, "refusals.py", avatar, tmp_path, tmp_path, resources=tmp_path / "config")
    shot = {p.stem: np.asarray(Image.open(p), float) for p in tmp_path.glob("*_000?.png")}
    assert told["errors"] == [] and told["refused"] == told["recent"]
    assert [told[name] for name in ("answered", "forgotten", "cancelled")] == [True, False, "cancelled"]
    for i in (1, 2, 3):
        assert np.abs(shot[f"refused_000{i}"] - shot[f"calm_000{i}"]).max() == 0, i
    assert np.abs(shot["calm_0001"] - shot["calm_0002"]).max() > 60
    assert np.abs(shot["calm_0002"] - shot["calm_0003"])[..., :3].min(-1).max() > 10  # another plate


def test_keeping_the_look_leaves_the_output_alone(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    told = run(bpy_python, "output.py", avatar, tmp_path, resources=tmp_path / "config")
    for ending in ("exr", "png", "mkv"):
        assert told["kept"][ending] == [True, []], ending
    # The frame for which the table was made is written like all others.
    for ending, read in (("exr", picture), ("png", lambda path: np.asarray(Image.open(path), float))):
        first, second = (read(tmp_path / f"{ending}_{name}.{ending}") for name in ("first", "second"))
        assert first.shape == second.shape and np.abs(first - second).max() < 1e-6, ending
        assert first[..., :3].max() > 0.1
    assert told["off"] < 1e-4 and told["scenes"] and told["images"] == []


def test_colours_are_right_in_files_of_another_light(bpy_python: Path, tmp_path: Path, avatar: Path) -> None:
    """Blender 5.0 may work with Rec.2020 or ACEScg."""
    ramp = np.linspace(0, 255, 160)[None].repeat(120, 0)
    plate = np.stack([ramp, ramp[:, ::-1], ramp * 0 + 60], -1).astype(np.uint8)
    Image.fromarray(plate).save(tmp_path / "behind.png")
    told = run(bpy_python, "working_space.py", avatar, tmp_path / "behind.png", tmp_path, resources=tmp_path / "config")

    def shot(name: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / f"{name}.png"), float)

    plain, passes = shot("0_plain"), read_passes(tmp_path / "0_passes.exr")
    solid = plain[..., 3] == 255
    alone = passes["Mask"][..., 0] == 0
    assert np.abs(shot("0_plate")[alone][:, :3] - plate[alone]).max() <= 1
    for number, matrix in enumerate(told["matrices"].values()):
        assert (number == 0) == np.allclose(matrix, np.eye(3), atol=1e-4)
        assert np.abs(shot(f"{number}_plain") - plain).max() <= 1, number
        assert np.abs(shot(f"{number}_plate") - shot("0_plate")).max() <= 1, number
        assert np.abs(shot(f"{number}_kept") - shot("0_kept"))[solid].mean() < 1, number
        light = read_passes(tmp_path / f"{number}_passes.exr")["Combined"][..., :3]
        assert np.abs(light - passes["Combined"][..., :3] @ np.array(matrix)).max() < 2e-3, number


def test_table_stands_for_the_srgb_curve() -> None:
    steps = torch.linspace(0, 1, 33)
    grid = srgb_to_linear(torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1))
    table = (torch.log2(1 + grid / TABLE_UNIT)).numpy()
    colors = torch.rand(50, 40, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scene_linear(colors, table), srgb_to_linear(colors), atol=4e-3, rtol=2e-2)
    swapped = scene_linear(colors, np.ascontiguousarray(table[..., ::-1]))
    torch.testing.assert_close(swapped, srgb_to_linear(colors).flip(-1), atol=4e-3, rtol=2e-2)


def test_three_layers_share_a_pixel() -> None:
    def layer(depth: float, alpha: float) -> Layer:
        whole = torch.full((1, 1), alpha)
        return Layer(0, 0, torch.full((1, 1, 3), 0.5), whole, whole * 0 + depth, whole * 0 + 1, torch.zeros(1, 1, 2))

    def instance(name: str, index: int) -> AvatarInstance:
        joints = np.zeros((JOINT_COUNT, 3), np.float32)
        return AvatarInstance(name, name, joints, joints[:, 0], index=index, matte=matte.number(name))

    people = [instance("a", 1), instance("b", 2), instance("a", 1)]
    planes = empty_planes(tuple(PLANES), 1, 1)
    write_layers([layer(3, 0.5), layer(2, 0.4), layer(4, 1.0)], planes, people)
    pairs = planes["crypto0"][0, 0]
    numbers = pairs[[0, 2]].astype(np.float32).view(np.uint32)
    assert list(numbers) == [matte.number("a"), matte.number("b")]
    np.testing.assert_allclose(pairs[[1, 3]], [0.6 * 0.5 + 0.3, 0.4], atol=1e-6)
    assert not planes["crypto1"].any() and planes["index"][0, 0, 0] == 1


def test_hash_is_murmur3() -> None:
    known = {b"": 0, b"test": 0xBA6BD213, b"Hello, world!": 0xC0363E43}
    assert {text: matte.murmur3(text) for text in known} == known
    bits = np.array([matte.number(f"object {i}") for i in range(3000)], np.uint32).view(np.float32)
    assert np.isfinite(bits).all() and (np.abs(bits) >= np.finfo(np.float32).tiny).all()
