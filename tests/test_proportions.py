# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit Proportions: directions from the rig, lengths from the avatar, feet on the ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neural_avatar.addon.retarget import retarget
from neural_avatar.neural_backend.interface.skeleton import BODY_BONES, INDEX, JOINT_COUNT, LEFT_HAND, bone_lengths
from support.blender_scripts import read_passes, run
from support.people import rest_skeleton

#: Bones of trunk and limbs: those that keep the rig's direction exactly.
_DIRECT = [
    (INDEX[a], INDEX[b])
    for a, b in [("MidHip", "Neck")]
    + [
        (s + a if a not in ("Neck", "MidHip") else a, s + b)
        for s in "LR"
        for a, b in (("Neck", "Shoulder"), ("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("MidHip", "Hip"),
                     ("Hip", "Knee"), ("Knee", "Ankle"))
    ]
]  # fmt: skip


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _other_build(rest: np.ndarray) -> np.ndarray:
    """The body twice as tall, with long arms and short legs, standing on the ground."""
    other = 2.0 * rest
    for side in "LR":
        hand = [i for name, i in INDEX.items() if name.startswith(f"{side}Hand_")]
        arm = other[INDEX[f"{side}Wrist"]] - other[INDEX[f"{side}Shoulder"]]
        other[INDEX[f"{side}Elbow"]] += 0.25 * arm
        other[[INDEX[f"{side}Wrist"], *hand]] += 0.5 * arm
    legs = [INDEX[s + j] for s in "LR" for j in ("Hip", "Knee", "Ankle", "BigToe", "SmallToe", "Heel")]
    upper = np.setdiff1d(np.arange(JOINT_COUNT), legs)
    other[legs, 2] *= 0.7
    other[upper, 2] -= 0.3 * 2.0 * rest[INDEX["LHip"], 2]
    return other


@pytest.mark.parametrize("moved", [(0.0, 0.0, 0.0), (3.0, -2.0, 0.5)])
def test_another_build_gets_the_avatars_lengths_and_keeps_its_directions(moved: tuple[float, float, float]) -> None:
    rest, confidence = rest_skeleton()
    rest = rest - (0, 0, rest[:25, 2].min())
    other = _other_build(rest)
    knee = INDEX["RAnkle"], INDEX["RBigToe"], INDEX["RSmallToe"], INDEX["RHeel"]
    other[list(knee)] += (0.0, 0.3, 0.25)  # one foot in the air
    origin = np.array(moved)
    fitted = retarget(other + origin, confidence, rest, confidence, 1.0, origin) - origin
    for bones, tolerance in ((BODY_BONES, 1e-6),):
        lengths, wanted = (np.array([np.linalg.norm(j[a] - j[b]) for a, b in bones]) for j in (fitted, rest))
        inside = [i for i, (a, b) in enumerate(bones) if (a, b) not in ((1, 0),)]
        assert np.abs(lengths - wanted)[inside].max() < tolerance
    for a, b in _DIRECT:
        assert _unit(fitted[b] - fitted[a]) @ _unit(other[b] - other[a]) > 1 - 1e-9, (a, b)
    soles = [INDEX[s + j] for s in "LR" for j in ("BigToe", "SmallToe", "Heel")]
    assert abs(fitted[soles, 2].min()) < 1e-9
    # The palm has the avatar's size, the pose of the fingers is the rig's.
    palm = [LEFT_HAND + i for i in (5, 9, 13, 17)]
    sizes = [np.linalg.norm(j[palm] - j[LEFT_HAND], axis=1).sum() for j in (fitted, rest)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-6)


def test_the_avatars_own_build_stays_as_it_is() -> None:
    rest, confidence = rest_skeleton()
    fitted = retarget(rest, confidence, rest, confidence, 1.0, (0, 0, 0))
    assert np.abs(fitted - rest)[confidence > 0].max() < 1e-9
    larger = retarget(3 * rest, confidence, rest, confidence, 3.0, (0, 0, 0))
    assert np.abs(larger - 3 * rest)[confidence > 0].max() < 1e-9


def test_a_way_is_as_long_as_the_legs_make_it() -> None:
    rest, confidence = rest_skeleton()
    step = np.array([1.0, 0.5, 0.0])
    here, there = (retarget(2 * rest + way, confidence, rest, confidence, 1.0, (0, 0, 0)) for way in (0 * step, step))
    assert np.abs(there - here - step / 2)[confidence > 0].max() < 1e-9


def test_motion_capture_moves_an_avatar_of_other_build(
    bpy_python: Path, tmp_path: Path, avatar: Path, shared: Path
) -> None:
    """A rig nobody here made, imported by Blender's own importer at twice its size."""
    motion = shared / "motion" / "002_03.bvh"
    told = run(bpy_python, "proportions.py", avatar, tmp_path, motion, resources=tmp_path / "config")
    assert told["preset"] and told["mapped"] > 15
    found = np.load(tmp_path / "joints.npz")
    rest = rest_skeleton()[0].astype(np.float32)
    rig, fitted, half, same = (found[n].astype(float) for n in ("rig", "fitted", "half", "same_size"))
    wanted = bone_lengths(rest)
    skip = [i for i, bone in enumerate(BODY_BONES) if bone == (1, 0)]
    keep = np.setdiff1d(np.arange(len(BODY_BONES)), skip)
    assert np.abs(bone_lengths(fitted) - wanted)[:, keep].max() < 1e-3
    assert np.abs(bone_lengths(rig) - wanted)[:, keep].max() > 0.2  # it is another build
    for a, b in _DIRECT:
        assert ((_unit(fitted[:, b] - fitted[:, a]) * _unit(rig[:, b] - rig[:, a])).sum(-1) > 1 - 1e-5).all()
    assert np.abs(half - (rig + fitted) / 2).max() < 1e-4
    # A runner's lower foot: as high over the ground as shorter legs lift it.
    soles = [INDEX[s + j] for s in "LR" for j in ("BigToe", "SmallToe", "Heel")]
    lows = [j[:, soles, 2].min(1) for j in (rig, fitted)]
    ratio = lows[1] / lows[0]
    assert np.ptp(ratio) < 1e-3 and 0.3 < ratio.mean() < 0.8
    sizes = [np.linalg.norm(j[:, INDEX["LKnee"]] - j[:, INDEX["LAnkle"]], axis=-1).mean() for j in (rig, same)]
    assert 0.7 < sizes[1] / sizes[0] < 1.4
    assert read_passes(tmp_path / "picture.exr")["Mask"].max() > 0.9
