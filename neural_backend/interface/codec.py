# SPDX-License-Identifier: GPL-3.0-or-later
"""The dataclasses of :mod:`.messages` to plain data and back; everything that arrives is checked here, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .camera import Camera
from .messages import PLANES, AvatarInstance, BackendError, RenderRequest
from .skeleton import JOINT_COUNT

#: Most avatars in one frame.
MAX_AVATARS = 256
#: Most rows or columns of a frame.
MAX_SIDE = 16384
#: Most steps of a colour table along one axis.
MAX_TABLE = 65
#: Least and most size of the network's picture, as a factor of its own.
DETAIL_RANGE = (0.25, 4.0)


def request_to_plain(request: RenderRequest) -> dict[str, Any]:
    """A request as plain data for :func:`.wire.pack`."""
    camera = request.camera
    return {
        "camera": {
            "K": camera.K,
            "R": camera.R,
            "t": camera.t,
            "width": int(camera.width),
            "height": int(camera.height),
            "orthographic": bool(camera.orthographic),
            "near": float(camera.near),
        },
        "avatars": [
            {
                "path": str(avatar.path),
                "name": str(avatar.name),
                "joints": np.asarray(avatar.joints, np.float32),
                "confidence": np.asarray(avatar.confidence, np.float32),
                "gain": [float(g) for g in avatar.gain],
                "index": int(avatar.index),
                "matte": int(avatar.matte),
            }
            for avatar in request.avatars
        ],
        "planes": list(request.planes),
        "table": None if request.table is None else np.asarray(request.table, np.float32),
        "detail": float(request.detail),
    }


def request_from_plain(plain: Mapping[str, Any]) -> RenderRequest:
    """The request that :func:`request_to_plain` wrote.

    Joints of confidence 0 may hold anything and come back as 0. Raises BackendError 'bad-request' for what a correct
    client does not send; whether a pose makes sense is for the renderer to say.
    """
    try:
        c = plain["camera"]
        camera = Camera(
            c["K"], c["R"], c["t"], int(c["width"]), int(c["height"]), bool(c["orthographic"]), float(c["near"])
        )
        if max(camera.width, camera.height) > MAX_SIDE or not 0 <= camera.near < np.inf:
            raise ValueError(f"a picture of {camera.width}x{camera.height}, near {camera.near}")
        planes = tuple(str(name) for name in plain["planes"])
        unknown = [name for name in planes if name not in PLANES]
        if not planes or unknown or len(set(planes)) != len(planes):
            raise ValueError(f"planes {planes}")
        if len(plain["avatars"]) > MAX_AVATARS:
            raise ValueError(f"{len(plain['avatars'])} avatars in one frame, at most {MAX_AVATARS} are drawn")
        low, high = DETAIL_RANGE
        detail = float(plain["detail"])
        if not low <= detail <= high:
            raise ValueError(f"detail {detail}, from {low} to {high} is possible")
        return RenderRequest(
            camera, tuple(_avatar(a) for a in plain["avatars"]), planes, _table(plain["table"]), detail
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise BackendError(
            "bad-request",
            f"The backend could not read the request for this frame: {error}.",
            f"{type(error).__name__}: {error}",
        ) from error


def _avatar(plain: Mapping[str, Any]) -> AvatarInstance:
    name = str(plain["name"])
    joints: npt.NDArray[np.float32] = np.asarray(plain["joints"], np.float32)
    confidence: npt.NDArray[np.float32] = np.asarray(plain["confidence"], np.float32)
    if joints.shape != (JOINT_COUNT, 3) or confidence.shape != (JOINT_COUNT,):
        raise ValueError(
            f"joints {joints.shape} and confidence {confidence.shape}, not ({JOINT_COUNT}, 3) and ({JOINT_COUNT},)"
        )
    gain = tuple(float(g) for g in plain["gain"])
    if len(gain) != 3 or not all(0 <= g < np.inf for g in gain):
        raise ValueError(f"gain {gain}, not three factors")
    index, matte = int(plain["index"]), int(plain["matte"])
    if not 0 <= matte < 2**32:
        raise ValueError(f"matte {matte} has more than 32 bits")
    counts = ~(confidence <= 0)  # what is not a number counts, for the renderer to refuse it
    return AvatarInstance(
        str(plain["path"]),
        name,
        np.where(counts[:, None], joints, np.float32(0)),
        np.where(counts, confidence, np.float32(0)),
        gain,
        index,
        matte,
    )


def _table(plain: Any) -> npt.NDArray[np.float32] | None:
    if plain is None:
        return None
    table: npt.NDArray[np.float32] = np.asarray(plain, np.float32)
    steps = table.shape[0] if table.ndim else 0
    if table.shape != (steps, steps, steps, 3) or not 2 <= steps <= MAX_TABLE or not np.isfinite(table).all():
        raise ValueError(f"a colour table of shape {table.shape}, or not finite")
    return table


def error_to_plain(error: BackendError) -> dict[str, str]:
    """An error as data; long details are cut at their start, where tracebacks say least."""
    return {"code": error.code, "message": error.message, "details": error.details[-20000:]}


def error_from_plain(plain: Mapping[str, Any]) -> BackendError:
    """The error that :func:`error_to_plain` wrote."""
    return BackendError(
        str(plain.get("code", "internal")),
        str(plain.get("message", "The backend reported an error.")),
        str(plain.get("details", "")),
    )
