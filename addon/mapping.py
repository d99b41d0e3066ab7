# SPDX-License-Identifier: GPL-3.0-or-later
"""Which bone gives which joint. Knows names alone: no Blender, no geometry.

Besides the skeleton's joints a mapping may name *guides*, bones that give no joint of their own: ``Head`` carries nose,
eyes and ears, ``LToes``/``RToes`` carry the toes, and ``LToeInner``, ``LToeOuter`` (right likewise) show how a foot
lies when the rest pose does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ..neural_backend.interface.skeleton import BODY_JOINTS, JOINTS, LEFT_HAND_JOINTS, RIGHT_HAND_JOINTS
from .mapping_presets import PRESETS, Preset

HEAD, TAIL = "HEAD", "TAIL"

GUIDES: tuple[str, ...] = ("Head", *(f"{s}{g}" for s in "LR" for g in ("Toes", "ToeInner", "ToeOuter")))

#: Without these no person can be drawn; everything else is derived, or absent.
REQUIRED: tuple[str, ...] = (
    *(f"{s}{j}" for j in ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle") for s in "LR"), "Head",
)  # fmt: skip

#: Key of the preset whose bones end in the joints they are named after.
OWN = "NEURAL_AVATAR"
OWN_LABEL = "Neural Avatar (bones named after joints)"

_WORDS = {
    "Shoulder": "shoulder", "Elbow": "elbow", "Wrist": "wrist", "Hip": "hip", "Knee": "knee", "Ankle": "ankle",
    "Toes": "toes", "ToeInner": "inner toe", "ToeOuter": "outer toe", "BigToe": "big toe", "SmallToe": "small toe",
    "Heel": "heel", "Eye": "eye", "Ear": "ear",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One joint's bone.

    joint: a joint's or guide's name. bone: the bone's. end: 'HEAD' or 'TAIL'. offset: moves the point, in the bone's
    own axes and the armature's unit.
    """

    joint: str
    bone: str
    end: str = HEAD
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Detection:
    """What was found in an armature. missing: required joints without a bone. score: share of the required joints
    found, 0..1."""

    key: str
    label: str
    rows: tuple[Row, ...]
    missing: tuple[str, ...]
    score: float


def section(joint: str) -> str:
    """'BODY', 'LEFT_HAND', 'RIGHT_HAND' or 'FACE'."""
    if joint in BODY_JOINTS or joint in GUIDES:
        return "BODY"
    return "LEFT_HAND" if joint in LEFT_HAND_JOINTS else "RIGHT_HAND" if joint in RIGHT_HAND_JOINTS else "FACE"


def words(joint: str) -> str:
    """A joint's name for people: 'LBigToe' → 'left big toe'."""
    side = {"L": "left ", "R": "right "}.get(joint[0], "")
    return side + _WORDS[joint[1:]] if side and joint[1:] in _WORDS else joint.replace("_", " ").lower()


def presets() -> tuple[tuple[str, str], ...]:
    """Key and label of every preset."""
    return ((OWN, OWN_LABEL), *((p.key, p.label) for p in PRESETS))


def detect(bones: Sequence[str]) -> Detection:
    """The preset that explains an armature's bone names best. The result may be incomplete; look at ``missing``."""
    found = [apply(key, bones) for key, _ in presets()]
    present = {_plain(b) for b in bones}
    marks = {p.key: sum(_plain(m) in present for m in p.marks) for p in PRESETS}
    return max(found, key=lambda d: (d.score, marks.get(d.key, 0), len(d.rows)))


def apply(key: str, bones: Sequence[str]) -> Detection:
    """A preset's rows for these bones. Raises KeyError when there is no such preset."""
    rows = _own_rows(bones) if key == OWN else _preset_rows(_preset(key), bones)
    missing = missing_joints(r.joint for r in rows)
    label = dict(presets())[key]
    return Detection(key, label, rows, missing, 1 - len(missing) / len(REQUIRED))


def missing_joints(given: Iterable[str]) -> tuple[str, ...]:
    """Required joints that are not given. Nose and both ears make up for the head."""
    names = set(given)
    if {"Nose", "LEar", "REar"} <= names:
        names.add("Head")
    return tuple(j for j in REQUIRED if j not in names)


def refusal(name: str, missing: Sequence[str]) -> str:
    """The sentence for an armature that lacks required joints."""
    where = "the armature's data properties under Neural Avatar, Joints"
    if set(missing) >= set(REQUIRED):
        return f"Armature '{name}' is no rig whose bones are known by name: choose the bones in {where}."
    return f"Armature '{name}' has no bone for: {', '.join(words(j) for j in missing)}. Choose the bones in {where}."


def _own_rows(bones: Sequence[str]) -> tuple[Row, ...]:
    present = set(bones)
    return tuple(Row(j, j, TAIL) for j in JOINTS if j in present)


def _preset(key: str) -> Preset:
    for preset in PRESETS:
        if preset.key == key:
            return preset
    raise KeyError(key)


def _preset_rows(preset: Preset, bones: Sequence[str]) -> tuple[Row, ...]:
    names: dict[str, str] = {}
    for bone in bones:
        names.setdefault(_plain(bone), bone)
    rows: dict[str, Row] = {}
    for joint, candidates in _table(preset):
        for candidate in candidates:
            name = names.get(_plain(candidate.removesuffix(">")))
            if name is not None:
                rows.setdefault(joint, Row(joint, name, TAIL if candidate.endswith(">") else HEAD))
                break
    return tuple(rows.values())


@cache
def _table(preset: Preset) -> tuple[tuple[str, tuple[str, ...]], ...]:
    lines = [line.split() for line in preset.table.splitlines() if line.strip()]
    out = []
    for joint, *candidates in lines:
        for ours, theirs in zip("LR", preset.sides, strict=True) if "*" in joint else (("", ""),):
            out.append((joint.replace("*", ours), tuple(c.replace("{s}", theirs) for c in candidates)))
    known = set(JOINTS) | set(GUIDES)
    assert all(joint in known for joint, _ in out), preset.key
    return tuple(out)


def _plain(bone: str) -> str:
    """A name without namespace ('mixamorig:', 'Character1|'), case and separators; 'DEF-' and its like stay."""
    bare = bone.replace("|", ":").rsplit(":", 1)[-1]
    if ":" not in bone and bare.lower().startswith("mixamorig"):
        bare = bare[len("mixamorig") :].lstrip("0123456789")
    return bare.replace("_", "").replace(" ", "").replace(".", "").lower()
