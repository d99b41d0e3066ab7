# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone gives which joint, by the names that real rigs use."""

from __future__ import annotations

import pytest

from neural_avatar.addon import mapping
from neural_avatar.neural_backend.interface.skeleton import JOINTS


def both_sides(names: str, left: str, right: str) -> list[str]:
    """Names with {s} for each side, others as they are."""
    given = names.split()
    return [n for n in given if "{s}" not in n] + [
        n.replace("{s}", side) for side in (left, right) for n in given if "{s}" in n
    ]


def fingers(pattern: str, names: str, numbers: str = "1 2 3") -> str:
    return " ".join(pattern.replace("{f}", f).replace("{i}", i) for f in names.split() for i in numbers.split())


MIXAMO = both_sides(
    "Hips Spine Spine1 Spine2 Neck Head HeadTop_End {s}Shoulder {s}Arm {s}ForeArm {s}Hand {s}UpLeg {s}Leg {s}Foot "
    "{s}ToeBase {s}Toe_End " + fingers("{s}Hand{f}{i}", "Thumb Index Middle Ring Pinky", "1 2 3 4"),
    "Left",
    "Right",
)

_RIGIFY_LIMBS = (
    "{p}spine {p}spine.001 {p}spine.002 {p}spine.003 {p}spine.004 {p}spine.005 {p}spine.006 {p}pelvis.{s} "
    "{p}thigh.{s} {p}shin.{s} {p}foot.{s} {p}toe.{s} {p}shoulder.{s} {p}upper_arm.{s} {p}forearm.{s} {p}hand.{s} "
    "{p}breast.{s} {p}palm.01.{s} {p}palm.02.{s} {p}palm.03.{s} {p}palm.04.{s} {p}jaw {p}chin {p}nose {p}ear.{s} "
    "{p}lid.T.{s} {p}lid.B.{s} {p}brow.T.{s} {p}teeth.T {p}tongue "
) + fingers("{p}{f}.0{i}.{s}", "thumb f_index f_middle f_ring f_pinky")
RIGIFY_META = both_sides(_RIGIFY_LIMBS.replace("{p}", "") + " heel.02.{s} eye.{s} face", "L", "R")
RIGIFY = both_sides(
    " ".join(_RIGIFY_LIMBS.replace("{p}", p) for p in ("DEF-", "ORG-"))
    + " root torso hips chest head neck MCH-torso.parent ORG-eye.{s} MCH-eye.{s} ORG-face ORG-heel.02.{s} "
    "DEF-thigh.{s}.001 DEF-shin.{s}.001 DEF-upper_arm.{s}.001 DEF-forearm.{s}.001 thigh_fk.{s} shin_fk.{s} foot_fk.{s} "
    "foot_ik.{s} thigh_ik.{s} toe_fk.{s} upper_arm_fk.{s} upper_arm_ik.{s} forearm_fk.{s} hand_fk.{s} hand_ik.{s} "
    "thigh_tweak.{s} shin_tweak.{s} upper_arm_tweak.{s} forearm_tweak.{s} hand_tweak.{s} upper_arm_parent.{s} eye.{s} "
    + fingers("{f}.0{i}.{s}", "thumb f_index f_middle f_ring f_pinky"),
    "L",
    "R",
)

_MAKEHUMAN_BODY = (
    "root spine05 spine04 spine03 spine02 spine01 neck01 neck02 neck03 head jaw tongue00 tongue01 special01 special03 "
    "special04 levator02.{s} pelvis.{s} upperleg01.{s} upperleg02.{s} lowerleg01.{s} lowerleg02.{s} foot.{s} "
    "breast.{s} clavicle.{s} shoulder01.{s} upperarm01.{s} upperarm02.{s} lowerarm01.{s} lowerarm02.{s} wrist.{s} "
    "metacarpal1.{s} metacarpal2.{s} metacarpal3.{s} metacarpal4.{s} special05.{s} special06.{s} eye.{s} "
    "orbicularis03.{s} orbicularis04.{s} temporalis01.{s} " + fingers("finger{f}-{i}.{s}", "1 2 3 4 5")
)
MAKEHUMAN = both_sides(_MAKEHUMAN_BODY + " toe1-1.{s} toe1-2.{s} " + fingers("toe{f}-{i}.{s}", "2 3 4 5"), "L", "R")
MAKEHUMAN_NO_TOES = both_sides(_MAKEHUMAN_BODY, "L", "R")
MAKEHUMAN_GAME = both_sides(
    "Root pelvis spine_01 spine_02 spine_03 neck_01 head clavicle_{s} upperarm_{s} lowerarm_{s} hand_{s} thigh_{s} "
    "calf_{s} foot_{s} ball_{s} " + fingers("{f}_0{i}_{s}", "thumb index middle ring pinky"),
    "l",
    "r",
)
MAKEHUMAN_CMU = both_sides(
    "Hips LowerBack Spine Spine1 Neck Neck1 Head {s}Shoulder {s}Arm {s}ForeArm {s}Hand {s}FingerBase {s}HandFinger1 "
    "{s}UpLeg {s}Leg {s}Foot {s}ToeBase",
    "Left",
    "Right",
) + ["LHipJoint", "RHipJoint", "LThumb", "RThumb"]
MAKEHUMAN_OPENPOSE = both_sides(
    "MidHip Neck {s}Ankle {s}BigToe {s}Ear {s}Elbow {s}Eye {s}Heel {s}Hip {s}Knee {s}Shoulder {s}SmallToe {s}Wrist",
    "L",
    "R",
)

CHARACTER_CREATOR = both_sides(
    "CC_Base_BoneRoot CC_Base_Hip CC_Base_Pelvis CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02 CC_Base_NeckTwist01 "
    "CC_Base_NeckTwist02 CC_Base_Head CC_Base_FacialBone CC_Base_JawRoot CC_Base_Tongue01 CC_Base_Teeth01 "
    "CC_Base_UpperJaw CC_Base_{s}_Eye CC_Base_{s}_Thigh CC_Base_{s}_ThighTwist01 CC_Base_{s}_ThighTwist02 "
    "CC_Base_{s}_Calf CC_Base_{s}_CalfTwist01 CC_Base_{s}_CalfTwist02 CC_Base_{s}_KneeShareBone CC_Base_{s}_Foot "
    "CC_Base_{s}_ToeBaseShareBone CC_Base_{s}_ToeBase CC_Base_{s}_PinkyToe1 CC_Base_{s}_RingToe1 CC_Base_{s}_MidToe1 "
    "CC_Base_{s}_IndexToe1 CC_Base_{s}_BigToe1 CC_Base_{s}_Clavicle CC_Base_{s}_Upperarm CC_Base_{s}_UpperarmTwist01 "
    "CC_Base_{s}_Forearm CC_Base_{s}_ForearmTwist01 CC_Base_{s}_ElbowShareBone CC_Base_{s}_Hand CC_Base_{s}_RibsTwist "
    "CC_Base_{s}_Breast " + fingers("CC_Base_{s}_{f}{i}", "Thumb Index Mid Ring Pinky"),
    "L",
    "R",
)

CMU = both_sides(
    "Hips LowerBack Spine Spine1 Neck Neck1 Head {s}Shoulder {s}Arm {s}ForeArm {s}Hand {s}FingerBase {s}HandIndex1 "
    "{s}UpLeg {s}Leg {s}Foot {s}ToeBase",
    "Left",
    "Right",
) + ["LHipJoint", "RHipJoint", "LThumb", "RThumb"]
MOTIONBUILDER = both_sides(
    "Hips Spine Spine1 Spine2 Spine3 Neck Neck1 Head {s}Shoulder {s}Arm {s}ArmRoll {s}ForeArm {s}ForeArmRoll {s}Hand "
    "{s}UpLeg {s}UpLegRoll {s}Leg {s}LegRoll {s}Foot {s}ToeBase {s}InHandThumb {s}InHandIndex "
    + fingers("{s}Hand{f}{i}", "Thumb Index Middle Ring Pinky"),
    "Left",
    "Right",
)
CGSPEED_MAX = both_sides(
    "Hips Chest Chest2 Neck Head {s}Collar {s}Shoulder {s}Elbow {s}Wrist {s}Hip {s}Knee {s}Ankle {s}Toe",
    "Left",
    "Right",
)
CGSPEED_DAZ = both_sides(
    "hip abdomen chest neck head {s}Eye {s}Buttock {s}Thigh {s}Shin {s}Foot {s}Collar {s}Shldr {s}ForeArm {s}Hand "
    + fingers("{s}{f}{i}", "Thumb Index Mid Ring Pinky"),
    "l",
    "r",
)

RIGS: dict[str, tuple[list[str], str]] = {
    "Mixamo": ([f"mixamorig:{n}" for n in MIXAMO], "MIXAMO"),
    "Mixamo, second character": ([f"mixamorig1:{n}" for n in MIXAMO], "MIXAMO"),
    "Mixamo, colon lost": ([f"mixamorig_{n}" for n in MIXAMO], "MIXAMO"),
    "Mixamo, colon lost, ninth": ([f"mixamorig9_{n}" for n in MIXAMO], "MIXAMO"),
    "Mixamo without prefix": (MIXAMO, "MIXAMO"),
    "Rigify meta-rig": (RIGIFY_META, "RIGIFY_META"),
    "Rigify generated": (RIGIFY, "RIGIFY"),
    "MakeHuman default": (MAKEHUMAN, "MAKEHUMAN"),
    "MakeHuman without toes": (MAKEHUMAN_NO_TOES, "MAKEHUMAN"),
    "MakeHuman game engine": (MAKEHUMAN_GAME, "MAKEHUMAN_GAME"),
    "MakeHuman cmu_mb": (MAKEHUMAN_CMU, "CMU"),
    "MakeHuman OpenPose": (MAKEHUMAN_OPENPOSE, "MAKEHUMAN_OPENPOSE"),
    "Character Creator": (CHARACTER_CREATOR, "CHARACTER_CREATOR"),
    "CMU": (CMU, "CMU"),
    "MotionBuilder": (MOTIONBUILDER, "MOTIONBUILDER"),
    "MotionBuilder with namespace": ([f"Character1|{n}" for n in MOTIONBUILDER], "MOTIONBUILDER"),
    "cgspeed for 3ds Max": (CGSPEED_MAX, "BVH_JOINTS"),
    "cgspeed for DAZ and Poser": (CGSPEED_DAZ, "POSER"),
    "joints of our own": (list(JOINTS), mapping.OWN),
    "joints of our own, body alone": (list(JOINTS[:25]), mapping.OWN),
}

#: Where each rig's left wrist, right knee, left index finger's base and toes are: bone and end; None where it has none.
PLACES: dict[str, tuple[str, str, str | None]] = {
    "Mixamo": ("mixamorig:LeftHand", "mixamorig:RightLeg", "mixamorig:LeftHandIndex1"),
    "Mixamo without prefix": ("LeftHand", "RightLeg", "LeftHandIndex1"),
    "Rigify meta-rig": ("hand.L", "shin.R", "f_index.01.L"),
    "Rigify generated": ("DEF-hand.L", "DEF-shin.R", "DEF-f_index.01.L"),
    "MakeHuman default": ("wrist.L", "lowerleg01.R", "finger2-1.L"),
    "MakeHuman game engine": ("hand_l", "calf_r", "index_01_l"),
    "MakeHuman cmu_mb": ("LeftHand", "RightLeg", None),
    "Character Creator": ("CC_Base_L_Hand", "CC_Base_R_Calf", "CC_Base_L_Index1"),
    "CMU": ("LeftHand", "RightLeg", None),
    "MotionBuilder": ("LeftHand", "RightLeg", "LeftHandIndex1"),
    "cgspeed for 3ds Max": ("LeftWrist", "RightKnee", None),
    "cgspeed for DAZ and Poser": ("lHand", "rShin", "lIndex1"),
}


@pytest.mark.parametrize("rig", RIGS)
def test_a_rig_is_known_by_its_names(rig: str) -> None:
    bones, key = RIGS[rig]
    found = mapping.detect(bones)
    assert found.key == key and found.missing == () and found.score == 1
    assert all(row.bone in bones for row in found.rows)
    given = [row.joint for row in found.rows]
    assert len(set(given)) == len(given)
    sides = {"L": 0, "R": 0}
    for joint in given:
        if joint[:1] in sides and joint != "Head":
            sides[joint[0]] += 1
    assert sides["L"] == sides["R"] > 0


@pytest.mark.parametrize("rig", RIGS)
def test_the_order_of_bones_does_not_matter(rig: str) -> None:
    bones, key = RIGS[rig]
    assert mapping.detect(bones[::-1]).key == key
    assert {r.joint: r.bone for r in mapping.detect(bones[::-1]).rows} == {
        r.joint: r.bone for r in mapping.detect(bones).rows
    }


@pytest.mark.parametrize("rig", PLACES)
def test_joints_are_where_the_rig_has_them(rig: str) -> None:
    rows = {r.joint: r for r in mapping.detect(RIGS[rig][0]).rows}
    wrist, knee, index = PLACES[rig]
    assert (rows["LWrist"].bone, rows["LWrist"].end) == (wrist, "HEAD")
    assert (rows["RKnee"].bone, rows["RKnee"].end) == (knee, "HEAD")
    assert (rows["LHand_HandIndex1"].bone if "LHand_HandIndex1" in rows else None) == index


def test_bones_that_end_in_their_joints() -> None:
    rows = {r.joint: r for r in mapping.detect(MAKEHUMAN_OPENPOSE).rows}
    assert (rows["LWrist"].bone, rows["LWrist"].end) == ("LWrist", "TAIL")
    # The trunk's bone runs from the hips to the neck, the neck's to the nose.
    assert (rows["MidHip"].bone, rows["MidHip"].end) == ("MidHip", "HEAD")
    assert (rows["Neck"].bone, rows["Neck"].end, rows["Nose"].bone, rows["Nose"].end) == (
        "Neck",
        "HEAD",
        "Neck",
        "TAIL",
    )


@pytest.mark.parametrize(
    "bones",
    [
        [],
        ["Bone"],
        ["Bone", "Bone.001", "Bone.002"],
        both_sides(
            "spine thigh.{s} shin.{s} foot.{s} front_thigh.{s} front_shin.{s} front_foot.{s} tail.001", "L", "R"
        ),
        ["Door", "Handle", "Hinge.L", "Hinge.R"],
    ],
    ids=["none", "one", "chain", "horse", "door"],
)
def test_what_is_no_person_is_refused(bones: list[str]) -> None:
    found = mapping.detect(bones)
    assert {"LShoulder", "RElbow", "LWrist", "Head"} <= set(found.missing)
    assert found.score < 1
    text = mapping.refusal("Rig", found.missing)
    assert "'Rig'" in text and "Joints" in text and text.endswith(".") and "  " not in text


def test_a_rig_that_lacks_one_bone_says_which() -> None:
    found = mapping.detect([b for b in RIGIFY_META if b != "shin.R"])
    assert found.key == "RIGIFY_META" and found.missing == ("RKnee",)
    assert "right knee" in mapping.refusal("Rig", found.missing)


def test_a_chosen_preset_says_what_it_did_not_find() -> None:
    for key, label in mapping.presets():
        found = mapping.apply(key, ["Bone"])
        assert (found.key, found.label, found.rows, found.score) == (key, label, (), 0)
        assert found.missing == mapping.REQUIRED
