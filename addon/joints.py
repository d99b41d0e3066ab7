# SPDX-License-Identifier: GPL-3.0-or-later
"""An armature's joints in the world, from its evaluated pose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..neural_backend.interface.messages import BackendError
from ..neural_backend.interface.skeleton import JOINTS, MIRRORED
from . import mapping, rig

if TYPE_CHECKING:
    from ..neural_backend.interface.avatar_header import AvatarHeader

Joints = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def rows_of(obj: Any) -> tuple[mapping.Row, ...]:
    """The armature's mapping as the user left it; where there is none yet, what its bones' names tell."""
    rows = tuple(
        mapping.Row(r.joint, r.bone, r.end, tuple(r.offset)) for r in obj.original.neural_avatar.rows if r.bone
    )
    return rows or mapping.detect(bone_names(obj)).rows


def bone_names(obj: Any) -> list[str]:
    """Names of the armature's bones."""
    return [b.name for b in obj.data.bones]


def unmapped(obj: Any, rows: Sequence[mapping.Row] | None = None) -> tuple[str, ...]:
    """Required joints that no existing bone gives."""
    present = set(bone_names(obj))
    return mapping.missing_joints(r.joint for r in (rows_of(obj) if rows is None else rows) if r.bone in present)


def world_joints(obj: Any, header: AvatarHeader, matrix_world: npt.ArrayLike | None = None) -> Joints:
    """Joints (137, 3) float32 in world axes and scene units, and confidence (137,) float32, 0 where a joint is absent.

    obj: an evaluated armature; matrix_world: (4, 4), where it is an instance's instead of the object's own. Where that
    mirrors, left and right are the mirror image's own.
    Raises BackendError 'joints-unmapped' or 'joints-broken'.
    """
    fitted = _fitted(obj, header)
    world = np.asarray(obj.matrix_world if matrix_world is None else matrix_world, np.float64)
    joints = fitted.pose(_pose_matrices(obj, fitted.bones)) @ world[:3, :3].T + world[:3, 3]
    present = fitted.confidence > 0
    broken = present & ~np.isfinite(joints).all(-1)
    if broken.any():
        names = [mapping.words(JOINTS[i]) for i in np.flatnonzero(broken)]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise BackendError(
            "joints-broken",
            f"Armature '{obj.name}' has joints that are nowhere (not a finite number): {', '.join(names[:3])}{more}. "
            "Look for a driver or constraint that divides by zero, or a scale of 0.",
        )
    points, confidence = np.where(present[:, None], joints, 0).astype(np.float32), fitted.confidence
    # A mirror's left arm is a right one: with its old name the body would have its front on its back.
    if np.linalg.det(world[:3, :3]) < 0:
        points, confidence = points[list(MIRRORED)], confidence[list(MIRRORED)]
    return points, confidence


def rest_joints(
    obj: Any, header: AvatarHeader
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], tuple[str | None, ...]]:
    """Joints (137, 3) of an armature at rest in its own axes, confidence (137,), and the bone that carries each joint.

    Raises BackendError 'joints-unmapped'.
    """
    fitted = _fitted(obj, header)
    rest = _as_bones(*_rest(obj))
    joints = fitted.pose(np.array([rest[name].matrix for name in fitted.bones]))
    return joints, fitted.confidence, tuple(None if i < 0 else fitted.bones[i] for i in fitted.carrier)


def _fitted(obj: Any, header: AvatarHeader) -> rig.Rig:
    rows = rows_of(obj)
    if missing := unmapped(obj, rows):
        raise BackendError("joints-unmapped", mapping.refusal(obj.name, missing))
    return _fit(
        rows, *_rest(obj), np.float32(header.rest_joints).tobytes(), np.float32(header.rest_confidence).tobytes()
    )


@lru_cache(maxsize=32)
def _fit(
    rows: tuple[mapping.Row, ...], names: tuple[str, ...], matrices: bytes, lengths: bytes, rest: bytes, known: bytes
) -> rig.Rig:
    """A rig at rest changes seldom, and to fit it costs most of what reading a pose costs: it is fitted once."""
    template = np.frombuffer(rest, np.float32).reshape(-1, 3).astype(np.float64)
    fitted = rig.fit(rows, _as_bones(names, matrices, lengths), template, np.frombuffer(known, np.float32))
    fitted.confidence.setflags(write=False)  # every frame's
    return fitted


def _rest(obj: Any) -> tuple[tuple[str, ...], bytes, bytes]:
    """Names of the bones, their matrices at rest as Blender stores them, and their lengths."""
    bones = obj.data.bones
    matrices, lengths = np.empty(16 * len(bones), np.float32), np.empty(len(bones), np.float32)
    bones.foreach_get("matrix_local", matrices)
    bones.foreach_get("length", lengths)
    return tuple(bone_names(obj)), matrices.tobytes(), lengths.tobytes()


def _as_bones(names: Sequence[str], matrices: bytes, lengths: bytes) -> dict[str, rig.RestBone]:
    # Blender stores matrices by columns.
    columns = np.frombuffer(matrices, np.float32).reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
    each = zip(names, columns, np.frombuffer(lengths, np.float32), strict=True)
    return {name: rig.RestBone(matrix, float(length)) for name, matrix, length in each}


def _pose_matrices(obj: Any, names: Sequence[str]) -> npt.NDArray[np.float64]:
    bones = obj.pose.bones
    matrices = np.empty(16 * len(bones), np.float32)
    bones.foreach_get("matrix", matrices)
    index = {b.name: i for i, b in enumerate(bones)}
    return matrices.reshape(-1, 4, 4).transpose(0, 2, 1)[[index[n] for n in names]].astype(np.float64)
