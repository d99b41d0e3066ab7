# SPDX-License-Identifier: GPL-3.0-or-later
"""From a rig's bones to the skeleton's joints: geometry alone, no Blender.

Every joint is fixed to a bone: a point in that bone's own axes. Mapped joints are ends of their bones. Joints that a
rig lacks are placed once, in the rig's rest pose, where the avatar's own rest skeleton has them (scaled to the rig,
turned as its body, head or foot lies), and then move with the bone that carries them. Only ``Neck`` and ``MidHip`` are
taken from the pose itself: in BODY_25 they are the midpoints of the shoulders and of the hips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.skeleton import FACE, INDEX, JOINT_COUNT, LEFT_HAND, RIGHT_HAND
from .mapping import TAIL, Row

Array = npt.NDArray[np.float64]

_LIMBS = tuple(
    (INDEX[f"{s}{a}"], INDEX[f"{s}{b}"])
    for s in "LR"
    for a, b in (("Shoulder", "Elbow"), ("Elbow", "Wrist"), ("Hip", "Knee"), ("Knee", "Ankle"))
)
_HEAD = tuple(INDEX[j] for j in ("Nose", "REye", "LEye", "REar", "LEar"))
_PAIRS = ((INDEX["LEye"], INDEX["REye"]), (INDEX["LEar"], INDEX["REar"]))
_MIDPOINTS = (("Neck", "LShoulder", "RShoulder"), ("MidHip", "LHip", "RHip"))

#: Directions that agree to within 30° with an axis are taken to be that axis; those further off than 60° from what is
#: expected tell of a rest pose that shows no standing person, as in many BVH files.
_NEAR, _FAR = np.cos(np.radians(30)), np.cos(np.radians(60))


@dataclass(frozen=True)
class RestBone:
    """A bone at rest. matrix: (4, 4), bone axes (Y along the bone) to the armature's; length in the armature's unit."""

    matrix: Array
    length: float


@dataclass(frozen=True)
class Rig:
    """Where each joint sits.

    bones: names of the bones in use. carrier: (137,) index into bones, -1 where there is none. local: (137, 3) in the
    carrier's axes.
    confidence: (137,) float32. midpoints: for Neck and MidHip, where they are derived, the offset from the midpoint
    along the torso's axes (left, front, up).
    """

    bones: tuple[str, ...]
    carrier: npt.NDArray[np.int64]
    local: Array
    confidence: npt.NDArray[np.float32]
    midpoints: Mapping[str, Array]

    def pose(self, matrices: Array) -> Array:
        """Joints (137, 3) in the armature's axes from the posed bones' matrices (B, 4, 4), in the order of ``bones``;
        absent ones are 0."""
        used = self.carrier >= 0
        m = matrices[self.carrier[used]]
        joints = np.zeros((JOINT_COUNT, 3))
        joints[used] = np.einsum("jab,jb->ja", m[:, :3, :3], self.local[used]) + m[:, :3, 3]
        if self.midpoints:
            axes = _torso_axes(joints)
            for name, left, right in _MIDPOINTS:
                if name in self.midpoints:
                    joints[INDEX[name]] = (joints[INDEX[left]] + joints[INDEX[right]]) / 2 + self.midpoints[name] @ axes
        return joints


def fit(rows: Sequence[Row], bones: Mapping[str, RestBone], rest_joints: Array, rest_confidence: Array) -> Rig:
    """Fix every joint to a bone of a rig.

    rows: the mapping; rows whose bone does not exist are ignored, and the required joints must all be there
    (mapping.missing_joints).
    rest_joints: (137, 3) the avatar's rest skeleton in any unit, Z up, facing -Y; rest_confidence: (137,), 0 for joints
    it does not know.
    """
    fitter = _Fitter(rows, bones, np.asarray(rest_joints, np.float64), np.asarray(rest_confidence) > 0)
    fitter.head()
    for side, hand in (("L", LEFT_HAND), ("R", RIGHT_HAND)):
        fitter.hand(side, hand)
        fitter.foot(side)
    return fitter.result()


class _Fitter:
    def __init__(
        self, rows: Sequence[Row], bones: Mapping[str, RestBone], template: Array, known: npt.NDArray[np.bool_]
    ) -> None:
        self.template, self.known, self.bones = template, known, bones
        self.rows = {r.joint: r for r in rows if r.bone in bones}
        self.rest = np.zeros((JOINT_COUNT, 3))
        self.carrier: list[str | None] = [None] * JOINT_COUNT
        for joint, row in self.rows.items():
            if joint in INDEX:
                self.rest[INDEX[joint]], self.carrier[INDEX[joint]] = self._point(row), row.bone
        ours, theirs = (sum(np.linalg.norm(j[a] - j[b]) for a, b in _LIMBS) for j in (self.rest, template))
        self.scale = ours / max(theirs, 1e-9)
        self.up, self.body = self._body()

    def head(self) -> None:
        """Nose, eyes, ears and face landmarks, which all move with the head."""
        bone = self.rows["Head"].bone if "Head" in self.rows else self.carrier[INDEX["Nose"]]
        if bone is None:
            return
        given = [i for i in _HEAD if self.carrier[i] is not None]
        turn = self.body
        for left, right in _PAIRS:
            if left in given and right in given:
                turn = self._head_turn(left, right, self.bones[bone].matrix[:3, 3])
                break
        if given:
            here, there = self.rest[given].mean(0), self.template[given].mean(0)
        else:
            here, there = self._neck(bone)
        targets = (*_HEAD, *range(FACE, JOINT_COUNT))
        self._place([i for i in targets if self.known[i] or i < LEFT_HAND], bone, turn, here, there)

    def hand(self, side: str, first: int) -> None:
        """The wrist again as the hand's first joint; fingers, where the rig has none, as the avatar holds them at
        rest."""
        wrist, elbow = INDEX[f"{side}Wrist"], INDEX[f"{side}Elbow"]
        fingers = range(first + 1, first + 21)
        if self.carrier[first] is None:
            self.rest[first], self.carrier[first] = self.rest[wrist], self.carrier[wrist]
        if any(self.carrier[i] is not None for i in fingers):
            return
        expected = self.body @ (self.template[wrist] - self.template[elbow])
        actual = self.rest[wrist] - self.rest[elbow]
        bone = self.carrier[wrist]
        if bone is not None and _cosine(expected, actual) > -0.5:
            turn = _smallest_turn(expected, actual) @ self.body
            self._place([i for i in fingers if self.known[i]], bone, turn, self.rest[wrist], self.template[wrist])

    def foot(self, side: str) -> None:
        """Heel and toes. A rest pose that shows a standing foot tells all but its yaw; otherwise the toes' bones
        must."""
        ankle, big, small, heel = (INDEX[f"{side}{j}"] for j in ("Ankle", "BigToe", "SmallToe", "Heel"))
        foot = self.carrier[ankle]
        assert foot is not None
        toes = self.rows[f"{side}Toes"].bone if f"{side}Toes" in self.rows else foot
        there = (self.template[big] + self.template[small]) / 2 - self.template[ankle]
        forward = self._toes(side, ankle, foot) - self.rest[ankle]
        inner, outer = (self._either(f"{side}{g}", i) for g, i in (("ToeInner", big), ("ToeOuter", small)))
        turn = self.body
        if _cosine(self.body @ there, forward) > _FAR:
            flat, expected = (_reject(v, self.up) for v in (forward, self.body @ there))
            if np.linalg.norm(flat) > 0.3 * np.linalg.norm(forward):
                turn = _smallest_turn(expected, flat) @ self.body
        elif np.linalg.norm(forward) > 0:
            # Bones that are all straight at rest bend in every pose, the toes' too: the foot carries its toes.
            toes, ball = foot, there * (0.62, 0.62, 0.78)
            turn = _smallest_turn(self.body @ ball, forward) @ self.body
            if inner is not None and outer is not None:
                turn = _frame(forward, outer - inner).T @ _frame(ball, self.template[small] - self.template[big])
        self._place([big, small], toes, turn, self.rest[ankle], self.template[ankle])
        self._place([heel], foot, turn, self.rest[ankle], self.template[ankle])

    def result(self) -> Rig:
        names = tuple(sorted({b for b in self.carrier if b is not None}))
        index = {n: i for i, n in enumerate(names)}
        carrier = np.array([-1 if b is None else index[b] for b in self.carrier])
        local = np.zeros((JOINT_COUNT, 3))
        for i, bone in enumerate(self.carrier):
            if bone is not None:
                local[i] = np.linalg.solve(self.bones[bone].matrix, np.append(self.rest[i], 1.0))[:3]
        axes = _torso_axes(self.template)
        midpoints = {
            name: axes
            @ (self.template[INDEX[name]] - (self.template[INDEX[a]] + self.template[INDEX[b]]) / 2)
            * self.scale
            for name, a, b in _MIDPOINTS
            if name not in self.rows
        }
        # A network that never saw hands or a face must not be shown them.
        present = (carrier >= 0) & (self.known | (np.arange(JOINT_COUNT) < LEFT_HAND))
        present[[INDEX[name] for name in midpoints]] = True
        return Rig(names, carrier, local, present.astype(np.float32), midpoints)

    def _point(self, row: Row) -> Array:
        bone = self.bones[row.bone]
        local = np.asarray(row.offset, np.float64) + (0.0, bone.length if row.end == TAIL else 0.0, 0.0)
        return np.asarray(bone.matrix[:3, :3] @ local + bone.matrix[:3, 3])

    def _place(self, joints: Sequence[int], bone: str, turn: Array, here: Array, there: Array) -> None:
        """Fix the joints that are still absent to a bone, as they lie in the template around ``there``, turned and
        scaled around ``here``."""
        for i in joints:
            if self.carrier[i] is None:
                self.rest[i] = here + self.scale * (turn @ (self.template[i] - there))
                self.carrier[i] = bone

    def _body(self) -> tuple[Array, Array]:
        """Up at rest, in the armature's axes, and the turn (3, 3) that takes template directions to the rig's."""
        ours, theirs = (_snap(_torso_axes(j)) for j in (self.rest, self.template))
        return ours[2], ours.T @ theirs

    def _head_turn(self, left: int, right: int, pivot: Array) -> Array:
        """How the head lies at rest, from a pair of eyes or ears, and from where up is or, if that is no head's way up,
        from the bone's head.

        A head's bone begins below and in front of the ears, as far below the eyes as behind them.
        """
        up = np.array([0.0, 0.0, 1.0])
        ears, eyes = ((self.template[a] + self.template[b]) / 2 for b, a in reversed(_PAIRS))
        pivot_there = ears + 0.2 * (eyes - ears) - 0.8 * up * np.linalg.norm(eyes - ears)
        across_here, across_there = self.rest[left] - self.rest[right], self.template[left] - self.template[right]
        seen_here = (self.rest[left] + self.rest[right]) / 2 - pivot
        seen_there = (self.template[left] + self.template[right]) / 2 - pivot_there
        turn = _frame(across_here, self.up).T @ _frame(across_there, up)
        if _cosine(turn @ seen_there, seen_here) > _FAR:
            return np.asarray(turn)
        return np.asarray(_frame(across_here, seen_here).T @ _frame(across_there, seen_there))

    def _neck(self, bone: str) -> tuple[Array, Array]:
        """A point of the rig at rest and the same point of the template, by which the head is placed."""
        here = (self.rest[INDEX["LShoulder"]] + self.rest[INDEX["RShoulder"]]) / 2
        there = (self.template[INDEX["LShoulder"]] + self.template[INDEX["RShoulder"]]) / 2
        ears = (self.template[INDEX["LEar"]] + self.template[INDEX["REar"]]) / 2
        trunk = self.scale * np.linalg.norm(self.template[INDEX["Neck"]] - self.template[INDEX["MidHip"]])
        origin = self.bones[bone].matrix[:3, 3]
        if np.linalg.norm(here + self.scale * (self.body @ (ears - there)) - origin) > 0.3 * trunk:
            # Arms raised at rest move the shoulders: heads turn about a point a little below the ears.
            return origin + 0.14 * trunk * self.up, ears
        return here, there

    def _toes(self, side: str, ankle: int, foot: str) -> Array:
        if f"{side}Toes" in self.rows:
            return np.asarray(self.bones[self.rows[f"{side}Toes"].bone].matrix[:3, 3])
        tips = [INDEX[f"{side}{j}"] for j in ("BigToe", "SmallToe") if self.carrier[INDEX[f"{side}{j}"]] is not None]
        if tips:
            return np.asarray(self.rest[tips].mean(0))
        if self.rows[f"{side}Ankle"].end == TAIL:
            return np.asarray(self.rest[ankle])  # the rig ends here
        return self._point(Row("", foot, TAIL))

    def _either(self, guide: str, joint: int) -> Array | None:
        if guide in self.rows:
            return self._point(self.rows[guide])
        return np.asarray(self.rest[joint]) if self.carrier[joint] is not None else None


def _unit(v: Array) -> Array:
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-12))


def _reject(v: Array, axis: Array) -> Array:
    return np.asarray(v - (v @ axis) * axis)


def _cosine(a: Array, b: Array) -> float:
    return float(_unit(a) @ _unit(b))


def _frame(first: Array, hint: Array) -> Array:
    """Orthonormal rows: the first direction, the hint's part at right angles to it, and their cross product."""
    a = _unit(first)
    b = _unit(_reject(hint, a))
    return np.stack([a, b, np.cross(a, b)])


def _torso_axes(joints: Array) -> Array:
    """Rows left, front, up of a trunk (left-handed in this order by name: front is left cross up)."""
    j = {name: joints[INDEX[name]] for name in ("LShoulder", "RShoulder", "LHip", "RHip")}
    up = _unit((j["LShoulder"] + j["RShoulder"] - j["LHip"] - j["RHip"]) / 2)
    left = _unit(_reject(_unit(j["LHip"] - j["RHip"]) + _unit(j["LShoulder"] - j["RShoulder"]), up))
    return np.stack([left, np.cross(left, up), up])


def _snap(axes: Array) -> Array:
    """Axes that nearly agree with the coordinate axes become them: a rest pose stands upright even when its trunk
    leans."""
    up, left = _nearest(axes[2]), None
    if up is not None:
        left = _nearest(_reject(axes[0], up))
    return axes if up is None or left is None else np.stack([left, np.cross(left, up), up])


def _nearest(v: Array) -> Array | None:
    i = int(np.abs(v).argmax())
    return np.asarray(np.eye(3)[i] * np.sign(v[i])) if abs(_unit(v)[i]) > _NEAR else None


def _smallest_turn(a: Array, b: Array) -> Array:
    """The smallest rotation (3, 3) that takes direction a to direction b."""
    u, v = _unit(a), _unit(b)
    cross, cosine = np.cross(u, v), float(u @ v)
    if cosine < -1 + 1e-9:
        return np.asarray(2 * np.outer(p := _unit(np.cross(u, np.eye(3)[int(np.abs(u).argmin())])), p) - np.eye(3))
    k = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    return np.asarray(np.eye(3) + k + k @ k / (1 + cosine))
