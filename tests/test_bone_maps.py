# SPDX-License-Identifier: GPL-3.0-or-later
"""Bone rasterization against a plain loop over pixels."""

from __future__ import annotations

import numpy as np
import torch

from neural_avatar.neural_backend.bone_maps import BODY_HALF_WIDTH, CHANNELS, FINE_HALF_WIDTH, draw_bones
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.skeleton import BODY_BONES, BONE_CHANNELS, INDEX, JOINT_COUNT

SIZE = 96


def _camera() -> Camera:
    return Camera(np.array([[110.0, 0, 48], [0, 110, 48], [0, 0, 1]]), np.eye(3), np.zeros(3), SIZE, SIZE)


def _draw(
    points: dict[str, tuple[float, float, float]], confidence: float = 1.0, hips: float = 2.0, weighted: bool = False,
    less: dict[str, float] | None = None,
) -> torch.Tensor:  # fmt: skip
    joints, weight = np.zeros((JOINT_COUNT, 3)), np.zeros(JOINT_COUNT)
    joints[:, 2] = 2.0
    for name, point in points.items():
        joints[INDEX[name]], weight[INDEX[name]] = point, confidence
    for name, value in (less or {}).items():
        weight[INDEX[name]] = value
    pixels, depth = _camera().project(joints)
    tensors = [torch.tensor(x[None], dtype=torch.float32) for x in (pixels, depth, weight)]
    return draw_bones(*tensors, torch.tensor([hips]), torch.tensor([False]), SIZE, SIZE, weighted=weighted)[0]


def test_a_bone_holds_the_depth_of_the_point_in_3d_that_each_pixel_sees() -> None:
    a, b = np.array([-0.5, -0.3, 1.5]), np.array([0.6, 0.5, 3.0])
    drawn = _draw({"RHip": tuple(a), "RKnee": tuple(b)})
    channel = BODY_BONES.index((INDEX["RHip"], INDEX["RKnee"]))
    others = [i for i in range(CHANNELS) if i != channel]
    assert drawn[others].abs().sum() == 0
    (pa, pb), _ = _camera().project(np.stack([a, b]))
    half = BODY_HALF_WIDTH * SIZE / 512
    expected = np.zeros((SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            p, along = np.array([x + 0.5, y + 0.5]), pb - pa
            s = np.clip((p - pa) @ along / (along @ along), 0, 1)
            cover = np.clip(half + 0.5 - np.linalg.norm(p - pa - s * along), 0, 1)
            # The 3D point whose picture lies at share s of the line: by bisection, independent of any formula.
            low, high = 0.0, 1.0
            for _ in range(40):
                middle = (low + high) / 2
                seen, _ = _camera().project(a + middle * (b - a))
                low, high = (middle, high) if (seen - pa) @ along / (along @ along) < s else (low, middle)
            depth = (a + low * (b - a))[2]
            expected[y, x] = cover * (1 + depth - 2.0)
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(drawn[channel].numpy(), expected, atol=2e-4)


def test_lines_are_antialiased_and_their_width_is_in_proportion_to_the_picture() -> None:
    drawn = _draw({"Neck": (0, -0.6, 2.0), "MidHip": (0, 0.6, 2.0)})[0]
    half = BODY_HALF_WIDTH * SIZE / 512
    np.testing.assert_allclose(drawn[SIZE // 2].sum(), 2 * half, rtol=1e-4)  # relative depth 1 everywhere
    assert ((drawn > 0) & (drawn < 1)).any()


def test_bones_of_uncertain_joints_and_of_joints_behind_the_camera_are_left_out() -> None:
    ahead = {"Neck": (0.0, -0.6, 2.0), "MidHip": (0.0, 0.6, 2.0)}
    assert _draw(ahead).abs().sum() > 0
    assert _draw(ahead, confidence=0.01).abs().sum() == 0
    assert _draw({**ahead, "MidHip": (0.0, 0.6, -1.0)}).abs().sum() == 0


def test_bones_weigh_as_much_as_their_less_certain_joint() -> None:
    body = {"Neck": (0.0, -0.6, 2.2), "MidHip": (0.0, 0.6, 1.9), "RHip": (-0.2, 0.6, 2.0)}
    plain = _draw(body)
    assert torch.equal(_draw(body, weighted=True), plain)  # certain joints are drawn as ever, bit for bit
    assert torch.equal(_draw(body, less={"Neck": 0.4}), plain)
    channels = {frozenset(bone): channel for channel, bone in enumerate(BODY_BONES)}
    spine, hip = (channels[frozenset((INDEX["MidHip"], INDEX[name]))] for name in ("Neck", "RHip"))
    weak = _draw(body, weighted=True, less={"Neck": 0.4, "MidHip": 0.8})
    torch.testing.assert_close(weak[spine], plain[spine] * 0.4)
    torch.testing.assert_close(weak[hip], plain[hip] * 0.8)
    assert _draw(body, weighted=True, less={"Neck": 0.04})[spine].abs().sum() == 0


def test_where_bones_of_a_channel_cross_the_certain_one_is_drawn() -> None:
    thumb, index = (f"LHand_Hand{name}" for name in ("Thumb", "Index"))
    hand = {f"{thumb}1": (-0.4, 0.0, 2.0), f"{thumb}2": (0.4, 0.0, 2.0),
            f"{index}1": (0.0, -0.4, 1.5), f"{index}2": (0.0, 0.4, 1.5)}  # fmt: skip
    middle = CHANNELS - 3, SIZE // 2, SIZE // 2
    cover = FINE_HALF_WIDTH * SIZE / 512  # half a pixel beside both lines
    torch.testing.assert_close(_draw(hand)[middle], torch.tensor(cover * 0.5))  # the nearer one
    less = {f"{index}1": 0.3}
    torch.testing.assert_close(_draw(hand, weighted=True, less=less)[middle], torch.tensor(cover * 1.0))


def test_channels_follow_the_paper() -> None:
    assert CHANNELS == 27
    assert [len(bones) for bones in BONE_CHANNELS[24:]] == [20, 20, 39]


def test_a_batch_is_its_single_pictures() -> None:
    torch.manual_seed(0)
    pixels, depth = torch.rand(3, JOINT_COUNT, 2) * SIZE, torch.rand(3, JOINT_COUNT) + 1
    confidence, hips = (torch.rand(3, JOINT_COUNT) > 0.3).float(), torch.tensor([1.0, 1.5, 2.0])
    flags = torch.tensor([False, True, False])
    whole = draw_bones(pixels, depth, confidence, hips, flags, SIZE, SIZE)
    for i in range(3):
        s = slice(i, i + 1)
        single = draw_bones(pixels[s], depth[s], confidence[s], hips[s], flags[s], SIZE, SIZE)
        torch.testing.assert_close(whole[s], single)
