# SPDX-License-Identifier: GPL-3.0-or-later
"""The mask of every frame: from the pose model's segmentation, from masks that the user has, or by other means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...neural_backend.interface.messages import BackendError
from .ahead import ahead
from .given_masks import GivenMasks
from .holistic import Finder, Holistic
from .mask_models import DeepLab, refine_grabcut
from .matte import clean
from .people import Person, backed
from .pose import Progress, segmentation_path
from .records import Detections
from .tracking import Place, Tracker, joint_box
from .video import Bytes, Frame, Source
from .views import overlap, place_mask, working_size, write_grey

#: The pose model begins anew after so many frames, so that a resumed run comes to the same masks.
_CHUNK = 50

#: The person that the model sees must overlap the given joints by at least this.
_SAME = 0.2


@dataclass(frozen=True)
class MaskOptions:
    """given: a folder of masks (or a video of them) that are taken as they are. segmentation: the folder in which
    ``pose.detect`` kept its segmentations; without it, as where poses were given, the pose model is run for them.
    grabcut: refine with GrabCut. deeplab: DeepLabV3's weights; '' or a folder for those in torchvision's cache. size:
    the longer side of the masks that are made."""

    given: Path | None = None
    segmentation: Path | None = None
    grabcut: bool = False
    deeplab: Path | None = None
    size: int = 960


def make_masks(
    source: Source,
    detections: Detections,
    folder: Path,
    options: MaskOptions | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the mask of every frame to ``folder``; those that are there already are kept.

    Without given masks, an alpha of the footage itself is taken as it is. Frames in which nobody was found have an
    empty mask. Raises BackendError 'masks-count', 'masks-size' (the given ones do not fit), 'masks-missing',
    'deeplab-missing', 'deeplab-weights', 'pose-missing'.
    """
    options = options or MaskOptions()
    folder.mkdir(parents=True, exist_ok=True)
    total = len(source)
    first = next((i for i in range(total) if not mask_path(folder, i).exists()), total)
    progress(first, total)
    if first == total:
        return
    if options.given is not None:
        masks = GivenMasks(options.given, source, (source.name, folder.name)).read(first)
    elif source.has_alpha:
        masks = ((f.index, f.alpha) for f in source.read(first) if f.alpha is not None)
    else:
        masks = _made(source, detections, options, first)
    following = first
    for index, mask in masks:
        for empty in range(following, index):  # not decoded
            write_grey(mask_path(folder, empty), _empty(source, options))
        write_grey(mask_path(folder, index), mask)
        following = index + 1
        progress(following, total)
    for empty in range(following, total):
        write_grey(mask_path(folder, empty), _empty(source, options))
    progress(total, total)


def mask_path(folder: Path, index: int) -> Path:
    """The mask of a frame: grey PNG, 8 bit."""
    return folder / f"{index:05d}.png"


def read_alpha(folder: Path, index: int, width: int = 0, height: int = 0) -> Bytes:
    """The mask of a frame, (h, w) uint8, at the size it is kept in, or smoothly brought to width x height.

    Raises BackendError 'masks-missing'.
    """
    mask = _grey(mask_path(folder, index))
    if not width or mask.shape == (height, width):
        return mask
    smaller = width < mask.shape[1]
    return np.asarray(
        cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8
    )


def _grey(path: Path) -> Bytes:
    """A picture of the working folder, (h, w) uint8. Read by Python: on Windows OpenCV opens no names beyond ASCII."""
    data = np.fromfile(path, np.uint8) if path.exists() else np.zeros(0, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if picture is None:
        raise BackendError("masks-missing", f"{path} is missing or damaged; run the command again with --restart.")
    return np.asarray(picture, np.uint8)


def _empty(source: Source, options: MaskOptions) -> Bytes:
    width, height = working_size(source.width, source.height, options.size)
    return np.zeros((height, width), np.uint8)


def _made(source: Source, detections: Detections, options: MaskOptions, first: int) -> Iterator[tuple[int, Bytes]]:
    """Masks by segmentation, from frame ``first`` on."""
    needs_picture = options.grabcut or options.deeplab is not None or options.segmentation is None
    segment = _segmenter(source, detections, options)
    if needs_picture:
        begin = first // _CHUNK * _CHUNK if options.segmentation is None else first
        frames: Iterator[Frame] = ahead(source.read(begin))
    else:
        nothing = np.zeros((0, 0, 3), np.uint8)
        frames = (Frame(index, nothing) for index in range(first, len(source)))
    width, height = working_size(source.width, source.height, options.size)
    scale = np.array([width / source.width, height / source.height], np.float32)
    for frame in frames:
        raw = segment(frame)
        if frame.index < first:
            continue
        points, confidence = detections.points[frame.index] * scale, detections.confidence[frame.index]
        if raw is None or not (confidence > 0).any():
            yield frame.index, _empty(source, options)
            continue
        if raw.shape != (height, width):
            raw = np.asarray(cv2.resize(raw, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
        if options.grabcut:
            small = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA)
            raw = refine_grabcut(np.asarray(small, np.uint8), clean(raw, points, confidence))
        yield frame.index, clean(raw, points, confidence)


def _segmenter(source: Source, detections: Detections, options: MaskOptions) -> Callable[[Frame], Bytes | None]:
    """A function from frames to raw segmentations, (h, w) uint8, None where there is none."""
    folder = options.segmentation
    size = working_size(source.width, source.height, options.size)
    if options.deeplab is not None:
        model = DeepLab(options.deeplab)

        def by_deeplab(frame: Frame) -> Bytes | None:
            box = joint_box(detections, frame.index)
            return None if box is None else model.segment(frame.rgb, box, size)

        return by_deeplab
    if folder is not None:

        def by_pose(frame: Frame) -> Bytes | None:
            path = segmentation_path(folder, frame.index)
            return _grey(path) if path.exists() else None

        return by_pose
    anybody = Person((0, 0, source.width, source.height), np.zeros(0, np.float32))
    tracker = Tracker(Holistic(), Finder(), anybody, options.size)

    def by_model(frame: Frame) -> Bytes | None:
        box = joint_box(detections, frame.index)
        if box is None:
            return None
        if frame.index % _CHUNK == 0:
            tracker.begin(Place(box))
        tracker.place = Place(box)
        found = tracker.follow(backed(frame))
        if found is None or found.mask is None or overlap(tracker.place.box or box, box) < _SAME:
            return None
        return place_mask(found.mask, found.view, (source.width, source.height), size)

    return by_model
