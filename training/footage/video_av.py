# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos through PyAV: every codec of FFmpeg, exact times, exact seeking."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from ...neural_backend.interface.messages import BackendError
from . import hdr
from .video import PICTURE_RATE, Bytes, Frame, Source, opaque, unreadable

#: FFmpeg's numbers of colour spaces (AVColorSpace): unknown; and those that its converter knows by the same number.
_UNKNOWN = 2
_KNOWN = (1, 4, 5, 6, 7, 9)
_BT709, _BT601 = 1, 5


@dataclass(frozen=True)
class _Index:
    """What the packets of a video say. stamps: (N,) int64 presentation times in the stream's unit, rising; None where
    the file has none that can be relied on. keys: (K,) frames at which decoding can begin, rising. count: frames.
    promised: frames that the header speaks of."""

    stamps: npt.NDArray[np.int64] | None
    keys: npt.NDArray[np.int64]
    count: int
    promised: int


class AvSource(Source):
    """A video file. It is opened anew for every ``read``, so that several threads may read it at once."""

    def __init__(self, path: Path) -> None:
        with _open(path) as (container, stream):
            self._index = index = _read_index(container, stream)
            unit, rate = float(stream.time_base or 0), float(stream.average_rate or PICTURE_RATE)
            ratio = stream.sample_aspect_ratio
        if not index.count:
            raise BackendError(
                "video-empty", f"{path} holds no pictures; check that it is the right file and that it plays."
            )
        first = None
        with _open(path) as (container, stream):
            first = next(_decode(container, stream), None)
        if first is None:
            raise unreadable(path, "no frame can be decoded")
        self._matrix = _display_matrix(first)
        self._coded = first.width, first.height
        turned = self._matrix[0] == 0
        width, height = self._coded[::-1] if turned else self._coded
        times = np.arange(index.count) / rate if index.stamps is None else (index.stamps - index.stamps[0]) * unit
        super().__init__(path, width, height, times)
        self.has_alpha = any(c.is_alpha for c in first.format.components) and not opaque(
            np.asarray(first.to_ndarray(format="rgba")[..., 3], np.uint8)
        )
        self._tone = hdr.tone(int(first.color_trc))
        self._say(ratio)

    def _say(self, ratio: Any) -> None:
        if self._tone:
            self._warnings.append(
                f"{self.path} is HDR ({self._tone.name}); its colours are brought to the standard range and may differ "
                "from your player's. Film in standard range (SDR) for exact colours."
            )
        if ratio and ratio != 1:
            self._warnings.append(
                f"{self.path} has pixels that are not square ({ratio}); they are used as they are. Convert it to "
                "square pixels unless the calibration was made with such pictures."
            )
        if self._index.count < self._index.promised:
            self._warnings.append(
                f"{self.path} is cut off: {self._index.count} of its {self._index.promised} frames can be read, and "
                "these are used; copy it from the camera again if you need the rest."
            )

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """See Source. Decoding begins at the key frame before ``start``."""
        stop = len(self) if stop is None else min(stop, len(self))
        if start >= stop:
            return
        keys = self._index.keys
        key = int(keys[max(int(np.searchsorted(keys, start, "right")) - 1, 0)]) if len(keys) else 0
        following = start
        # Where a file's seeking goes too far, as in some broadcast streams, decoding begins at the first frame.
        for origin in dict.fromkeys((key, 0)):
            for index, frame in self._numbered(origin):
                if origin and following == start and index > start:
                    break
                if index >= stop:
                    break
                if index >= following:
                    self._lose(following, index)
                    following = index + 1
                    yield self._upright(index, frame)
                    if following == stop:
                        return
            if following > start:
                break
        self._lose(following, stop)

    def _numbered(self, origin: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames with their index, from the key frame ``origin``."""
        stamps = self._index.stamps
        with _open(self.path) as (container, stream):
            if stamps is None:
                yield from enumerate(_decode(container, stream))
                return
            if origin:
                container.seek(int(stamps[origin]), stream=stream)
            for frame in _decode(container, stream):
                index = int(np.searchsorted(stamps, frame.pts)) if frame.pts is not None else len(stamps)
                if index < len(stamps) and stamps[index] == frame.pts and (frame.width, frame.height) == self._coded:
                    yield index, frame

    def _upright(self, index: int, frame: av.VideoFrame) -> Frame:
        space = int(frame.colorspace)
        if space == _UNKNOWN:  # as players do
            space = _BT709 if min(frame.width, frame.height) > 576 else _BT601

        def pixels(layout: str) -> Any:
            return frame.to_ndarray(format=layout, src_colorspace=space if space in _KNOWN else None)

        if self.has_alpha:
            rgba = self._turn(pixels("rgba"))
            return Frame(index, np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]))
        if self._tone:
            return Frame(index, self._turn(self._tone.apply(pixels("rgb48le"))))
        return Frame(index, self._turn(pixels("rgb24")))

    def _turn(self, picture: Bytes) -> Bytes:
        """The picture as the file's display matrix wants it to be seen."""
        a, b, c, d = self._matrix
        if a == 0:
            picture, right, down = picture.swapaxes(0, 1), c, b
        else:
            right, down = a, d
        return np.ascontiguousarray(picture[:: 1 if down > 0 else -1, :: 1 if right > 0 else -1])


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[Any, Any]]:
    """A container and its video stream. Raises BackendError 'video-unreadable' or 'video-empty' (only sound)."""
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise unreadable(path, f"PyAV: {error}") from error
    with container:
        covers = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & covers]
        if not streams:
            if not container.streams.audio:
                raise unreadable(path, "PyAV finds no video stream")
            raise BackendError("video-empty", f"{path} holds only sound; give the file with the picture.")
        stream = streams[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(os.cpu_count() or 1, 4)  # each thread keeps frames in memory
        yield container, stream


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets until the end of the file, or of what is left of it, then one that empties the decoder."""
    with contextlib.suppress(av.error.FFmpegError):
        for packet in container.demux(stream):
            if packet.dts is not None or packet.size:
                yield packet
    yield None


def _decode(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """The frames that can be decoded whole, in the order in which they are shown."""
    for packet in _packets(container, stream):
        with contextlib.suppress(av.error.FFmpegError):
            for frame in stream.codec_context.decode(packet):
                if not frame.is_corrupt:
                    yield frame


def _read_index(container: Any, stream: Any) -> _Index:
    """Walk through the packets without decoding any."""
    stamps: list[int] = []
    keys: list[int] = []
    count = hidden = 0
    reliable = True
    for packet in _packets(container, stream):
        if packet is None:
            break
        if packet.is_discard or (stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10):
            hidden += 1
            continue
        count += 1
        if packet.pts is None:
            reliable = False
            continue
        stamps.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
    if not reliable:
        return _Index(None, np.zeros(0, np.int64), count, stream.frames - hidden)
    shown = np.unique(np.asarray(stamps, np.int64))
    repeated = count - len(shown)
    return _Index(shown, np.searchsorted(shown, sorted(keys)), len(shown), stream.frames - hidden - repeated)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
    """a, b, c, d of the file's display matrix: x' = a x + c y, y' = b x + d y, y down; each -1, 0 or 1."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5] / 65536.0
            if max(abs(a), abs(d)) >= max(abs(b), abs(c)):
                return (1 if a >= 0 else -1), 0, 0, (1 if d >= 0 else -1)
            return 0, (1 if b >= 0 else -1), (1 if c >= 0 else -1), 0
    return 1, 0, 0, 1
