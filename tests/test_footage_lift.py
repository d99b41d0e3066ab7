# SPDX-License-Identifier: GPL-3.0-or-later
"""The perceptron that lifts 2D poses: that it learns, is kept safely, and reconstructs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, INDEX, JOINT_COUNT, bone_lengths
from neural_avatar.training.footage.lift import LiftConfig, Lifter, lift, load_lift, reconstruct_lifted, save_lift
from neural_avatar.training.footage.lift_train import LiftOptions, train_lift
from neural_avatar.training.footage.monocular import MonocularOptions
from neural_avatar.training.footage.records import CalibratedCamera, Detections, Motion

BODY, HIP = 25, INDEX["MidHip"]
SMALL = LiftOptions(steps=1200, batch=64, rate=2e-3, config=LiftConfig(width=128, blocks=1))
#: A person in metres, Z up, facing -Y, in BODY_25's order.
REST = np.array(
    [[0, -0.15, 1.6], [0, 0, 1.45], [-0.18, 0, 1.45], [-0.25, 0, 1.18], [-0.25, -0.05, 0.93], [0.18, 0, 1.45],
     [0.25, 0, 1.18], [0.25, -0.05, 0.93], [0, 0, 1], [-0.09, 0, 1], [-0.1, 0, 0.55], [-0.1, 0, 0.1], [0.09, 0, 1],
     [0.1, 0, 0.55], [0.1, 0, 0.1], [-0.03, -0.12, 1.64], [0.03, -0.12, 1.64], [-0.07, -0.02, 1.63],
     [0.07, -0.02, 1.63], [0.08, -0.18, 0.02], [0.14, -0.16, 0.02], [0.1, 0.05, 0.03], [-0.08, -0.18, 0.02],
     [-0.14, -0.16, 0.02], [-0.1, 0.05, 0.03]]
)  # fmt: skip


def about(axis: int, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out = np.eye(3)
    out[a, a], out[a, b], out[b, a], out[b, b] = c, -s, s, c
    return out


def walk(frames: int = 90, feet: bool = True) -> Motion:
    """Somebody who raises arms and legs forwards by turns, once a second, at 30 frames a second. A limb never swings
    backwards: seen from the front it would look as it does forwards, and no perceptron could tell which it was."""
    times = np.arange(frames) / 30
    body = np.repeat(REST[None], frames, 0)
    chains = {
        "RShoulder": ("RElbow", "RWrist"), "LShoulder": ("LElbow", "LWrist"),
        "RHip": ("RKnee", "RAnkle", "RBigToe", "RSmallToe", "RHeel"),
        "LHip": ("LKnee", "LAnkle", "LBigToe", "LSmallToe", "LHeel"),
    }  # fmt: skip
    for i, time in enumerate(times):
        for root, chain in chains.items():
            sign = 1 if root in ("RShoulder", "LHip") else -1
            turn = about(0, 0.5 * sign * np.sin(2 * np.pi * time) - 0.5)
            pivot = REST[INDEX[root]]
            for name in chain:
                body[i, INDEX[name]] = pivot + turn @ (REST[INDEX[name]] - pivot)
    joints = np.zeros((frames, JOINT_COUNT, 3), np.float32)
    joints[:, :BODY] = body
    confidence = np.zeros((frames, JOINT_COUNT), np.float32)
    confidence[:, : BODY if feet else 19] = 1
    return Motion(joints, confidence, times, "walk.bvh")


def film(motion: Motion, yaw: float = 0.6) -> tuple[Detections, np.ndarray, CalibratedCamera]:
    """What a camera four metres away sees of a motion, the body in camera axes, and the camera's lens."""
    level = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    k = np.array([[900.0, 0, 320], [0, 900, 360], [0, 0, 1]])
    camera = Camera(k, level @ about(2, yaw), np.array([0, 0.9, 4.5]), 640, 720)
    pixels, _ = camera.project(motion.joints)
    points = np.where(motion.confidence[..., None] > 0, pixels, 0).astype(np.float32)
    found = Detections(points, motion.confidence, motion.times, 640, 720, "film")
    lens = CalibratedCamera("cam", Camera(k, np.eye(3), np.zeros(3), 640, 720))
    return found, camera.to_camera(motion.joints[:, :BODY]), lens


@pytest.fixture(scope="module")
def lifter() -> Lifter:
    torch.set_num_threads(1)
    return train_lift([walk()], SMALL)


def error(body: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of joints in metres, MidHip aligned."""
    off = (body - body[:, HIP, None]) - (truth - truth[:, HIP, None])
    return float(np.linalg.norm(off, axis=-1).mean())


def test_perceptron_learns_the_depth_of_its_motion(lifter: Lifter) -> None:
    errors, flat_errors = [], []
    for yaw in (0.0, 0.6, 1.5, 2.5, 4.0):
        found, truth, _ = film(walk(), yaw)
        world = lift(found, lifter)
        assert world.shape == (90, JOINT_COUNT, 3) and world.dtype == np.float32
        assert np.isfinite(world[:, :BODY]).all() and np.isnan(world[:, BODY:]).all()
        flat = truth.copy()
        flat[..., 2] = flat[:, HIP, None, 2]
        errors.append(error(world[:, :BODY], truth))
        flat_errors.append(error(flat, truth))
    assert np.mean(errors) < 0.4 * np.mean(flat_errors)
    assert lifter.about["trained_on"] == ["walk.bvh"] and lifter.about["error_mm"] < 80
    # Every pose has the size of the people that it learned from.
    assert lifter.size == pytest.approx(np.median(_size(walk().joints)), rel=1e-4)
    assert _size(np.nan_to_num(world)) == pytest.approx(np.full(90, lifter.size), rel=1e-3)


def _size(joints: np.ndarray) -> np.ndarray:
    from neural_avatar.neural_backend.interface.skeleton import SIZE_BONES

    a, b = np.array(SIZE_BONES).T
    return np.linalg.norm(joints[:, a] - joints[:, b], axis=-1).sum(1)


def test_distance_and_place_in_the_picture_do_not_matter(lifter: Lifter) -> None:
    found, _, _ = film(walk(8))
    moved = Detections(found.points * 0.5 + np.float32(70), found.confidence, found.times, 640, 720, "moved")
    assert np.allclose(lift(found, lifter)[:, :BODY], lift(moved, lifter)[:, :BODY], atol=1e-4)


def test_frames_without_hips_are_not_lifted_and_others_bear_gaps(lifter: Lifter) -> None:
    found, truth, _ = film(walk(30))
    confidence = found.confidence.copy()
    confidence[3, HIP] = 0
    confidence[10:20, INDEX["LWrist"]] = 0
    world = lift(Detections(found.points, confidence, found.times, 640, 720, "film"), lifter)
    assert np.isnan(world[3]).all() and np.isfinite(world[[2, 4]][:, :BODY]).all()
    assert error(world[10:20, :BODY], truth[10:20]) < 0.08


def test_training_is_repeatable_and_leaves_the_random_state_alone() -> None:
    options = LiftOptions(steps=3, batch=8, config=LiftConfig(width=16, blocks=1))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = train_lift([walk()], options), train_lift([walk()], options)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_joints_that_the_motion_lacks_are_never_given() -> None:
    lifter = train_lift([walk(feet=False)], LiftOptions(steps=2, batch=8, config=LiftConfig(width=16, blocks=1)))
    found, _, _ = film(walk(6))
    world = lift(found, lifter)
    assert np.isnan(world[:, INDEX["LBigToe"]]).all() and np.isfinite(world[:, INDEX["LAnkle"]]).all()


def test_too_little_motion_is_refused() -> None:
    for motions in ([], [walk(4)]):
        with pytest.raises(BackendError) as caught:
            train_lift(motions, SMALL)
        assert caught.value.code == "lift-motion"


def test_perceptron_is_kept_whole(lifter: Lifter, tmp_path: Path) -> None:
    save_lift(tmp_path / "a.lift", lifter)
    again = load_lift(tmp_path / "a.lift")
    found, _, _ = film(walk(8))
    assert np.array_equal(lift(found, lifter), lift(found, again), equal_nan=True)
    assert again.about == lifter.about and list(tmp_path.iterdir()) == [tmp_path / "a.lift"]


def test_broken_files_are_refused_in_a_sentence(lifter: Lifter, tmp_path: Path) -> None:
    path = tmp_path / "a.lift"
    save_lift(path, lifter)
    data = path.read_bytes()

    def code(write: bytes | None = None) -> str:
        if write is not None:
            path.write_bytes(write)
        with pytest.raises(BackendError) as caught:
            load_lift(path)
        assert "a.lift" in caught.value.message
        return caught.value.code

    assert code(data[: len(data) // 2]) == "lift-corrupt"
    assert code(b"\x80\x04K\x01.") == "lift-corrupt"
    wide = json.dumps({"version": 1, "config": {"width": 10**9, "blocks": 1}, "size": 3, "joints": []})
    save_file({"x": torch.zeros(1)}, path, metadata={"neural_avatar_lift": wide})
    assert code() == "lift-corrupt"
    save_file({"x": torch.zeros(1)}, path, metadata={"neural_avatar_lift": json.dumps({"version": 99})})
    assert code() == "lift-newer"
    path.unlink()
    assert code() == "lift-missing"


def test_lifted_film_becomes_a_reconstruction(lifter: Lifter) -> None:
    found, truth, lens = film(walk())
    result = reconstruct_lifted(found, lens, lifter, MonocularOptions(height=1.75))
    body = result.motion.joints[:, :BODY]
    assert len(result.cameras) == 1 and result.motion.joints.shape == (90, JOINT_COUNT, 3)
    assert result.motion.confidence[:, :BODY].min() > 0 and result.motion.confidence[:, BODY:].max() == 0
    lengths = bone_lengths(np.pad(body, ((0, 0), (0, JOINT_COUNT - BODY), (0, 0))))
    thigh = lengths[:, 11]  # LHip to LKnee
    assert np.ptp(thigh) < 0.03 and 0.35 < thigh.mean() < 0.55
    assert np.nanmedian(result.reprojection) < 6
    assert abs(np.percentile(body[..., 2].min(1), 20)) < 0.1  # on the floor, upright
    assert (body[:, INDEX["Neck"], 2] > body[:, INDEX["LAnkle"], 2] + 1).all()
    assert error(result.cameras[0].camera.to_camera(body), truth) < 0.16


def test_command_trains_from_files(tmp_path: Path, shared: Path, root: Path) -> None:
    """Through the command's own function, as the command line hooks it in."""
    script = (
        "import runpy, sys, argparse, importlib\n"
        f"package = runpy.run_path({str(root / 'neural_backend' / 'start.py')!r})['load_package']().__name__\n"
        "command = importlib.import_module(f'{package}.training.footage.lift_command')\n"
        "parser = argparse.ArgumentParser()\n"
        "command.add_lift_command(parser.add_subparsers())\n"
        "options = parser.parse_args(sys.argv[1:])\n"
        "raise SystemExit(options.run(options))\n"
    )
    output = tmp_path / "mine.lift"
    motion = shared / "motion" / "002_03.bvh"
    command = [
        sys.executable,
        "-c",
        script,
        "lift-train",
        str(motion),
        "-o",
        str(output),
        "--steps",
        "3",
        "--width",
        "16",
    ]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "mine.lift" in answer.stderr and "mm off" in answer.stderr
    assert load_lift(output).about["trained_on"] == [str(motion)] and len(BODY_JOINTS) == BODY
