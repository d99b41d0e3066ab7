# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of PNG frames as an MP4: H.264, 4:2:0, BT.709, over a background, since the format has no alpha."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .frame_files import write_failed
from .interface.files import whole
from .interface.messages import BackendError

Pixels = npt.NDArray[np.uint8]

#: BT.709 in the numbers of ITU-T H.273, for primaries, transfer curve and matrix alike; the narrow range.
_BT709, _NARROW = 1, 1
#: Constant quality of x264: little is seen of what 18 loses.
_QUALITY = 18
_READERS = 2
_COLORS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "gray": (128, 128, 128)}


def require() -> Any:
    """The library. Raises BackendError 'package-missing'."""
    try:
        import av
    except ImportError as error:
        raise BackendError(
            "package-missing", 'MP4 needs the Python package PyAV: pip install "av>=13", or choose PNG.'
        ) from error
    return av


def background(text: str, width: int, height: int) -> Pixels:
    """(height, width, 3) of a colour (black, white, grey, #rrggbb) or a picture, enlarged and cut to fill the frame.

    Raises BackendError 'background'.
    """
    color = _COLORS.get(text.lower())
    if text.startswith("#") and len(text) == 7:
        try:
            color = (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16))
        except ValueError:
            color = None
    if color is not None:
        return np.broadcast_to(np.array(color, np.uint8), (height, width, 3))
    from PIL import Image, ImageOps

    try:
        with Image.open(text) as picture:
            return np.asarray(ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS))
    except (OSError, ValueError) as error:
        raise BackendError(
            "background",
            f"The background '{text}' is neither a colour (black, white, grey, #rrggbb) nor a picture that can be read "
            f"({error}).",
        ) from error


def encode(
    target: Path,
    frames: Sequence[Path],
    behind: Pixels,
    fps: float,
    stamp: str,
    encoded: Callable[[], None] = lambda: None,
) -> None:
    """Encode PNG pictures over ``behind`` (H, W, 3) under a temporary name and rename it; ``encoded`` is called after
    each. Sides that are odd, which 4:2:0 cannot be, grow by a repeated row or column.

    Raises BackendError 'package-missing' and 'write-failed', leaving nothing of its own behind then.
    """
    av = require()
    height, width = behind.shape[:2]
    # Clips say 23.976 where 24000/1001 is meant.
    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "+faststart"}
    try:
        with whole(target) as temporary, av.open(str(temporary), "w", format="mp4", options=options) as movie:
            movie.metadata["comment"] = stamp
            stream = movie.add_stream("libx264", rate=rate, options={"crf": str(_QUALITY), "preset": "medium"})
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            context = stream.codec_context
            context.color_primaries = context.color_trc = context.colorspace = _BT709
            context.color_range = _NARROW
            for pixels in _composed(frames, behind):
                picture = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                    format="yuv420p", src_colorspace="ITU709", dst_colorspace="ITU709",
                    src_color_range="JPEG", dst_color_range="MPEG",
                )  # fmt: skip
                picture.color_primaries = picture.color_trc = _BT709
                movie.mux(stream.encode(picture))
                encoded()
            movie.mux(stream.encode())
    except OSError as error:
        raise write_failed(target, error) from error


def read_stamp(path: Path) -> str | None:
    """What a movie was made from, '' where it does not say; None where there is none that can be read."""
    av = require()
    try:
        with av.open(str(path)) as movie:
            return str(movie.metadata.get("comment", ""))
    except (OSError, ValueError):
        return None


def _composed(paths: Sequence[Path], behind: Pixels) -> Iterator[Pixels]:
    """The pictures over the background, in order; some are read ahead in threads."""
    ahead: deque[Future[Pixels]] = deque()
    rest = iter(paths)
    with ThreadPoolExecutor(_READERS, "reader") as readers:
        for path in rest:
            ahead.append(readers.submit(_over, path, behind))
            if len(ahead) > 2 * _READERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _over(path: Path, behind: Pixels) -> Pixels:
    """A picture over the background, mixed as light is (scene-linear), with even sides."""
    from PIL import Image

    with Image.open(path) as picture:
        front = np.asarray(picture.convert("RGBA"))
    out = np.where(front[..., 3:] == 255, front[..., :3], behind)
    # Only the edge of the figure is both.
    y, x = np.nonzero((front[..., 3] > 0) & (front[..., 3] < 255))
    alpha = front[y, x, 3:].astype(np.float32) / 255
    light = _LINEAR[front[y, x, :3]] * alpha + _LINEAR[behind[y, x]] * (1 - alpha)
    out[y, x] = np.searchsorted(_BORDERS, light)
    height, width = out.shape[:2]
    return np.ascontiguousarray(np.pad(out, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _light(value: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


#: Scene-linear light of each 8-bit value, and the light at which one value gives way to the next.
_LINEAR = _light(np.arange(256) / 255).astype(np.float32)
_BORDERS = _light((np.arange(255) + 0.5) / 255).astype(np.float32)
