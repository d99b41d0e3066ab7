# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of bones in common rigs, as data.

A preset's table has one line per joint: the joint and the bones that may give it, the first that a rig has winning.
``{s}`` stands for the rig's word for a side and ``*`` in a joint for our own ``L`` or ``R``. A bone gives its head, or
its tail when it ends in ``>``. ``Head``, ``*Toes``, ``*ToeInner`` and ``*ToeOuter`` are guides: bones that carry what a
rig has no bone for (see mapping.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A rig whose bones have known names.

    key: identifier. label: for people. sides: the rig's words for left and right. table: see above. marks:
    bones that only this rig has.
    """

    key: str
    label: str
    sides: tuple[str, str]
    table: str
    marks: tuple[str, ...] = ()


def _fingers(pattern: str, names: str, joints: int = 3) -> str:
    """Lines for five fingers. pattern: with {f} for the finger's name and {i} for the bone's number; names: thumb to
    pinky."""
    lines = []
    for ours, theirs in zip(("Thumb", "Index", "Middle", "Ring", "Pinky"), names.split(), strict=True):
        for i in range(1, joints + 1):
            lines.append(f"*Hand_Hand{ours}{i} " + pattern.replace("{f}", theirs).replace("{i}", str(i)))
        last, tip = (pattern.replace("{f}", theirs).replace("{i}", str(i)) for i in (joints, joints + 1))
        lines.append(f"*Hand_Hand{ours}{joints + 1} {tip} {last}>")
    return "\n".join(lines)


_LEFT_RIGHT = """
*Shoulder {s}Arm
*Elbow {s}ForeArm
*Wrist {s}Hand
*Hip {s}UpLeg
*Knee {s}Leg
*Ankle {s}Foot
*Toes {s}ToeBase {s}Toe
Head Head
*Eye {s}Eye
"""


def _rigify(prefix: str) -> str:
    lines = """
*Shoulder @upper_arm.{s}
*Elbow @forearm.{s}
*Wrist @hand.{s}
*Hip @thigh.{s}
*Knee @shin.{s}
*Ankle @foot.{s}
*Toes @toe.{s}
Head @spine.006 @head @face
*Eye @eye.{s} ORG-eye.{s}
""" + _fingers("@{f}.0{i}.{s}", "thumb f_index f_middle f_ring f_pinky")
    return lines.replace("@", prefix)


PRESETS: tuple[Preset, ...] = (
    Preset(
        "MIXAMO",
        "Mixamo",
        ("Left", "Right"),
        _LEFT_RIGHT + _fingers("{s}Hand{f}{i}", "Thumb Index Middle Ring Pinky"),
        ("HeadTop_End", "LeftHandThumb4", "LeftToe_End"),
    ),
    Preset("RIGIFY", "Rigify (generated)", ("L", "R"), _rigify("DEF-"), ("ORG-upper_arm.L", "MCH-torso.parent")),
    Preset("RIGIFY_META", "Rigify (meta-rig)", ("L", "R"), _rigify(""), ("heel.02.L", "pelvis.L")),
    Preset(
        "CHARACTER_CREATOR",
        "Character Creator",
        ("L", "R"),
        """
*Shoulder CC_Base_{s}_Upperarm
*Elbow CC_Base_{s}_Forearm
*Wrist CC_Base_{s}_Hand
*Hip CC_Base_{s}_Thigh
*Knee CC_Base_{s}_Calf
*Ankle CC_Base_{s}_Foot
*Toes CC_Base_{s}_ToeBase
*ToeInner CC_Base_{s}_BigToe1
*ToeOuter CC_Base_{s}_PinkyToe1
Head CC_Base_FacialBone CC_Base_Head
*Eye CC_Base_{s}_Eye
"""
        + _fingers("CC_Base_{s}_{f}{i}", "Thumb Index Mid Ring Pinky"),
        ("CC_Base_BoneRoot", "CC_Base_Hip"),
    ),
    Preset(
        "MAKEHUMAN",
        "MakeHuman / MPFB (default)",
        ("L", "R"),
        """
*Shoulder upperarm01.{s}
*Elbow lowerarm01.{s}
*Wrist wrist.{s}
*Hip upperleg01.{s}
*Knee lowerleg01.{s}
*Ankle foot.{s}
*Toes toe2-1.{s} toe1-1.{s}
*ToeInner toe1-1.{s}
*ToeOuter toe5-1.{s}
Head head
*Eye eye.{s}
"""
        + _fingers("finger{f}-{i}.{s}", "1 2 3 4 5"),
        ("upperarm02.L", "spine05"),
    ),
    Preset(
        "MAKEHUMAN_GAME",
        "MakeHuman / MPFB (game engine), Unreal",
        ("l", "r"),
        """
*Shoulder upperarm_{s}
*Elbow lowerarm_{s}
*Wrist hand_{s}
*Hip thigh_{s}
*Knee calf_{s}
*Ankle foot_{s}
*Toes ball_{s}
Head head
"""
        + _fingers("{f}_0{i}_{s}", "thumb index middle ring pinky"),
        ("clavicle_l", "spine_01"),
    ),
    Preset(
        "MAKEHUMAN_OPENPOSE",
        "MakeHuman / MPFB (OpenPose)",
        ("L", "R"),
        """
MidHip MidHip
Neck Neck
Nose Neck>
*Shoulder {s}Shoulder>
*Elbow {s}Elbow>
*Wrist {s}Wrist>
*Hip {s}Hip>
*Knee {s}Knee>
*Ankle {s}Ankle>
*BigToe {s}BigToe>
*SmallToe {s}SmallToe>
*Heel {s}Heel>
*Eye {s}Eye>
*Ear {s}Ear>
""",
    ),
    Preset(
        "CMU",
        "CMU motion capture, MakeHuman / MPFB (cmu_mb)",
        ("Left", "Right"),
        _LEFT_RIGHT,
        ("LHipJoint", "LowerBack", "Neck1", "LThumb"),
    ),
    Preset(
        "MOTIONBUILDER",
        "MotionBuilder, Rokoko, Xsens",
        ("Left", "Right"),
        _LEFT_RIGHT + _fingers("{s}Hand{f}{i}", "Thumb Index Middle Ring Pinky") + "\n*Hand_HandThumb1 {s}InHandThumb",
        ("LeftInHandThumb", "LeftArmRoll"),
    ),
    Preset(
        "BVH_JOINTS",
        "BVH named by joints (Hips, Chest, LeftElbow…)",
        ("Left", "Right"),
        """
*Shoulder {s}Shoulder {s}UpArm
*Elbow {s}Elbow {s}LowArm
*Wrist {s}Wrist {s}Hand
*Hip {s}Hip {s}UpLeg
*Knee {s}Knee {s}LowLeg
*Ankle {s}Ankle {s}Foot
*Toes {s}Toe {s}Toes {s}ToeBase
Head Head
""",
        ("LeftCollar", "Chest"),
    ),
    Preset(
        "POSER",
        "Poser and DAZ",
        ("l", "r"),
        """
*Shoulder {s}Shldr {s}ShldrBend {s}_upperarm
*Elbow {s}ForeArm {s}ForearmBend {s}_forearm
*Wrist {s}Hand {s}_hand
*Hip {s}Thigh {s}ThighBend {s}_thigh
*Knee {s}Shin {s}_shin
*Ankle {s}Foot {s}_foot
*Toes {s}Toe {s}_toes
Head head
*Eye {s}Eye {s}_eye
"""
        + _fingers("{s}{f}{i}", "Thumb Index Mid Ring Pinky"),
        ("lButtock", "lCollar", "lShldrTwist"),
    ),
    Preset(
        "BIPED",
        "3ds Max Biped",
        ("L", "R"),
        """
*Shoulder Bip01_{s}_UpperArm Bip001_{s}_UpperArm
*Elbow Bip01_{s}_Forearm Bip001_{s}_Forearm
*Wrist Bip01_{s}_Hand Bip001_{s}_Hand
*Hip Bip01_{s}_Thigh Bip001_{s}_Thigh
*Knee Bip01_{s}_Calf Bip001_{s}_Calf
*Ankle Bip01_{s}_Foot Bip001_{s}_Foot
*Toes Bip01_{s}_Toe0 Bip001_{s}_Toe0
Head Bip01_Head Bip001_Head
""",
        ("Bip01_Pelvis", "Bip001_Pelvis"),
    ),
    Preset(
        "VRM",
        "VRoid / VRM",
        ("L", "R"),
        """
*Shoulder J_Bip_{s}_UpperArm
*Elbow J_Bip_{s}_LowerArm
*Wrist J_Bip_{s}_Hand
*Hip J_Bip_{s}_UpperLeg
*Knee J_Bip_{s}_LowerLeg
*Ankle J_Bip_{s}_Foot
*Toes J_Bip_{s}_ToeBase
Head J_Bip_C_Head
*Eye J_Adj_{s}_FaceEye
"""
        + _fingers("J_Bip_{s}_{f}{i}", "Thumb Index Middle Ring Little"),
        ("J_Bip_C_Hips",),
    ),
    Preset(
        "SMPL",
        "SMPL",
        ("L", "R"),
        """
*Shoulder {s}_Shoulder
*Elbow {s}_Elbow
*Wrist {s}_Wrist
*Hip {s}_Hip
*Knee {s}_Knee
*Ankle {s}_Ankle
*Toes {s}_Foot
Head Head
""",
        ("Spine3", "L_Collar"),
    ),
    Preset(
        "SMPLX",
        "SMPL-X",
        ("left", "right"),
        """
*Shoulder {s}_shoulder
*Elbow {s}_elbow
*Wrist {s}_wrist
*Hip {s}_hip
*Knee {s}_knee
*Ankle {s}_ankle
*Toes {s}_foot
Head head
*Eye {s}_eye_smplhf {s}_eye
"""
        + _fingers("{s}_{f}{i}", "thumb index middle ring pinky"),
        ("spine3", "left_collar"),
    ),
)
