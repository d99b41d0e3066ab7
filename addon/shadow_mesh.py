# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy surface as a mesh, and which bones move it: geometry and names alone, no Blender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.body import FRAMES, body_frames, body_scale
from ..neural_backend.interface.proxy import CAPSULES, ProxyGeometry
from ..neural_backend.interface.skeleton import INDEX, LEFT_HAND, RIGHT_HAND
from .mapping import HEAD, TAIL, Row

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]

#: Vertices around a capsule, rings of each of its round ends.
AROUND, RINGS = 20, 5

#: From which joint to which a frame's bone runs, without side.
_SEGMENTS = {
    "uarm": ("Shoulder", "Elbow"), "farm": ("Elbow", "Wrist"), "thigh": ("Hip", "Knee"), "calf": ("Knee", "Ankle"),
    "foot": ("Ankle", "BigToe"),
}  # fmt: skip
#: Frames of the trunk, which bends: its vertices follow the chain of bones from the hips to the chest.
_TRUNK = "torso"


@dataclass(frozen=True)
class ShadowMesh:
    """vertices: (V, 3) in the armature's axes at rest. faces: vertex numbers. weights: for each bone, (V,) in 0..1,
    which sum to 1 over the bones."""

    vertices: Array
    faces: list[tuple[int, ...]]
    weights: Weights


def build(
    joints: Array,
    confidence: npt.ArrayLike,
    rest_joints: npt.ArrayLike,
    rest_confidence: npt.ArrayLike,
    proxy: ProxyGeometry,
    carriers: Sequence[str | None],
    rows: Sequence[Row],
    parents: Mapping[str, str | None],
    middles: Mapping[str, Array],
) -> ShadowMesh:
    """The mesh of an avatar on a rig at rest.

    joints: (137, 3) the rig's at rest, in the armature's axes; confidence: (137,); rest_joints, rest_confidence: the
    avatar's; carriers: for each joint the bone that carries it; rows: the mapping; parents: of each bone; middles: of
    each bone at rest, (3,).
    """
    known = np.asarray(confidence, np.float64)[None]
    scale = float(body_scale(joints[None], known, rest_joints)[0])
    template = body_frames(np.asarray(rest_joints, np.float64)[None], np.asarray(rest_confidence, np.float64)[None])
    frames = body_frames(joints[None] / scale, known, template)
    bones = _Bones(carriers, rows, parents)
    vertices: list[Array] = []
    faces: list[tuple[int, ...]] = []
    shares: list[tuple[slice, str, Array]] = []
    count = 0
    for capsule in filter(proxy.present, CAPSULES):
        origin, end, axes = (x[0, capsule.frame] for x in (frames.origin, frames.end, frames.axes))
        ring = _capsule(origin, end, axes, capsule.span, proxy.params[capsule.params], capsule.mirrored) * scale
        place = slice(count, count + len(ring))
        name = FRAMES[capsule.frame]
        if name == _TRUNK:
            shares += [(place, bone, share) for bone, share in _along(ring, bones.spine(), middles)]
        else:
            shares.append((place, bones.of(name), np.ones(len(ring))))
        vertices.append(ring)
        faces += [tuple(count + i for i in face) for face in _FACES]
        count += len(ring)
    weights: Weights = {}
    for place, bone, share in shares:
        weights.setdefault(bone, np.zeros(count))[place] += share
    return ShadowMesh(np.concatenate(vertices), faces, weights)


class _Bones:
    """Which bone moves which part of the body."""

    def __init__(self, carriers: Sequence[str | None], rows: Sequence[Row], parents: Mapping[str, str | None]) -> None:
        self._carriers, self._parents = carriers, parents
        self._rows = {row.joint: row for row in rows}
        self._special: dict[str, Callable[[], str | None]] = {
            "head": lambda: self._head(),
            "neck": lambda: self._starts("Neck") or self._parent(self._head()),
            "pelvis": lambda: self._pelvis(),
            "clavicleL": lambda: self._ends("LShoulder") or self._parent(self._carrier("LShoulder")),
            "clavicleR": lambda: self._ends("RShoulder") or self._parent(self._carrier("RShoulder")),
        }

    def of(self, frame: str) -> str:
        """The bone of a frame that is rigid."""
        special = self._special.get(frame)
        bone = special() if special is not None else self._segment(*_joints_of(frame))
        found = bone or self._pelvis()
        assert found is not None  # hips and shoulders are always mapped
        return found

    def spine(self) -> list[str]:
        """The bones of the trunk, from the hips up."""
        top, bottom = self.of("clavicleL"), self._pelvis()
        chain = [top]
        while (above := self._parents.get(chain[-1])) is not None and chain[-1] != bottom:
            chain.append(above)
        if bottom not in chain:  # hips and spine hang on a common root
            others = [bottom, *self._ancestors(bottom)]
            chain = [bone for bone in chain if bone not in others] + [bottom] if bottom else chain
        # A clavicle of one side does not move the chest.
        return [bone for bone in reversed(chain[1:] if len(chain) > 1 else chain) if bone is not None]

    def _segment(self, first: str, second: str) -> str | None:
        return self._ends(second) or self._starts(first) or self._carrier(first) or self._carrier(second)

    def _ends(self, joint: str) -> str | None:
        row = self._rows.get(joint)
        return row.bone if row is not None and row.end == TAIL else None

    def _starts(self, joint: str) -> str | None:
        row = self._rows.get(joint)
        return row.bone if row is not None and row.end == HEAD else None

    def _carrier(self, joint: str) -> str | None:
        return self._carriers[INDEX[joint]]

    def _parent(self, bone: str | None) -> str | None:
        return self._parents.get(bone) if bone is not None else None

    def _head(self) -> str | None:
        return self._carrier("Nose") or self._carrier("LEar")

    def _pelvis(self) -> str | None:
        row = self._rows.get("MidHip")
        return row.bone if row is not None else self._parent(self._carrier("LHip")) or self._carrier("LHip")

    def _ancestors(self, bone: str | None) -> list[str]:
        found: list[str] = []
        while bone is not None and (bone := self._parents.get(bone)) is not None:
            found.append(bone)
        return found


def _joints_of(frame: str) -> tuple[str, str]:
    side = frame[-1]
    if frame[:-1] in _SEGMENTS:
        first, second = _SEGMENTS[frame[:-1]]
        return side + first, side + second
    names = list(INDEX)
    hand = LEFT_HAND if side == "L" else RIGHT_HAND
    if frame.startswith("hand"):
        return f"{side}Wrist", names[hand + 9]
    finger, half = int(frame[6]), int(frame[7])
    chain = [hand + 1 + 4 * finger + i for i in range(4)]
    root, knuckle, tip = (chain[1], chain[2], chain[3]) if finger == 0 else (chain[0], chain[1], chain[3])
    begin, end = ((root, knuckle), (knuckle, tip))[half]
    return names[begin], names[end]


def _capsule(origin: Array, end: Array, axes: Array, span: tuple[float, float], params: Array, mirrored: bool) -> Array:
    """Vertices (V, 3) of a tapered capsule, as proxy_maps.pose_capsules places it."""
    mirror = np.array([-1.0 if mirrored else 1.0, 1.0, 1.0])
    along = end - origin
    start = origin + along * span[0] + (params[0:3] * mirror) @ axes
    stop = origin + along * span[1] + (params[3:6] * mirror) @ axes
    r0, r1, ratio = params[6:9]
    length = max(float(np.linalg.norm(stop - start)), 1e-4)
    unit = (stop - start) / length
    left = axes[0] - (axes[0] @ unit) * unit
    left /= max(float(np.linalg.norm(left)), 1e-9)
    own = np.stack([left, np.cross(unit, left), unit])
    bend = np.linspace(0, np.pi / 2, RINGS)
    profile = [(r0 * np.sin(a), -r0 * np.cos(a)) for a in bend]
    profile += [(r1 * np.cos(a), length + r1 * np.sin(a)) for a in bend]
    turn = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    local = np.array([(r * np.cos(t) * ratio, r * np.sin(t), z) for r, z in profile for t in turn])
    return np.asarray(start + local @ own)


_FACES: list[tuple[int, ...]] = [
    (k * AROUND + i, k * AROUND + (i + 1) % AROUND, (k + 1) * AROUND + (i + 1) % AROUND, (k + 1) * AROUND + i)
    for k in range(2 * RINGS - 1)
    for i in range(AROUND)
]


def _along(vertices: Array, chain: Sequence[str], middles: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """Weights of a chain of bones: between the middles of two neighbours a vertex follows both."""
    if len(chain) == 1:
        return [(chain[0], np.ones(len(vertices)))]
    places = np.array([middles[bone] for bone in chain])
    axis = places[-1] - places[0]
    axis = axis / max(float(np.linalg.norm(axis)), 1e-9)
    heights = np.maximum.accumulate((places - places[0]) @ axis + np.arange(len(chain)) * 1e-6)
    at = (vertices - places[0]) @ axis
    return [(bone, np.interp(at, heights, np.eye(len(chain))[k])) for k, bone in enumerate(chain)]
