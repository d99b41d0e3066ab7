# SPDX-License-Identifier: GPL-3.0-or-later
"""3D motion of other programs, right and wrong: metres with Z up come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, FACE, INDEX, JOINT_COUNT, LEFT_HAND
from neural_avatar.training.footage.readers.cameras import rotation
from neural_avatar.training.footage.readers.poses import is_motion, read_motion, read_poses
from neural_avatar.training.footage.records import Motion
from support.readers import flat, refusal, write_json


def panoptic_poses(folder: Path) -> Path:
    """Two people; 7 in all three frames, 3 in the first."""
    for frame in (100, 101, 103):
        bodies = []
        for who in (7, 3) if frame == 100 else (7,):
            joints = [[10.0 * j, -100.0 - j, 5.0 * who, 0.8] for j in range(19)]
            joints[5] = [0, 0, 0, -1]
            bodies.append({"id": who, "joints19": flat(joints)})
        bodies.append({"id": -1, "joints19": [0] * 76})
        write_json(folder / "hdPose3d_stage1_coco19" / f"body3DScene_{frame:08d}.json", {"bodies": bodies})
        hand = {"landmarks": list(range(1, 64)), "averageScore": [0.5] * 20 + [0]}
        write_json(folder / "hdHand3d" / f"handRecon3D_hd{frame:08d}.json", {"people": [{"id": 7, "left_hand": hand}]})
        write_json(
            folder / "hdFace3d" / f"faceRecon3D_hd{frame:08d}.json",
            {"people": [{"id": 7, "face70": {"landmarks": [100.0] * 210, "averageScore": [0.9] * 70}}]},
        )
    return folder


def test_panoptic_motion_is_metres_with_z_up(tmp_path: Path) -> None:
    folder = panoptic_poses(tmp_path)
    motion = read_poses(folder, [])
    assert isinstance(motion, Motion) and is_motion(folder)
    assert motion.joints.shape == (3, JOINT_COUNT, 3) and np.allclose(motion.times * 29.97, (100, 101, 103))
    hip = motion.joints[0, INDEX["MidHip"]]  # the third of 19: (20, -102, 35) cm, -Y up
    assert np.allclose(hip, (0.2, 0.35, 1.02), atol=1e-6)
    assert motion.confidence[0, INDEX["LWrist"]] == 0 and motion.confidence[0, INDEX["LBigToe"]] == 0
    assert np.allclose(motion.joints[1, LEFT_HAND + 1], (0.04, 0.06, -0.05), atol=1e-6)
    assert motion.confidence[1, LEFT_HAND + 20] == 0 and motion.confidence[2, FACE + 69] == pytest.approx(0.9)
    second = read_motion(folder, person=3)
    assert list((second.confidence > 0).any(1)) == [True, False, False]
    refusal(lambda: read_motion(folder, person=5), "person 5", "3, 7", code="poses-person")


def test_wrong_panoptic_poses_name_file_and_field(tmp_path: Path) -> None:
    folder = panoptic_poses(tmp_path) / "hdPose3d_stage1_coco19"
    write_json(folder / "body3DScene_00000101.json", {"bodies": [{"id": 7, "joints19": [1, 2]}]})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "person 7", "'joints19'", "19 x 4")
    write_json(folder / "body3DScene_00000101.json", {"bodies": [{"id": 7, "joints15": [1, 2]}]})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "'joints19'")
    write_json(folder / "body3DScene_00000101.json", {})
    refusal(lambda: read_motion(tmp_path), "body3DScene_00000101.json", "'bodies'")


MARKERS = ("Hip", "RHip", "RKnee", "RAnkle", "LHip", "LKnee", "LAnkle", "Neck", "Head", "left_shoulder", "RShoulder")

#: Metres, Y up, of the markers above.
STANDING = np.array(
    [[0, 1, 0], [-0.1, 1, 0], [-0.1, 0.55, 0], [-0.1, 0.1, 0], [0.1, 1, 0], [0.1, 0.55, 0], [0.1, 0.1, 0], [0, 1.45, 0],
     [0, 1.6, 0], [0.2, 1.4, 0], [-0.2, 1.4, 0]]
)  # fmt: skip


def trc_file(path: Path, unit: str = "m", scale: float = 1.0, points: np.ndarray = STANDING) -> Path:
    names = "\t\t\t".join(MARKERS)
    axes = "\t".join(f"{a}{i + 1}" for i in range(len(MARKERS)) for a in "XYZ")
    head = "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames"
    lines = [
        "PathFileType\t4\t(X/Y/Z)\tout.trc", head, f"60\t60\t3\t{len(MARKERS)}\t{unit}\t60\t1\t3",
        f"Frame#\tTime\t{names}\t\t", f"\t\t{axes}", "",
    ]  # fmt: skip
    for i in range(3):
        lines.append("\t".join([str(i + 1), f"{i / 60:.6f}", *(f"{v:.6f}" for v in (points * scale).ravel())]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(("unit", "scale"), [("m", 1.0), ("mm", 1000.0)])
def test_trc_is_metres_with_z_up(tmp_path: Path, unit: str, scale: float) -> None:
    motion = read_motion(trc_file(tmp_path / "a.trc", unit, scale))
    assert np.allclose(motion.joints[2, INDEX["RKnee"]], (-0.1, 0, 0.55), atol=1e-5)
    assert np.allclose(motion.joints[2, INDEX["LShoulder"]], (0.2, 0, 1.4), atol=1e-5)
    assert np.allclose(motion.joints[0, INDEX["MidHip"]], (0, 0, 1), atol=1e-5)
    assert motion.times == pytest.approx([0, 1 / 60, 2 / 60], abs=1e-5) and (motion.confidence[0] > 0).sum() == 10
    lying = read_motion(trc_file(tmp_path / "z.trc", points=STANDING[:, [0, 2, 1]]))  # a file whose Z is up already
    assert np.allclose(lying.joints[0, INDEX["RKnee"]], (-0.1, 0, 0.55), atol=1e-5)


def test_wrong_trc_names_file_and_line(tmp_path: Path) -> None:
    path = trc_file(tmp_path / "a.trc")
    good = path.read_text()
    for old, new, words in (
        ("PathFileType\t4", "Path", ("PathFileType",)),
        ("\tm\t", "\tfoot\t", ("line 3", "Units", "foot")),
        ("1.450000", "high", ("line 7", "high")),
        ("0.016667", "0.000000", ("times",)),
    ):
        assert old in good
        path.write_text(good.replace(old, new))
        refusal(lambda: read_motion(path), "a.trc", *words)
    path.write_text("\n".join(good.splitlines()[:6]))
    refusal(lambda: read_motion(path), "a.trc", "no frames")


def bvh_file(path: Path, bones: dict[str, tuple[str, tuple[float, float, float]]], rows: list[list[float]]) -> Path:
    """bones: name → (parent, offset), roots with the parent ''. rows: the root's position and Z, X, Y rotations, then
    every other bone's rotations; what a row lacks is 0."""
    lines = ["HIERARCHY"]
    width = 0

    def write(name: str, depth: int) -> None:
        nonlocal width
        pad = "  " * depth
        places = "6 Xposition Yposition Zposition " if depth == 0 else "3 "
        width += 6 if depth == 0 else 3
        offset = " ".join(map(str, bones[name][1]))
        lines.extend([f"{pad}{'JOINT' if depth else 'ROOT'} {name}", pad + "{", f"{pad}OFFSET {offset}"])
        lines.append(f"{pad}CHANNELS {places}Zrotation Xrotation Yrotation")
        children = [child for child, (parent, _) in bones.items() if parent == name]
        for child in children:
            write(child, depth + 1)
        if not children:
            lines.extend([f"{pad}End Site", pad + "{", "OFFSET 0 5 0", pad + "}"])
        lines.append(pad + "}")

    write(next(iter(bones)), 0)
    lines += ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.033333"]
    lines += [" ".join(map(str, row + [0.0] * (width - len(row)))) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def mixamo(prefix: str = "mixamorig:", side: tuple[str, str] = ("Left", "Right")) -> dict[str, Any]:
    """A standing person in centimetres, Y up, facing Z."""
    bones = {"Hips": ("", (0.0, 100.0, 0.0)), "Spine": ("Hips", (0.0, 40.0, 0.0)), "Head": ("Spine", (0.0, 20.0, 0.0))}
    for word, x in zip(side, (1.0, -1.0), strict=True):
        bones |= {
            f"{word}UpLeg": ("Hips", (10 * x, 0.0, 0.0)), f"{word}Leg": (f"{word}UpLeg", (0.0, -45.0, 0.0)),
            f"{word}Foot": (f"{word}Leg", (0.0, -45.0, 0.0)), f"{word}ToeBase": (f"{word}Foot", (0.0, -7.0, 13.0)),
            f"{word}Shoulder": ("Spine", (5 * x, 5.0, 0.0)), f"{word}Arm": (f"{word}Shoulder", (12 * x, 0.0, 0.0)),
            f"{word}ForeArm": (f"{word}Arm", (28 * x, 0.0, 0.0)), f"{word}Hand": (f"{word}ForeArm", (25 * x, 0.0, 0.0)),
        }  # fmt: skip
    return {prefix + n: (prefix + p if p else "", offset) for n, (p, offset) in bones.items()}


def test_bvh_is_metres_with_z_up(tmp_path: Path) -> None:
    # In the second frame the person has turned by 90 degrees about the vertical and gone half a metre.
    row = [50.0, 100.0, 0.0, 0.0, 0.0, 90.0]
    motion = read_motion(bvh_file(tmp_path / "a.bvh", mixamo(), [[0, 100.0, 0], row]))
    assert motion.times == pytest.approx([0, 1 / 30], abs=1e-4)
    at = {n: motion.joints[0, INDEX[n]] for n in BODY_JOINTS}
    assert np.allclose(at["LWrist"], (0.70, 0, 1.45), atol=1e-5) and np.allclose(
        at["RKnee"], (-0.1, 0, 0.55), atol=1e-5
    )
    assert np.allclose(at["Neck"], (0, 0, 1.45), atol=1e-5)
    # He looks along +Z of the file, which is -Y of ours, and what no BVH has lies where people have it.
    assert at["Nose"][1] < -0.1 and at["LBigToe"][1] < -0.1 < 0 < at["LHeel"][1] and at["LHeel"][2] < 0.09
    assert at["LEar"][0] > at["REar"][0] and 1.5 < at["LEye"][2] < 1.7
    turned = motion.joints[1]
    assert np.allclose(turned[INDEX["LWrist"]], (0.5, 0.70, 1.45), atol=1e-4)
    assert turned[INDEX["Nose"]][0] > 0.6
    assert motion.confidence[0, LEFT_HAND] == 0


def test_bvh_rotations_follow_the_channels_order(tmp_path: Path) -> None:
    bones = mixamo()
    rows = [0.0] * (6 + 3 * (len(bones) - 1))
    rows[1] = 100.0
    order = ["mixamorig:Hips"]

    def visit(name: str) -> None:
        for child, (parent, _) in bones.items():
            if parent == name:
                order.append(child)
                visit(child)

    visit("mixamorig:Hips")
    column = 3 + 3 * order.index("mixamorig:LeftForeArm")
    rows[column : column + 3] = [30.0, 40.0, 50.0]
    motion = read_motion(bvh_file(tmp_path / "a.bvh", bones, [rows]))
    z, x, y = (rotation(np.radians(a) * np.eye(3)[i]) for a, i in ((30, 2), (40, 0), (50, 1)))
    wrist = np.array([45.0, 145, 0]) + z @ x @ y @ [25, 0, 0]
    assert np.allclose(motion.joints[0, INDEX["LWrist"]], np.array([wrist[0], -wrist[2], wrist[1]]) / 100, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "Character1:"])
def test_rigs_are_known_by_their_names(tmp_path: Path, prefix: str) -> None:
    assert read_motion(bvh_file(tmp_path / "a.bvh", mixamo(prefix), [[0, 100.0, 0]])).confidence[0, :25].all()
    metres = {n: (p, tuple(v / 100 for v in o)) for n, (p, o) in mixamo(prefix).items()}
    motion = read_motion(bvh_file(tmp_path / "m.bvh", metres, [[0, 1.0, 0]]))
    assert motion.joints[0, INDEX["Neck"], 2] == pytest.approx(1.45)
    odd = {n.replace("ForeArm", "Noodle"): (p.replace("ForeArm", "Noodle"), o) for n, (p, o) in mixamo(prefix).items()}
    refusal(lambda: read_motion(bvh_file(tmp_path / "b.bvh", odd, [[0, 100.0, 0]])), "b.bvh", "LElbow")


def test_wrong_bvh_names_file_and_line(tmp_path: Path) -> None:
    path = bvh_file(tmp_path / "a.bvh", mixamo(), [[0, 100.0, 0]] * 3)
    good = path.read_text()
    for old, new, words in (
        ("Frames: 3", "Frames: 4", ("3 frames instead of 4",)),
        ("OFFSET 0.0 40.0 0.0", "OFFSET 0.0 40.0", ("line", "3 values")),
        ("OFFSET 0.0 40.0 0.0", "OFFSET 0.0 up 0.0", ("line", "'up'")),
        ("Frame Time: 0.033333", "Frame Time: 0", ("frame time",)),
        ("Zrotation", "Wrotation", ("Wrotation",)),
        ("MOTION", "", ("MOTION",)),
        ("HIERARCHY", "", ("line 2", "HIERARCHY")),
    ):
        path.write_text(good.replace(old, new))
        refusal(lambda: read_motion(path), "a.bvh", *words)
    tiny = {n: (p, tuple(v / 1e6 for v in o)) for n, (p, o) in mixamo().items()}
    refusal(lambda: read_motion(bvh_file(tmp_path / "t.bvh", tiny, [[0.0]])), "t.bvh", "legs")


def test_real_motion_stands_on_the_floor(shared: Path) -> None:
    for name, frames in (("002_03", 86), ("005_06", 443)):
        motion = read_motion(shared / "motion" / f"{name}.bvh")
        body = motion.joints[:, :25]
        assert len(motion) == frames and motion.confidence[:, :25].all() and motion.confidence[0, LEFT_HAND + 8] == 0
        assert motion.confidence[0, LEFT_HAND + 5 : LEFT_HAND + 8].all()
        assert abs(np.percentile(body[..., 2].min(1), 20)) < 0.06
        thigh = np.linalg.norm(body[:, INDEX["LHip"]] - body[:, INDEX["LKnee"]], axis=-1)
        assert np.ptp(thigh) < 1e-3 and 0.4 < thigh[0] < 0.55
