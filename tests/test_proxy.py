# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy surface: ray casting against ray marching, and what must not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.interface.body import REQUIRED_JOINTS, body_frames, frames_in_camera
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.proxy import CAPSULES, ProxyGeometry, default_proxy
from neural_avatar.neural_backend.interface.skeleton import INDEX, JOINT_COUNT
from neural_avatar.neural_backend.proxy_maps import ProxyMaps, camera_rays, cast, pose_capsules
from neural_avatar.training.rest_pose import rest_pose

SIZE = (96, 48)


def standing() -> tuple[np.ndarray, np.ndarray]:
    """A person of 1.7 m in a relaxed pose, arms and one knee bent, facing -Y; joints (137, 3) and confidence (137,)."""
    body = {
        "MidHip": (0, 0, 0.95), "Neck": (0, 0, 1.45), "LShoulder": (0.17, 0, 1.43), "RShoulder": (-0.17, 0, 1.43),
        "LElbow": (0.30, 0.05, 1.20), "RElbow": (-0.25, 0.02, 1.16), "LWrist": (0.35, -0.18, 1.10),
        "RWrist": (-0.30, -0.02, 0.92), "LHip": (0.09, 0, 0.93), "RHip": (-0.09, 0, 0.93), "LKnee": (0.11, -0.08, 0.50),
        "RKnee": (-0.10, 0, 0.49), "LAnkle": (0.11, 0.05, 0.09), "RAnkle": (-0.10, 0.03, 0.07),
        "Nose": (0, -0.12, 1.58),
        "LEye": (0.03, -0.10, 1.62), "REye": (-0.03, -0.10, 1.62), "LEar": (0.075, -0.01, 1.61),
        "REar": (-0.075, -0.01, 1.61),
        "LBigToe": (0.10, -0.12, 0.02), "LSmallToe": (0.15, -0.09, 0.02), "LHeel": (0.11, 0.10, 0.03),
        "RBigToe": (-0.09, -0.14, 0.0), "RSmallToe": (-0.14, -0.11, 0.0), "RHeel": (-0.10, 0.08, 0.01),
    }  # fmt: skip
    joints, confidence = np.zeros((JOINT_COUNT, 3)), np.zeros(JOINT_COUNT)
    for name, point in body.items():
        joints[INDEX[name]], confidence[INDEX[name]] = point, 1
    return joints, confidence


def front_camera(distance: float = 4.0, focal: float = 200.0, size: tuple[int, int] = SIZE) -> Camera:
    """A camera in front of the person (on -Y), looking along +Y at hip height."""
    rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    height, width = size
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(k, rotation, -rotation @ np.array([0.0, -distance, 0.85]), width, height)


def make_avatar(proxy: ProxyGeometry | None = None) -> Avatar:
    joints, confidence = standing()
    return Avatar(AvatarConfig("static", SIZE, texture_size=16), *rest_pose(joints[None], confidence[None]), proxy)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return make_avatar()


def _maps(avatar: Avatar, camera: Camera, factor: float = 1.0) -> ProxyMaps:
    joints, confidence = standing()
    return avatar.proxy_maps(joints[None] * factor, confidence[None], [camera])


def _marched_depth(avatar: Avatar, camera: Camera, u: float, v: float) -> float:
    """Depth along the ray of a pixel at which it first lies inside a capsule, by small steps; inf when it never
    does."""
    joints, confidence = standing()
    scale = avatar.scale_of(joints[None], confidence[None])
    frames = body_frames(joints[None] / scale, confidence[None], avatar.rest_frames)
    posed = pose_capsules(frames_in_camera(frames, [camera], scale), avatar.proxy_params)
    start, axes = posed.start[0].double().numpy(), posed.axes[0].double().numpy()
    length, r0, r1, ratio = (x[0].double().numpy() for x in (posed.length, posed.r0, posed.r1, posed.ratio))
    direction = np.linalg.inv(camera.K) @ np.array([u, v, 1.0])
    depth = np.arange(2.0, 6.0, 0.002) / scale[0]
    points = depth[:, None] * direction
    inside = np.zeros(len(depth), bool)
    for n in range(len(CAPSULES)):
        local = (points - start[n]) @ axes[n].T / np.array([ratio[n], 1, 1])
        z = np.clip(local[:, 2], 0, length[n])
        cone = (local[:, 2] >= 0) & (local[:, 2] <= length[n])
        side = np.hypot(local[:, 0], local[:, 1]) < r0[n] + (r1[n] - r0[n]) * z / length[n]
        inside |= cone & side
        for centre, radius in ((0.0, r0[n]), (length[n], r1[n])):
            inside |= np.linalg.norm(local - [0, 0, centre], axis=-1) < radius
    return float(depth[inside.argmax()]) if inside.any() else float("inf")


@pytest.mark.parametrize("hair", [True, False])
def test_depth_is_where_a_ray_enters_the_first_capsule(hair: bool) -> None:
    camera, avatar = front_camera(), make_avatar(default_proxy(hair))
    maps = _maps(avatar, camera)
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero((maps.gap[0, 0].abs() > 1).numpy())
    chosen = rng.choice(len(rows), 300, replace=False)
    hits = 0
    for y, x in zip(rows[chosen], columns[chosen], strict=True):
        expected = _marched_depth(avatar, camera, x + 0.5, y + 0.5)
        assert (maps.part[0, y, x] > 0).item() == np.isfinite(expected)
        if np.isfinite(expected):
            assert maps.depth[0, 0, y, x].item() == pytest.approx(expected, abs=0.006)
            hits += 1
    assert hits > 50


def test_every_part_shows_up_where_the_body_has_it(avatar: Avatar) -> None:
    front, joints = _maps(avatar, front_camera()), standing()[0]
    behind = replace(front_camera(), R=front_camera().R @ np.diag([-1.0, -1, 1]))
    back = _maps(avatar, behind)
    seen = {int(p) for maps in (front, back) for p in maps.part.unique()}
    assert seen >= set(range(1, 25))
    for maps, camera, torso, head in ((front, front_camera(), 2, 24), (back, behind, 1, 23)):
        for point, part in (
            (joints[[INDEX["MidHip"], INDEX["Neck"]]].mean(0), torso),
            (joints[INDEX["Nose"]] + [0, 0, 0.03], head),
        ):
            (x, y), _ = camera.project(point)
            assert maps.part[0, int(y), int(x)] == part


def test_what_is_absent_leaves_no_trace() -> None:
    behind = replace(front_camera(), R=front_camera().R @ np.diag([-1.0, -1, 1]))
    with_hair, without = (_maps(make_avatar(default_proxy(hair)), behind) for hair in (True, False))
    # Hair has a place of its own on the texture of the back of the head: its lower half (rects of the capsules).
    on_hair = [((m.part == 23) & (m.visible[:, 1] > 0.5)).sum().item() for m in (with_hair, without)]
    assert on_hair[0] > 20 and on_hair[1] == 0
    prior = [(m.logits[:, 22] > -8).sum().item() for m in (with_hair, without)]
    assert prior[1] < prior[0]  # nor in the margin around it
    assert ((without.part > 0) <= (with_hair.part > 0)).all()


def test_maps_are_consistent(avatar: Avatar) -> None:
    maps = _maps(avatar, front_camera())
    part = maps.part[0]
    assert ((maps.coordinates >= 0) & (maps.coordinates <= 1)).all()
    assert ((maps.gap[0, 0] < 0) == (part > 0)).float().mean() > 0.99
    assert (maps.logits[0].argmax(0)[part > 0] == part[part > 0] - 1).float().mean() > 0.99
    y, x = torch.nonzero(part > 0, as_tuple=True)
    k = part[y, x] - 1
    own = torch.stack([maps.coordinates[0, 2 * k, y, x], maps.coordinates[0, 2 * k + 1, y, x]])
    torch.testing.assert_close(maps.visible[0][:, y, x], own)


@pytest.mark.parametrize("factor", [0.01, 10.0])
def test_the_scene_s_units_do_not_matter(avatar: Avatar, factor: float) -> None:
    camera = front_camera()
    plain, scaled = _maps(avatar, camera), _maps(avatar, replace(camera, t=camera.t * factor), factor)
    assert (plain.part == scaled.part).float().mean() > 0.999
    both = (plain.part > 0) & (scaled.part == plain.part)
    torch.testing.assert_close(plain.depth[:, 0][both], scaled.depth[:, 0][both], atol=1e-3, rtol=0)


def test_an_orthographic_camera_is_a_long_lens_far_away(avatar: Avatar) -> None:
    far = front_camera(distance=400.0, focal=20000.0)
    ortho = replace(far, K=np.array([[50.0, 0, 24], [0, 50, 48], [0, 0, 1]]), orthographic=True)
    a, b = _maps(avatar, far), _maps(avatar, ortho)
    assert (a.part == b.part).float().mean() > 0.99
    both = (a.part == b.part) & (a.part > 0)
    torch.testing.assert_close(a.depth[:, 0][both], b.depth[:, 0][both], atol=5e-3, rtol=0)


def test_wide_lenses_see_the_whole_surface_off_the_axis(avatar: Avatar) -> None:
    camera = front_camera(distance=2.0, focal=40.0, size=(96, 192))
    joints, confidence = standing()
    aside = joints + [2.4, 0, 0]
    maps = avatar.proxy_maps(aside[None], confidence[None], [camera])
    whole = cast_everything(avatar, aside, confidence, camera)
    assert whole.any() and ((maps.part[0] > 0).numpy() == whole).mean() > 0.9995


def cast_everything(avatar: Avatar, joints: np.ndarray, confidence: np.ndarray, camera: Camera) -> np.ndarray:
    """Which pixels any capsule is seen in, with bounding boxes as large as the picture: a huge margin."""
    scale = avatar.scale_of(joints[None], confidence[None])
    frames = body_frames(joints[None] / scale, confidence[None], avatar.rest_frames)
    posed = pose_capsules(frames_in_camera(frames, [camera], scale), avatar.proxy_params)
    hits = cast(posed, camera_rays([camera], scale, torch.device("cpu")), camera.height, camera.width, 1000.0)
    seen = np.zeros(camera.height * camera.width, bool)
    seen[hits.pixel[(hits.hit < 1e5) & (hits.gap < 0)].numpy()] = True
    return seen.reshape(camera.height, camera.width)


def test_absent_hands_feet_and_head_take_their_rest_places(avatar: Avatar) -> None:
    joints, _ = standing()
    keep = {*REQUIRED_JOINTS, "LElbow", "RElbow", "LWrist", "RWrist", "LKnee", "RKnee", "LAnkle", "RAnkle"}
    known = np.array([name in keep for name in INDEX])
    frames = body_frames(np.where(known[:, None], joints, np.nan)[None], known[None].astype(float), avatar.rest_frames)
    assert np.isfinite(frames.origin).all() and np.isfinite(frames.axes).all()
    eye = frames.joints[0, INDEX["LEye"]]
    assert np.linalg.norm(eye - joints[INDEX["LEye"]]) < 0.05
    toe = frames.joints[0, INDEX["RBigToe"]]
    assert np.linalg.norm(toe - joints[INDEX["RBigToe"]]) < 0.12


def test_geometry_survives_the_header_and_damage_is_noticed() -> None:
    plain = default_proxy().to_dict()
    np.testing.assert_allclose(ProxyGeometry.from_dict(plain).params, default_proxy().params, atol=1e-6)
    del plain["params"]["skull"]
    with pytest.raises(ValueError, match="skull"):
        ProxyGeometry.from_dict(plain)


def test_a_rest_pose_without_hands_and_feet_gets_typical_ones() -> None:
    joints, confidence = standing()
    for name, i in INDEX.items():
        if name.endswith(("Toe", "Heel")) or "Hand" in name or name in ("Nose", "LEye", "REye", "LEar", "REar"):
            joints[i], confidence[i] = 0, 0
    frames = body_frames(joints[None], confidence[None])
    placed = frames.joints[0]
    for side in "LR":
        wrist, elbow = placed[INDEX[f"{side}Wrist"]], placed[INDEX[f"{side}Elbow"]]
        tip = placed[INDEX[f"{side}Hand_HandMiddle4"]]
        assert 0.08 < np.linalg.norm(tip - wrist) < 0.2 and (tip - wrist) @ (wrist - elbow) > 0
        toe, heel = placed[INDEX[f"{side}BigToe"]], placed[INDEX[f"{side}Heel"]]
        assert toe[1] < heel[1] - 0.15 and abs(toe[2] - heel[2]) < 0.12  # the person faces -Y
    assert placed[INDEX["Nose"], 1] < -0.05 and placed[INDEX["LEar"], 0] > placed[INDEX["REar"], 0] + 0.1
    avatar = Avatar(AvatarConfig("static", SIZE, texture_size=16), joints, confidence)
    maps = avatar.proxy_maps(joints[None], confidence[None], [front_camera()])
    assert 0.02 < (maps.part > 0).float().mean() < 0.4
