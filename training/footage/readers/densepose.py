# SPDX-License-Identifier: GPL-3.0-or-later
"""DensePose's results: pictures of part and coordinates (IUV PNG), or a dump of detectron2's apply_net.

A dump is a pickle, and a pickle can run programs. It is read by unpicklers that know tensors, lists and DensePose's
own result and nothing else; anything else in it is refused unopened.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ....neural_backend.interface.messages import BackendError
from .people import number

CODE = "densepose-corrupt"
#: A few bytes of a dump must not be able to ask for all memory.
_MOST_PIXELS = 1 << 26
#: Numbers of parts, 0 the background.
_PARTS = 24
#: Part, u and v among OpenCV's channels: as DensePose itself writes them, and as a program does that swaps colours.
_ORDERS = (slice(0, 3), slice(2, None, -1))
_REMEDY = "write one with detectron2's apply_net.py dump, or give a folder of IUV pictures (PNG)"


@dataclass(frozen=True)
class Surface:
    """Part and coordinates of one person's pixels in one picture.

    x, y: where the map's top left corner lies in the picture, pixels. labels: (H, W) uint8, 0 background, 1 to 24 the
    part. uv: (2, H, W) float32 in 0..1.
    """

    x: int
    y: int
    labels: npt.NDArray[np.uint8]
    uv: npt.NDArray[np.float32]

    def full(self, width: int, height: int) -> Surface:
        """The map for a whole picture of the given size."""
        labels, uv = np.zeros((height, width), np.uint8), np.zeros((2, height, width), np.float32)
        h, w = self.labels.shape
        x0, y0, x1, y1 = max(self.x, 0), max(self.y, 0), min(self.x + w, width), min(self.y + h, height)
        if x1 > x0 and y1 > y0:
            here = slice(y0 - self.y, y1 - self.y), slice(x0 - self.x, x1 - self.x)
            labels[y0:y1, x0:x1], uv[:, y0:y1, x0:x1] = self.labels[here], self.uv[:, here[0], here[1]]
        return Surface(0, 0, labels, uv)


def read_densepose(path: Path) -> Iterator[tuple[int, Surface]]:
    """Frame and map of the person found best in it, in order of frames; frames without anybody are left out.

    path: a folder of PNG pictures (the last number in a name is the frame's), or an apply_net dump, in which frames are
    numbered likewise by their file_name. Raises BackendError 'densepose-corrupt'.
    """
    if path.is_dir():
        yield from _pictures(path)
    else:
        yield from _dump(path)


def _pictures(folder: Path) -> Iterator[tuple[int, Surface]]:
    # DensePose's own program writes a second picture beside each, of who is where.
    files = {number(file): file for file in folder.glob("*.png") if not file.stem.endswith("_INDS")}
    numbered = sorted((n, file) for n, file in files.items() if n is not None)
    if not numbered:
        raise BackendError(CODE, f"{folder} holds no numbered PNG pictures; {_REMEDY}.")
    order = _order(folder, [file for _, file in numbered])
    for n, file in numbered:
        picture = _picture(file)
        iuv = picture[..., order]
        if iuv[..., 0].max() > _PARTS:
            raise BackendError(
                CODE, f"{file} holds part, u and v the other way round than pictures before it in that folder; write "
                "all of them with one program.",
            )  # fmt: skip
        rows, columns = np.nonzero(iuv[..., 0])
        if len(rows):
            box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
            uv = np.ascontiguousarray(iuv[box][..., 1:].transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
            yield n, Surface(int(columns.min()), int(rows.min()), np.ascontiguousarray(iuv[box][..., 0]), uv)


def _order(folder: Path, files: list[Path]) -> slice:
    """Which channels are part, u and v in all pictures of a folder.

    A picture tells where one of the orders would make parts beyond 24 of its coordinates. One in which all coordinates
    are small tells nothing, so the first that does speaks for all.
    """
    anybody = False
    for file in files:
        picture = _picture(file)
        possible = [order for order in _ORDERS if picture[..., order][..., 0].max() <= _PARTS]
        if len(possible) == 1:
            return possible[0]
        anybody = anybody or bool(picture.any())
    if anybody:
        raise BackendError(
            CODE, f"In no picture of {folder} does the first or the last channel exceed {_PARTS}, so either may hold "
            "the parts; write a dump with detectron2's apply_net.py instead.",
        )  # fmt: skip
    return _ORDERS[0]


def _picture(file: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3), channels as OpenCV reads them, one of which may be the parts'."""
    data = np.fromfile(file, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if picture is None or picture.ndim != 3 or picture.shape[2] < 3 or picture.dtype != np.uint8:
        raise BackendError(CODE, f"{file} is no colour picture of 8 bits; {_REMEDY}.")
    if min(picture[..., 0].max(), picture[..., 2].max()) > _PARTS:
        raise BackendError(CODE, f"{file} is no IUV picture: none of its channels holds parts of 0 to 24; {_REMEDY}.")
    return np.asarray(picture[..., :3], np.uint8)


class _Result:
    """Stands for DensePoseChartResult, whose package is not needed to read it: labels and uv."""

    labels: Any
    uv: Any


#: Under these names detectron2's versions pickle the result.
_RESULT_NAMES = tuple(
    f"{package}{module}.{name}"
    for package in ("densepose.", "detectron2.projects.densepose.")
    for module in ("structures.chart_result", "structures", "data.structures")
    for name in ("DensePoseChartResult", "DensePoseChartResultWithConfidences")
)


def _dump(path: Path) -> Iterator[tuple[int, Surface]]:
    entries = _load(path)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise BackendError(CODE, f"{path} is no DensePose dump (a list with an entry for each picture); {_REMEDY}.")
    for i, entry in enumerate(entries):
        missing = [key for key in ("pred_boxes_XYXY", "pred_densepose") if key not in entry]
        try:
            found = None if missing else _person(entry)
            nobody = found is None and "scores" in entry and not len(entry["scores"])
        except (AttributeError, TypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
            raise BackendError(
                CODE, f"{path}, picture {i}: its labels, uv and boxes do not fit together; {_REMEDY}.", str(error)
            ) from error
        if missing and not nobody:
            raise BackendError(CODE, f"{path}, picture {i}: '{missing[0]}' is missing; {_REMEDY}.")
        if found is not None:
            n = number(Path(str(entry.get("file_name", ""))))
            yield (i if n is None else n), found


def _person(entry: dict[str, Any]) -> Surface | None:
    """The map of the person found best; None where nobody was found.

    Shapes are looked at before numbers: one number, repeated, is a tensor of any size until somebody copies it.
    """
    people, boxes = entry["pred_densepose"], entry["pred_boxes_XYXY"]
    if not isinstance(people, list):
        raise TypeError(f"a {type(people).__name__} of people")
    if not people:
        return None
    scores = entry.get("scores", np.ones(len(people)))
    if (np.shape(scores), np.shape(boxes)) != ((len(people),), (len(people), 4)):
        raise ValueError(f"{len(people)} people, scores {np.shape(scores)}, boxes {np.shape(boxes)}")
    best = int(np.asarray(scores, np.float32).argmax())
    result, shape = people[best], np.shape(people[best].labels)
    if len(shape) != 2 or np.shape(result.uv) != (2, *shape) or shape[0] * shape[1] > _MOST_PIXELS:
        raise ValueError(f"labels {shape}, uv {np.shape(result.uv)}")
    box, labels, uv = np.asarray(boxes[best], np.float64), np.asarray(result.labels), np.asarray(result.uv, np.float32)
    if not 0 <= labels.min(initial=0) <= labels.max(initial=0) <= 24 or not np.isfinite(uv).all():
        raise ValueError("labels beyond 0 to 24, or uv that are no numbers")
    return Surface(int(box[0]), int(box[1]), labels.astype(np.uint8), np.clip(uv, 0, 1))


def _load(path: Path) -> Any:
    """What a dump holds, as torch.save or, in old versions, pickle wrote it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(CODE, f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        if data[:2] == b"PK":
            return _torch(data)
        return _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # whatever a foreign file makes an unpickler raise
        raise BackendError(
            CODE, f"{path} is a pickle that is not DensePose's, or damaged, and was not opened; {_REMEDY}.", str(error)
        ) from error


def _torch(data: bytes) -> Any:
    known: list[Any] = [(_Result, name) for name in _RESULT_NAMES]
    with warnings.catch_warnings(), torch.serialization.safe_globals(known):
        warnings.simplefilter("ignore")
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch.storage._load_from_bytes": _storage,
    **dict.fromkeys(_RESULT_NAMES, _Result),
}


class _Unpickler(pickle.Unpickler):
    """Knows tensors and DensePose's result; a name of anything else ends the reading before anything is run."""

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get(f"{module}.{name}")
        if known is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return known
