# SPDX-License-Identifier: GPL-3.0-or-later
"""From requests to planes: layout, colour, depth, several avatars, and bodies that cannot be drawn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend import compose
from neural_avatar.neural_backend import layer as layer_of_body
from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.avatar_file import save_avatar
from neural_avatar.neural_backend.compose import empty_planes, linear_to_srgb, over, srgb_to_linear, write_layers
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.codec import request_to_plain
from neural_avatar.neural_backend.interface.messages import (
    EMPTY_DEPTH,
    PLANES,
    AvatarInstance,
    BackendError,
    RenderedFrame,
    RenderRequest,
)
from neural_avatar.neural_backend.interface.skeleton import INDEX, JOINT_COUNT
from neural_avatar.neural_backend.layer import Layer, body_maps, render_layer
from neural_avatar.neural_backend.network import NetworkConfig
from neural_avatar.neural_backend.renderer import Renderer, crop_of, render_rgba
from neural_avatar.training.rest_pose import rest_pose

HEIGHT, WIDTH = 120, 160
SMALL = NetworkConfig(channels=(4, 4, 8, 8, 8), blocks=(1, 1))


def _person() -> tuple[np.ndarray, np.ndarray]:
    """Joints (137, 3) of a standing person and their confidence (137,)."""
    places = {
        "MidHip": (0, 0, 0.95), "Neck": (0, 0, 1.45), "LShoulder": (0.17, 0, 1.43), "RShoulder": (-0.17, 0, 1.43),
        "LElbow": (0.35, 0, 1.25), "RElbow": (-0.35, 0, 1.25), "LWrist": (0.5, -0.1, 1.1), "RWrist": (-0.5, -0.1, 1.1),
        "LHip": (0.09, 0, 0.93), "RHip": (-0.09, 0, 0.93), "LKnee": (0.1, -0.03, 0.5), "RKnee": (-0.1, -0.03, 0.5),
        "LAnkle": (0.1, 0, 0.08), "RAnkle": (-0.1, 0, 0.08),
    }  # fmt: skip
    joints, confidence = np.zeros((JOINT_COUNT, 3), np.float32), np.zeros(JOINT_COUNT, np.float32)
    for name, place in places.items():
        joints[INDEX[name]], confidence[INDEX[name]] = place, 1
    return joints, confidence


def _camera(width: int = WIDTH, height: int = HEIGHT, focal: float = 200.0) -> Camera:
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(k, rotation, -rotation @ np.array([0.0, -4.0, 0.85]), width, height)


def _make(colour: tuple[float, float, float], method: str = "static") -> Avatar:
    torch.manual_seed(5)
    joints, confidence = _person()
    avatar = Avatar(AvatarConfig(method, (128, 64), SMALL, texture_size=16), *rest_pose(joints[None], confidence[None]))
    if avatar.textures is not None:
        with torch.no_grad():
            avatar.textures.copy_(torch.tensor(colour)[None, :, None, None].expand_as(avatar.textures))
    return avatar.eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("avatars")
    made = {"red": _make((0.8, 0.2, 0.1)), "blue": _make((0.1, 0.3, 0.9)), "direct": _make((0, 0, 0), "direct")}
    for name, avatar in made.items():
        save_avatar(folder / f"{name}.avatar", avatar)
    return {name: str(folder / f"{name}.avatar") for name in made}


def _instance(path: str, shift: tuple[float, float, float] = (0, 0, 0), factor: float = 1.0) -> AvatarInstance:
    joints, confidence = _person()
    return AvatarInstance(path, Path(path).stem, ((joints + np.float32(shift)) * factor).astype(np.float32), confidence)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer("cpu")


def _top_down(frame: RenderedFrame) -> dict[str, np.ndarray]:
    return {name: plane[::-1] for name, plane in frame.planes.items()}


def test_planes_have_their_layout_and_agree_with_each_other(files: dict[str, str], renderer: Renderer) -> None:
    frame = renderer.render(RenderRequest(_camera(), (_instance(files["red"]),), tuple(PLANES)))
    assert {n: p.shape for n, p in frame.planes.items()} == {n: (HEIGHT, WIDTH, c) for n, c in PLANES.items()}
    assert all(p.dtype == np.float32 and np.isfinite(p).all() for p in frame.planes.values())
    p = _top_down(frame)
    mask = p["mask"][..., 0]
    assert 0.05 < mask.mean() < 0.4 and mask.max() > 0.99
    np.testing.assert_array_equal(p["color"][..., 3], mask)
    solid = mask >= 0.5
    assert ((p["part"][..., 0] > 0) == solid).all() and (p["depth"][..., 0] < EMPTY_DEPTH)[solid].all()
    assert (p["depth"][..., 0] == EMPTY_DEPTH)[~solid].all() and (p["uv"][~solid] == 0).all()
    assert p["depth"][solid].min() > 3.2 and p["depth"][solid].max() < 4.5
    full = mask > 0.999
    expected = srgb_to_linear(torch.tensor([0.8, 0.2, 0.1])).numpy()
    np.testing.assert_allclose(p["color"][full][:, :3], np.broadcast_to(expected, (full.sum(), 3)), atol=2e-3)
    head = _camera().project(np.array([0, 0, 1.6]))[0].astype(int)
    assert p["part"][head[1], head[0], 0] in (23, 24)
    assert set(frame.seconds) == {"avatar", "network", "textures", "compose"}


def test_planes_are_written_into_the_caller_s_arrays_and_only_those_asked_for(
    files: dict[str, str], renderer: Renderer
) -> None:
    request = RenderRequest(_camera(), (_instance(files["red"]),), ("color", "depth"))
    out = {n: np.full((HEIGHT, WIDTH, PLANES[n]), 7, np.float32) for n in ("color", "depth")}
    frame = renderer.render(request, out)
    assert frame.planes["color"] is out["color"] and set(frame.planes) == {"color", "depth"}
    whole = renderer.render(RenderRequest(_camera(), (_instance(files["red"]),)))
    for name, plane in out.items():
        np.testing.assert_array_equal(plane, whole.planes[name])


def test_the_saved_picture_is_the_frame(files: dict[str, str], renderer: Renderer) -> None:
    instance = _instance(files["red"])
    frame = _top_down(renderer.render(RenderRequest(_camera(), (instance,))))
    picture = render_rgba(renderer.avatar(files["red"]), instance.joints, instance.confidence, _camera())
    assert picture.shape == (HEIGHT, WIDTH, 4)
    np.testing.assert_allclose(picture[..., 3], frame["mask"][..., 0], atol=1e-6)
    linear = srgb_to_linear(torch.tensor(picture[..., :3])).numpy() * picture[..., 3:]
    np.testing.assert_allclose(frame["color"][..., :3], linear, atol=1e-5)


def test_a_border_shows_what_the_whole_frame_shows_there(files: dict[str, str], renderer: Renderer) -> None:
    camera, instance = _camera(), _instance(files["red"])
    whole = _top_down(renderer.render(RenderRequest(camera, (instance,))))
    part = camera.crop(50, 30, 60, 40, 60, 40)
    border = _top_down(renderer.render(RenderRequest(part, (instance,))))
    for name in ("mask", "color", "part"):
        np.testing.assert_allclose(border[name], whole[name][30:70, 50:110], atol=1e-4)


def test_the_nearer_avatar_hides_the_farther_whatever_their_order(files: dict[str, str], renderer: Renderer) -> None:
    near, far = _instance(files["blue"], (0.1, -0.8, 0)), _instance(files["red"], (-0.1, 0.8, 0))
    both = _top_down(renderer.render(RenderRequest(_camera(), (near, far))))
    swapped = _top_down(renderer.render(RenderRequest(_camera(), (far, near))))
    for name in both:
        np.testing.assert_allclose(both[name], swapped[name], atol=1e-5)
    one, two = (_top_down(renderer.render(RenderRequest(_camera(), (i,)))) for i in (near, far))
    front, behind = one["mask"][..., 0] > 0.999, two["mask"][..., 0] > 0.999
    assert (front & behind).sum() > 50 and (behind & ~front).sum() > 50
    np.testing.assert_allclose(both["color"][front], one["color"][front], atol=2e-3)
    only = (two["mask"][..., 0] > 0.999) & (one["mask"][..., 0] == 0)
    np.testing.assert_allclose(both["color"][only], two["color"][only], atol=1e-4)
    np.testing.assert_allclose(both["depth"][front], one["depth"][front], atol=1e-4)
    union = 1 - (1 - one["mask"]) * (1 - two["mask"])
    np.testing.assert_allclose(both["mask"], union, atol=1e-4)


@pytest.mark.parametrize("factor", [0.01, 10.0])
def test_depth_is_in_scene_units_and_the_picture_in_any(
    files: dict[str, str], renderer: Renderer, factor: float
) -> None:
    camera = _camera()
    plain = renderer.render(RenderRequest(camera, (_instance(files["red"]),))).planes
    scaled_camera = replace(camera, t=camera.t * factor, near=camera.near * factor)
    scaled = renderer.render(RenderRequest(scaled_camera, (_instance(files["red"], factor=factor),))).planes
    np.testing.assert_allclose(scaled["mask"], plain["mask"], atol=2e-2)
    solid = (plain["mask"] > 0.9) & (scaled["mask"] > 0.9)
    difference = np.abs(scaled["depth"][solid] / factor - plain["depth"][solid])
    assert np.quantile(difference, 0.99) < 0.01


def test_small_figures_are_averaged_not_sampled(files: dict[str, str], renderer: Renderer) -> None:
    instance = _instance(files["red"])
    large = render_rgba(renderer.avatar(files["red"]), instance.joints, instance.confidence, _camera())
    small = render_rgba(
        renderer.avatar(files["red"]), instance.joints, instance.confidence, _camera().crop(0, 0, WIDTH, HEIGHT, 40, 30)
    )
    averaged = large[..., 3].reshape(30, 4, 40, 4).mean((1, 3))
    assert np.abs(small[..., 3] - averaged).mean() < 0.01


def test_bodies_out_of_view_leave_an_empty_frame_and_a_word(files: dict[str, str], renderer: Renderer) -> None:
    for shift in ((0, -9, 0), (30, 0, 0)):
        frame = renderer.render(RenderRequest(_camera(), (_instance(files["red"], shift),)))
        assert not frame.planes["color"].any() and (frame.planes["depth"] == EMPTY_DEPTH).all()
        assert frame.warnings == ("red is outside the camera's view.",)


def test_nothing_is_drawn_before_the_near_plane(files: dict[str, str], renderer: Renderer) -> None:
    camera = _camera()
    flat = replace(camera, K=np.array([[40.0, 0, WIDTH / 2], [0, 40, HEIGHT / 2], [0, 0, 1]]), orthographic=True)
    for view in (camera, flat):
        assert renderer.render(RenderRequest(view, (_instance(files["red"]),))).planes["mask"].max() > 0.9
        behind = renderer.render(RenderRequest(view, (_instance(files["red"], (0, -9, 0)),)))
        assert not behind.planes["mask"].any() and behind.warnings
        cut = renderer.render(RenderRequest(replace(view, near=3.95), (_instance(files["red"]),)))
        solid = cut.planes["mask"] > 0
        assert solid.any() and cut.planes["depth"][cut.planes["mask"] >= 0.5].min() >= 3.95


def test_soft_edges_that_add_up_have_depth_and_part() -> None:
    def layer(depth: float, part: float) -> Layer:
        whole = torch.full((2, 2), 0.45)
        return Layer(0, 0, torch.full((2, 2, 3), 0.5), whole, whole * 0 + depth, whole * 0 + part, torch.zeros(2, 2, 2))

    planes = empty_planes(tuple(PLANES), 2, 2)
    write_layers([layer(3.0, 5), layer(4.0, 7)], planes)
    assert planes["mask"].min() > 0.6
    assert np.isin(planes["depth"], (3.0, 4.0)).all() and np.isin(planes["part"], (5, 7)).all()


def test_the_crop_holds_the_whole_body(files: dict[str, str], renderer: Renderer) -> None:
    """Also its crown, and a head, hands and feet that the skeleton lacks."""
    joints, confidence = _person()
    assert confidence[INDEX["Nose"]] == 0 and confidence[INDEX["LBigToe"]] == 0
    avatar = renderer.avatar(files["red"])
    crop = crop_of(avatar, joints, confidence, _camera())
    assert crop is not None
    part = avatar.proxy_maps(joints[None], confidence[None], [crop]).part[0] > 0
    assert part.any() and not (part[0].any() or part[-1].any() or part[:, 0].any() or part[:, -1].any())


def test_pixels_that_are_not_square_change_nothing_but_their_shape(files: dict[str, str], renderer: Renderer) -> None:
    camera, instance = _camera(), _instance(files["red"])
    stretched = camera.crop(0, 0, WIDTH, HEIGHT, WIDTH * 2, HEIGHT)
    plain = renderer.render(RenderRequest(camera, (instance,))).planes["mask"][..., 0]
    wide = renderer.render(RenderRequest(stretched, (instance,))).planes["mask"][..., 0]
    assert np.abs(wide.reshape(HEIGHT, WIDTH, 2).mean(2) - plain).mean() < 0.01


def test_a_body_around_the_camera_is_drawn_without_garbage(files: dict[str, str], renderer: Renderer) -> None:
    frame = renderer.render(RenderRequest(_camera(), (_instance(files["red"], (0, -3.9, 0)),)))
    assert all(np.isfinite(p).all() for p in frame.planes.values())


def test_pieces_of_a_frame_are_those_of_the_whole(
    files: dict[str, str], renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is worked out at once is bounded, by more than a picture of a test has."""
    table = np.random.default_rng(0).uniform(0, 4, (9, 9, 9, 3)).astype(np.float32)
    places = (("red", (0, 0, 0)), ("blue", (0.3, 0.2, 0)), ("direct", (-0.5, -0.4, 0)), ("blue", (1.2, 6, 0)))
    people = tuple(
        replace(_instance(files[name], shift), gain=(1.0, 1.1, 0.9), index=i, matte=i + 1)
        for i, (name, shift) in enumerate(places)
    )
    # Smaller than the network's picture, as large, and larger.
    for view in (_camera(80, 60, 100.0), _camera(), _camera(320, 240, 800.0)):
        request = RenderRequest(view, people, tuple(PLANES), table)
        whole = renderer.render(request).planes
        with monkeypatch.context() as small:
            small.setattr(layer_of_body, "_AT_ONCE", 3000)
            small.setattr(compose, "_AT_ONCE", 1000)
            pieces = renderer.render(request).planes
        assert whole["mask"].max() > 0.5
        for name, plane in whole.items():
            np.testing.assert_allclose(pieces[name], plane, atol=1e-6, err_msg=name)


@pytest.mark.skipif(sys.platform == "win32", reason="the system tells no peak")
@pytest.mark.parametrize("kind", ["crowd", "close"])
def test_memory_does_not_grow_with_people_times_pixels(tmp_path: Path, files: dict[str, str], kind: str) -> None:
    """In a process of its own, whose peak is its own."""
    width, height = (1920, 1080) if kind == "crowd" else (2048, 2048)
    places = [(3.5 * (i % 5 - 2), 14, 2.0 * (i // 5 - 1)) for i in range(15)] if kind == "crowd" else [(0, -3.0, 0)]
    people = tuple(_instance(files["red"], place) for place in places)
    request = RenderRequest(_camera(width, height, 1900.0), people, ("color", "depth"))
    (tmp_path / "request.json").write_text(json.dumps(request_to_plain(request), default=lambda a: a.tolist()))
    program = (
        "import json, resource, sys, conftest\n"
        "from neural_avatar.neural_backend.interface.codec import request_from_plain\n"
        "from neural_avatar.neural_backend.renderer import Renderer\n"
        "import dataclasses, torch\n"
        "torch.set_num_threads(1)\n"
        "request = request_from_plain(json.load(open(sys.argv[1])))\n"
        "renderer = Renderer('cpu')\n"
        "small = request.camera.crop(0, 0, request.camera.width, request.camera.height, 64, 64)\n"
        "renderer.render(dataclasses.replace(request, camera=small))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "mask = renderer.render(request).planes['color'][..., 3]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, (mask > 0.5).mean())\n"
    )
    arguments = [sys.executable, "-B", "-c", program, tmp_path / "request.json"]
    done = subprocess.run(arguments, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    grown, covered = (float(word) for word in done.stdout.split())
    megabytes = grown / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    assert covered > (0.01 if kind == "crowd" else 0.3)
    assert megabytes < 600, f"{megabytes:.0f} MB"


@pytest.mark.parametrize("method", ["direct", "v2v"])
def test_the_smallest_draft_is_drawn_by_every_network(tmp_path: Path, renderer: Renderer, method: str) -> None:
    path = tmp_path / "person.avatar"
    save_avatar(path, _make((1, 1, 1), method))
    frame = renderer.render(RenderRequest(_camera(), (_instance(str(path)),), detail=0.25))
    assert frame.planes["mask"].max() > 0.4


def test_direct_avatars_have_depth_too(files: dict[str, str], renderer: Renderer) -> None:
    planes = renderer.render(RenderRequest(_camera(), (_instance(files["direct"]),))).planes
    solid = planes["mask"] >= 0.5
    assert (planes["depth"][solid] < 10).all()


def test_bad_joints_are_refused(files: dict[str, str], renderer: Renderer) -> None:
    good = _instance(files["red"])
    broken = good.joints.copy()
    broken[INDEX["Neck"]] = np.nan
    unknown = good.confidence.copy()
    unknown[INDEX["MidHip"]] = 0
    cases = {"joints-invalid": replace(good, joints=broken), "joints-missing": replace(good, confidence=unknown),
             "avatar-missing": replace(good, path=good.path + "x")}  # fmt: skip
    for code, instance in cases.items():
        with pytest.raises(BackendError) as caught:
            renderer.render(RenderRequest(_camera(), (instance,)))
        assert caught.value.code == code
    assert renderer.render(RenderRequest(_camera(), (good,))).planes["mask"].any()


def test_cancel_is_looked_at(files: dict[str, str], renderer: Renderer) -> None:
    with pytest.raises(BackendError) as caught:
        renderer.render(RenderRequest(_camera(), (_instance(files["red"]),)), cancelled=lambda: True)
    assert caught.value.code == "cancelled"


def test_a_changed_file_is_read_again(tmp_path: Path, renderer: Renderer) -> None:
    path = tmp_path / "changing.avatar"
    save_avatar(path, _make((1, 0, 0)))
    first = renderer.avatar(str(path))
    assert renderer.avatar(str(path)) is first
    save_avatar(path, _make((0, 1, 0)))
    os.utime(path, ns=(1, 1))
    assert renderer.avatar(str(path)) is not first


def test_an_unknown_device_is_named() -> None:
    for wish in ("cuda:99", "abacus"):
        with pytest.raises(BackendError) as caught:
            Renderer(wish)
        assert caught.value.code == "device-missing" and wish in caught.value.message


def test_colour_transfer_and_composition() -> None:
    x = torch.linspace(0, 1, 101)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(x)), x, atol=1e-5, rtol=0)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)
    image, background, alpha = torch.rand(2, 3), torch.rand(2, 3), torch.tensor([0.25, 1.0])
    torch.testing.assert_close(over(image, alpha, background)[0], 0.25 * image[0] + 0.75 * background[0])
    torch.testing.assert_close(over(image, alpha, background)[1], image[1])


def test_no_background_shows_through_the_seams_between_parts(files: dict[str, str], renderer: Renderer) -> None:
    """Two parts side by side, each certain of itself and against the other: enlarged, the body stays closed."""
    avatar = renderer.avatar(files["red"])
    joints, confidence = _person()
    crop = crop_of(avatar, joints, confidence, _camera())
    assert crop is not None
    maps = body_maps(avatar, joints, confidence, crop)
    logits = torch.full_like(maps.logits, -25.0)
    logits[:, 0, :, ::2], logits[:, 1, :, 1::2], logits[:, -1] = 20.0, 20.0, -3.0
    layer = render_layer(avatar, replace(maps, logits=logits), crop, crop.crop(0, 0, 64, 128, 256, 512))
    assert layer is not None and layer.alpha[8:-8, 8:-8].min() > 0.99
    shaded = avatar.shade(replace(maps, logits=logits), detail=4)
    assert shaded.alpha.min() > 0.99
