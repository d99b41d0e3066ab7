# SPDX-License-Identifier: GPL-3.0-or-later
"""DensePose's pictures and dumps: read without opening a pickle, right and wrong."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from neural_avatar.training.footage.readers.densepose import read_densepose
from support.readers import refusal


def iuv_picture(part: int, u: int, v: int) -> np.ndarray:
    """(60, 80, 3) uint8: part, u and v of a rectangle."""
    iuv = np.zeros((60, 80, 3), np.uint8)
    iuv[10:30, 20:50] = (part, u, v)
    return iuv


def test_densepose_pictures_are_read(tmp_path: Path) -> None:
    iuv = iuv_picture(7, 128, 255)
    cv2.imwrite(str(tmp_path / "frame_0003_IUV.png"), iuv)
    cv2.imwrite(str(tmp_path / "frame_0004_IUV.png"), iuv_picture(9, 128, 255))
    for name in ("frame_0003_INDS.png", "frame_0002_INDS.png"):  # DensePose's own program leaves these beside them
        cv2.imwrite(str(tmp_path / name), iuv[..., 0])
    ((first, surface), (second, other)) = read_densepose(tmp_path)
    assert (first, second) == (3, 4) and (surface.x, surface.y) == (20, 10) and surface.labels.shape == (20, 30)
    assert (surface.labels == 7).all() and (other.labels == 9).all() and np.allclose(surface.uv[1], 1)
    full = surface.full(80, 60)
    assert full.labels.sum() == 7 * 600 and full.uv.shape == (2, 60, 80)
    cv2.imwrite(str(tmp_path / "frame_0005_IUV.png"), np.full((60, 80, 3), 99, np.uint8))
    refusal(lambda: list(read_densepose(tmp_path)), "frame_0005_IUV.png", "IUV")
    (tmp_path / "frame_0005_IUV.png").write_bytes(b"")
    refusal(lambda: list(read_densepose(tmp_path)), "frame_0005_IUV.png", "no colour picture")


@pytest.mark.parametrize("swapped", [False, True])  # True: written by a program that swaps colours
def test_the_order_of_channels_is_that_of_the_whole_folder(tmp_path: Path, swapped: bool) -> None:
    """A picture whose v never exceeds the number of parts does not tell by itself which of its channels is which."""

    def write(frame: int, iuv: np.ndarray, swap: bool = swapped) -> None:
        cv2.imwrite(str(tmp_path / f"{frame:04d}.png"), np.ascontiguousarray(iuv[..., ::-1] if swap else iuv))

    write(1, np.zeros((60, 80, 3), np.uint8))  # nobody
    assert list(read_densepose(tmp_path)) == []
    write(2, iuv_picture(7, 128, 12))
    refusal(lambda: list(read_densepose(tmp_path)), tmp_path.name, "either", code="densepose-corrupt")
    write(3, iuv_picture(24, 0, 25))
    found = {n: (set(np.unique(s.labels)), s.uv[:, 0, 0] * 255) for n, s in read_densepose(tmp_path)}
    assert {n: parts for n, (parts, _) in found.items()} == {2: {7}, 3: {24}}
    assert np.allclose(found[2][1], (128, 12)) and np.allclose(found[3][1], (0, 25))
    write(4, iuv_picture(7, 128, 200), not swapped)
    refusal(lambda: list(read_densepose(tmp_path)), "0004.png", "the other way round", code="densepose-corrupt")


class DensePoseChartResult:
    """Pickles as detectron2's class of that name does."""

    def __init__(self, labels: torch.Tensor, uv: torch.Tensor) -> None:
        self.labels, self.uv = labels, uv


DensePoseChartResult.__module__ = "densepose.structures.chart_result"
DensePoseChartResult.__qualname__ = "DensePoseChartResult"


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a dump as apply_net does, by torch.save or by pickle."""
    import sys
    import types

    for name in ("densepose", "densepose.structures", "densepose.structures.chart_result"):
        module = types.ModuleType(name)
        module.DensePoseChartResult = DensePoseChartResult  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)

    def write(torch_file: bool, data: Any = None) -> Path:
        results = [DensePoseChartResult(torch.full((8, 6), part), torch.full((2, 8, 6), 0.25)) for part in (3, 5)]
        entry = {
            "file_name": "images/0007.jpg", "scores": torch.tensor([0.4, 0.9]), "pred_densepose": results,
            "pred_boxes_XYXY": torch.tensor([[0.0, 0, 6, 8], [10.0, 20, 16, 28]]),
        }  # fmt: skip
        empty = {"file_name": "images/0008.jpg", "scores": torch.zeros(0)}
        path = tmp_path / "dump.pkl"
        with path.open("wb") as file:
            (torch.save if torch_file else pickle.dump)([entry, empty] if data is None else data, file)
        return path

    return write


@pytest.mark.parametrize("torch_file", [True, False])
def test_densepose_dump_is_read(dump: Callable[..., Path], torch_file: bool) -> None:
    ((frame, surface),) = read_densepose(dump(torch_file))
    assert frame == 7 and (surface.x, surface.y) == (10, 20) and (surface.labels == 5).all()
    assert surface.uv.shape == (2, 8, 6) and np.allclose(surface.uv, 0.25)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["NEURAL_AVATAR_TEST_TRAP"],)


@pytest.mark.parametrize("torch_file", [True, False])
def test_pickle_that_is_not_denseposes_is_not_opened(
    dump: Callable[..., Path], torch_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "trap"
    monkeypatch.setenv("NEURAL_AVATAR_TEST_TRAP", str(trap))
    path = dump(torch_file, [Evil()])
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "not DensePose's", "apply_net", code="densepose-corrupt")
    assert not trap.exists()
    # A tensor within an old pickle is itself a file of torch's: a trap in there must stay shut too.
    inner = io.BytesIO()
    torch.save(Evil(), inner)
    load = torch.storage._load_from_bytes

    class Nested:
        def __reduce__(self) -> tuple[Any, ...]:
            return load, (inner.getvalue(),)

    path.write_bytes(pickle.dumps([Nested()]))
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "not DensePose's")
    assert not trap.exists()
    path = dump(torch_file, {"a": 1})
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "no DensePose dump")
    path = dump(torch_file, [{"scores": [1]}])
    refusal(lambda: list(read_densepose(path)), "dump.pkl", "picture 0", "pred_boxes_XYXY")


def test_densepose_dump_of_odd_numbers_is_one_sentence(dump: Callable[..., Path]) -> None:
    def entry(**other: Any) -> dict[str, Any]:
        result = DensePoseChartResult(torch.ones(4, 3, dtype=torch.int64), torch.zeros(2, 4, 3))
        return {"file_name": "1.jpg", "scores": torch.ones(1), "pred_densepose": [result],
                "pred_boxes_XYXY": torch.tensor([[0.0, 0, 3, 4]]), **other}  # fmt: skip

    def with_result(labels: torch.Tensor, uv: torch.Tensor) -> dict[str, Any]:
        return entry(pred_densepose=[DensePoseChartResult(labels, uv)])

    assert len(list(read_densepose(dump(False, [entry()])))) == 1
    labels, uv = torch.ones(4, 3, dtype=torch.int64), torch.zeros(2, 4, 3)
    for odd in (
        with_result(-labels, uv),
        with_result(labels, uv * torch.nan),
        with_result(labels, uv.clone().requires_grad_()),
        with_result(torch.ones(1, 1).expand(1 << 20, 1 << 20), torch.ones(1, 1, 1).expand(2, 1 << 20, 1 << 20)),
        with_result(labels, torch.ones(1, 1, 1, dtype=torch.float64).expand(2, 1 << 22, 1 << 22)),
        entry(pred_boxes_XYXY=torch.ones(1, 1).expand(1, 1 << 44)),
        entry(scores=torch.ones(1).expand(1 << 44)),
        entry(pred_boxes_XYXY=torch.tensor([[torch.inf, 0, 3, 4]])),
        entry(pred_densepose=7),
        {"scores": 7},
    ):
        path = dump(False, [odd])
        refusal(lambda path=path: list(read_densepose(path)), "dump.pkl", "picture 0", code="densepose-corrupt")
