# SPDX-License-Identifier: GPL-3.0-or-later
"""BVH: a hierarchy of joints with offsets, then their channels' values frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ....neural_backend.interface.messages import BackendError
from ..records import Motion
from .axes import to_z_up
from .fields import POSES, read_text
from .rigs import joints_of, leg_length, upwards

Array = npt.NDArray[np.float64]

_CHANNELS = {f"{axis}{kind}": (kind, i) for kind in ("position", "rotation") for i, axis in enumerate("XYZ")}

#: Metres of the units in which people write BVH: metres, centimetres, millimetres, inches, CMU's own.
_UNITS = (1.0, 0.01, 0.001, 0.0254, 0.056444)
_LEG = (0.5, 1.2)


@dataclass
class Bone:
    """A joint of the hierarchy. parent: its index, -1 for a root. channels: (kind, axis) in the file's order. An end
    site is called after its parent with '>' behind it."""

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Take:
    """What a file holds. values: (T, C), in the order of all bones' channels. step: seconds from frame to frame."""

    bones: tuple[Bone, ...]
    values: Array
    step: float

    def pose(self) -> tuple[Array, Array]:
        """Positions (T, B, 3) and rotations (T, B, 3, 3), bone to world, in the file's unit and axes."""
        count = len(self.values)
        positions, rotations = np.zeros((count, len(self.bones), 3)), np.zeros((count, len(self.bones), 3, 3))
        column = 0
        for i, bone in enumerate(self.bones):
            local, turn = np.tile(np.asarray(bone.offset), (count, 1)), np.tile(np.eye(3), (count, 1, 1))
            moved = np.zeros((count, 3))
            for kind, axis in bone.channels:
                value = self.values[:, column]
                column += 1
                if kind == "position":
                    moved[:, axis] = value
                else:
                    turn = turn @ _about(axis, np.radians(value))
            if any(kind == "position" for kind, _ in bone.channels):
                local = _moved(np.asarray(bone.offset), moved)
            if bone.parent < 0:
                positions[:, i], rotations[:, i] = local, turn
            else:
                above = rotations[:, bone.parent]
                positions[:, i] = positions[:, bone.parent] + np.einsum("tij,tj->ti", above, local)
                rotations[:, i] = above @ turn
        return positions, rotations


def read_bvh(path: Path, up: str = "") -> Motion:
    """A take as our joints, metres, Z up.

    up: the file's axis that points up; '' finds it from the motion. The unit is found from the length of the legs.
    Nose, eyes, ears, toes and heels, which no BVH has, lie where they usually do and move with their bones.
    Raises BackendError 'poses-corrupt'.
    """
    take = parse_bvh(path)
    positions, rotations = take.pose()
    joints, confidence = joints_of([bone.name for bone in take.bones], positions, rotations, str(path))
    return to_metres(joints, confidence, take.step * np.arange(len(joints), dtype=np.float64), path, up)


def to_metres(
    joints: Array, confidence: npt.NDArray[np.float32], times: Array, path: Path, up: str = "", unit: float = 0.0
) -> Motion:
    """Bring a motion in any unit and axes to metres and Z up. unit: metres of the file's unit, 0 where it is
    unknown."""
    if unit == 0:
        leg = leg_length(joints, confidence)
        unit = next((u for u in _UNITS if _LEG[0] < leg * u < _LEG[1]), 0.0)
        if unit == 0:
            raise BackendError(
                POSES,
                f"{path}: the legs are {leg:.3g} units long, which is a person's in no usual unit; scale it to metres.",
            )
    turned = (joints * unit) @ to_z_up(up or upwards(joints, confidence)).T
    turned[confidence == 0] = 0
    return Motion(turned.astype(np.float32), confidence, np.asarray(times, np.float64), str(path))


def parse_bvh(path: Path) -> Take:
    """Read a file. Raises BackendError 'poses-corrupt' with file and line."""
    return _Parser(path).take()


def _moved(offset: Array, moved: Array) -> Array:
    """Where a bone with position channels (T, 3) is: some programs count them from the offset, others in its place."""
    middle = np.median(moved, axis=0)
    return moved + offset if np.linalg.norm(middle) < np.linalg.norm(middle - offset) else moved


def _about(axis: int, angle: Array) -> Array:
    """Rotations (T, 3, 3) about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    out = np.tile(np.eye(3), (len(angle), 1, 1))
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    out[:, a, a], out[:, a, b], out[:, b, a], out[:, b, b] = c, -s, s, c
    return out


class _Parser:
    def __init__(self, path: Path) -> None:
        self.path, self.line = path, 0
        self.lines = read_text(path, POSES).splitlines()
        self.bones: list[Bone] = []

    def take(self) -> Take:
        self._hierarchy()
        count, step = int(self._header("Frames:")), self._header("Frame Time:")
        if count < 1:
            self._fail("it has no frames")
        if not 0 < step < 10:
            self._fail(f"a frame time of {step:g} seconds cannot be")
        return Take(tuple(self.bones), self._values(count), step)

    def _fail(self, what: str) -> NoReturn:
        raise BackendError(POSES, f"{self.path}, line {self.line}: {what}; export the BVH again.")

    def _words(self) -> Iterator[list[str]]:
        """Words of the lines that have any, from where the parser stands."""
        while self.line < len(self.lines):
            self.line += 1
            words = self.lines[self.line - 1].split()
            if words:
                yield words

    def _hierarchy(self) -> None:
        lines = self._words()
        if next(lines, [""])[0].upper() != "HIERARCHY":
            self._fail("a BVH begins with HIERARCHY")
        stack: list[int] = []
        opened = -1
        for words in lines:
            key = words[0].upper()
            if key == "MOTION":
                break
            if key == "FRAMES:":
                self._fail("the line MOTION is missing before it")
            if key in ("ROOT", "JOINT", "END"):
                parent = stack[-1] if stack else -1
                end = f"{self.bones[parent].name}>" if parent >= 0 else ">"
                name = end if key == "END" else " ".join(words[1:]).rstrip("{ ")
                self.bones.append(Bone(name or f"joint {len(self.bones)}", parent))
                opened = len(self.bones) - 1
                if words[-1].endswith("{"):
                    stack.append(opened)
            elif key == "{":
                stack.append(opened)
            elif key == "}":
                if not stack:
                    self._fail("a '}' too many")
                stack.pop()
            elif key == "OFFSET" and stack:
                x, y, z = (self._number(word) for word in self._some(words[1:], 3))
                self.bones[stack[-1]].offset = (x, y, z)
            elif key == "CHANNELS" and stack:
                self.bones[stack[-1]].channels = self._channels(words)
            else:
                self._fail(f"{words[0]!r} was not expected")
        else:
            self._fail("the part MOTION is missing")
        if stack or not self.bones:
            self._fail("the hierarchy is not complete")

    def _some(self, words: list[str], count: int) -> list[str]:
        if len(words) != count:
            self._fail(f"{count} values were expected, not {len(words)}")
        return words

    def _number(self, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            self._fail(f"{word!r} is no number")
        if not np.isfinite(value):
            self._fail(f"{word!r} is not finite")
        return value

    def _channels(self, words: list[str]) -> list[tuple[str, int]]:
        names = self._some(words[2:], int(self._number(words[1])) if len(words) > 1 else 0)
        found = [_CHANNELS.get(name[:1].upper() + name[1:].lower()) for name in names]
        if None in found:
            self._fail(f"there is no channel {names[found.index(None)]!r}")
        return [channel for channel in found if channel is not None]

    def _header(self, key: str) -> float:
        for words in self._words():
            line = " ".join(words)
            if line.lower().startswith(key.lower()):
                return self._number(line[len(key) :].strip())
            self._fail(f"{key!r} was expected")
        self._fail(f"{key!r} is missing")

    def _values(self, count: int) -> Array:
        width = sum(len(bone.channels) for bone in self.bones)
        rows = []
        for words in self._words():
            if len(words) != width:
                self._fail(f"a frame has {len(words)} values, its hierarchy {width} channels")
            rows.append([self._number(word) for word in words])
            if len(rows) == count:
                return np.array(rows)
        self._fail(f"there are {len(rows)} frames instead of {count}")
