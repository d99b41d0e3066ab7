# SPDX-License-Identifier: GPL-3.0-or-later
"""The last stage: everything that is known becomes a dataset in the working folder, and a report on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.body import REQUIRED_JOINTS
from ...neural_backend.interface.skeleton import INDEX
from .films import Film
from .framing import Framing, mask_box, plan, undistort_box
from .keep import load_reconstruction
from .masks import read_alpha
from .overlays import sample_rows
from .records import Detections, Reconstruction
from .stages import FOUND, PARTS, State, dataset_folder
from .tables import Table, read_table
from .write import PictureJob, write_cameras, write_frames, write_joints, write_npz, write_pictures

#: Seconds to each side over which a window's way is smoothed.
_CALM = 0.4


def assemble(state: State) -> None:
    """Pictures, joints, cameras, and what is known of their quality."""
    options, found = state.options, state.detections()
    result = load_reconstruction(state.manifest.stage_folder("3d"))
    folder, tables = dataset_folder(state.manifest), state.manifest.stage_folder("dataset")
    folder.mkdir(exist_ok=True)
    motion = result.motion
    usable = np.asarray((motion.confidence[:, [INDEX[name] for name in REQUIRED_JOINTS]] > 0).all(1))
    frames = np.where(usable[:, None], result.frames, -1)
    framings: list[Framing] = []
    for c, film in enumerate(state.films):
        boxes = _mask_boxes(state, film, tables / f"{film.name}.boxes")
        seen = (frames[:, c] >= 0) & found[c].found[frames[:, c]] & np.isfinite(boxes[frames[:, c]]).all(1)
        frames[:, c] = np.where(seen, frames[:, c], -1)
        framing = plan(result.cameras[c], _boxes(result, c, frames[:, c], boxes), options.crop, _radius(motion.times))
        samples = frozenset(sample_rows(frames[:, c] >= 0, _badness(result, c)))
        alpha = _alpha(state, film)
        job = PictureJob(result.cameras[c], film.selection, framing, frames[:, c], alpha, samples)
        write_pictures(job, folder, tables / f"{film.name}.pictures", state.voice.progress(f"dataset {film.name}"))
        framings.append(framing)
    write_joints(folder, motion, options.holdout, state.films[0].source.name)
    source_frame = np.stack([
        np.where(frames[:, c] >= 0, film.selection.indices[frames[:, c]], -1) for c, film in enumerate(state.films)
    ], 1)  # fmt: skip
    write_frames(folder, framings, frames >= 0, source_frame)
    write_cameras(folder, result.cameras, framings, options.heldout, options.credit)
    write_npz(
        folder / "quality.npz", reprojection=result.reprojection, offsets=np.array(result.offsets, np.float32),
        detected=_detected(found, frames),
    )  # fmt: skip


def _radius(times: npt.NDArray[np.float64]) -> int:
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return max(1, round(_CALM / max(step, 1e-6)))


def _boxes(
    result: Reconstruction, c: int, frames: npt.NDArray[np.int64], masks: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(T, 4) the person's box in pixels of the perfect lens: mask and joints; NaN in rows without a picture."""
    camera, motion = result.cameras[c], result.motion
    out = np.full((len(frames), 4), np.nan)
    for row in np.flatnonzero(frames >= 0):
        box = undistort_box(camera, masks[frames[row]])
        pixels = camera.camera.project(motion.joints[row][motion.confidence[row] > 0])[0]
        pixels = pixels[np.isfinite(pixels).all(1)]
        out[row] = np.concatenate([np.vstack([box[:2], pixels]).min(0), np.vstack([box[2:], pixels]).max(0)])
    return out


def _badness(result: Reconstruction, c: int) -> npt.NDArray[np.float64]:
    """(T,) the body's middle reprojection error, pixels; NaN where unknown."""
    errors = result.reprojection[:, c, PARTS[0]].astype(np.float64)
    known = np.isfinite(errors).any(1)
    out = np.full(len(errors), np.nan)
    out[known] = np.nanmedian(errors[known], 1)
    return out


def _detected(found: list[Detections], frames: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(T, C, 3) share of the joints of body, hands and face that were found; 0 in rows without a picture."""
    out = np.zeros((*frames.shape, 3), np.float32)
    for c, d in enumerate(found):
        rows = frames[:, c] >= 0
        for i, part in enumerate(PARTS):
            out[rows, c, i] = (d.confidence[frames[rows, c], part] > FOUND).mean(1)
    return out


def _mask_boxes(state: State, film: Film, path: Path) -> npt.NDArray[np.float64]:
    """(N, 4) the box of each used frame's mask, pixels of the film; NaN where it is empty."""
    count, alpha = len(film.selection), _alpha(state, film)
    progress = state.voice.progress(f"framing {film.name}")
    with Table(path, 5) as table:
        for index in range(len(table.rows), count):
            box = mask_box(alpha(index), film.selection.width, film.selection.height)
            table.append([index, *box])
            progress(index + 1, count)
    return read_table(path, 5, count).astype(np.float64)


def _alpha(state: State, film: Film) -> Callable[[int], npt.NDArray[np.uint8]]:
    """The mask of each used frame of a film, at the size it is kept in."""
    folder = state.folder("masks", film)
    return lambda index: read_alpha(folder, index)
