# SPDX-License-Identifier: GPL-3.0-or-later
"""Films composed from pictures of the rendered person, so that the true mask of every frame is known."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from neural_avatar.training.footage import holistic

SIZE = (640, 480)
needs_mediapipe = pytest.mark.skipif(not holistic.available(), reason="MEDIAPIPE MISSING: poses are not tested")


def person(
    shared: Path, camera: str, row: int, height: int, tint: tuple[float, float, float] = (1, 1, 1)
) -> np.ndarray:
    """(height, height, 4) float, a picture of the rendered person; ``tint`` gives them other colours."""
    files = sorted((shared / "footage" / "rendered_human_512" / "images" / camera).glob("*.png"))
    rgba = cv2.imread(str(files[row]), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]].astype(np.float32)
    rgba[..., :3] = np.clip(rgba[..., :3] * tint, 0, 255)
    return cv2.resize(rgba, (height, height), interpolation=cv2.INTER_AREA)


def paste(picture: np.ndarray, mask: np.ndarray, rgba: np.ndarray, x: int, y: int) -> None:
    h, w = rgba.shape[:2]
    x0, x1, y0, y1 = max(x, 0), min(x + w, picture.shape[1]), max(y, 0), min(y + h, picture.shape[0])
    if x0 < x1 and y0 < y1:
        part = rgba[y0 - y : y1 - y, x0 - x : x1 - x]
        alpha = part[..., 3:] / 255
        picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + part[..., :3] * alpha
        mask[y0:y1, x0:x1] = np.maximum(mask[y0:y1, x0:x1], alpha[..., 0])


def background() -> np.ndarray:
    rng = np.random.default_rng(0)
    blotches = rng.integers(90, 170, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(blotches, SIZE, interpolation=cv2.INTER_CUBIC).astype(np.float32)


def write_film(path: Path, pictures: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.options = *SIZE, "yuv420p", {"crf": "12"}
        for rgb in pictures:
            frame = av.VideoFrame.from_ndarray(np.clip(rgb, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def film_of_one(shared: Path, path: Path) -> tuple[Path, list[np.ndarray]]:
    """One person for 18 frames, and their true masks."""
    pictures, masks = [], []
    for row in range(18):
        picture, mask = background(), np.zeros(SIZE[::-1], np.float32)
        paste(picture, mask, person(shared, "cam00", row, 470), 80, 4)
        pictures.append(picture)
        masks.append(mask)
    return write_film(path, pictures), masks
