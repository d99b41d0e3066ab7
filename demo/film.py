# SPDX-License-Identifier: GPL-3.0-or-later
"""From the demo's frames to `demo.mp4` and `contact_sheet.png`. Runs in the backend's environment.

python film.py OUT RATE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import av
import numpy as np
import OpenEXR
from PIL import Image

COLUMNS, ROWS, TILE = 6, 3, 256


def encode(frames: list[Path], target: Path, rate: int) -> None:
    """H.264 where this build of ffmpeg has it, otherwise MPEG-4; yuv420p, which every player shows."""
    partial = target.with_suffix(".partial.mp4")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"crf": "16", "preset": "medium"} if codec == "libx264" else {"q:v": "2"}
    with av.open(str(partial), "w", options={"movflags": "+faststart"}) as film:
        stream = film.add_stream(codec, rate=rate, options=options)
        with Image.open(frames[0]) as first:
            stream.width, stream.height = first.width // 2 * 2, first.height // 2 * 2
        stream.pix_fmt = "yuv420p"
        for path in frames:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))[: stream.height, : stream.width]
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        film.mux(stream.encode())
    os.replace(partial, target)


def passes(path: Path) -> list[Image.Image]:
    """The passes of one EXR as pictures: Combined, Mask, Depth, Part, UV, Composite."""
    channels = {}
    with OpenEXR.File(str(path), separate_channels=True) as file:
        for part in file.parts:
            for name, channel in part.channels.items():
                prefix = "" if name.count(".") else str(part.name()) + "."
                channels[(prefix + name).split(".", 1)[0] + "." + name.rsplit(".", 1)[-1]] = np.asarray(
                    channel.pixels, np.float32
                )
    found: dict[str, list[np.ndarray]] = {}
    for key, pixels in channels.items():
        found.setdefault(key.split(".")[0], []).append(pixels)

    def group(name: str, letters: str) -> np.ndarray:
        planes = [channels[f"{name}.{c}"] for c in letters if f"{name}.{c}" in channels]
        return np.stack(planes or found[name], -1)

    mask = found["Mask"][0]
    depth = found["Depth"][0]
    inside = depth < 1e9
    near, far = (depth[inside].min(), depth[inside].max()) if inside.any() else (0.0, 1.0)
    shade = np.where(inside, 1 - 0.8 * (depth - near) / max(float(far - near), 1e-6), 0)
    part = np.rint(found["Part"][0]).astype(int).clip(0, 24)
    colours = np.random.default_rng(4).uniform(0.25, 1, (25, 3))
    colours[0] = 0
    uv = np.stack([*found["UV"], np.zeros_like(mask)], -1)[..., :3]
    pictures = [
        _encode(group("Combined", "RGB")), np.repeat(mask[..., None], 3, -1), np.repeat(shade[..., None], 3, -1),
        colours[part], uv, _encode(group("Composite", "RGB")),
    ]  # fmt: skip
    return [Image.fromarray((p.clip(0, 1) * 255 + 0.5).astype(np.uint8)) for p in pictures]


def _encode(linear: np.ndarray) -> np.ndarray:
    """Scene-linear Rec.709 to sRGB."""
    x = linear.clip(0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def contact_sheet(frames: list[Path], exr: list[Path], target: Path) -> None:
    """Twelve frames over the clip and, below, the avatar's passes of the last quarter's first frame."""
    sheet = Image.new("RGB", (COLUMNS * TILE, ROWS * TILE))
    count = COLUMNS * (ROWS - 1)
    for k, i in enumerate(np.linspace(0, len(frames) - 1, count).round().astype(int)):
        with Image.open(frames[i]) as picture:
            tile = picture.convert("RGB").resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (k % COLUMNS * TILE, k // COLUMNS * TILE))
    for k, picture in enumerate(passes(exr[3 * len(exr) // 4])):
        sheet.paste(picture.resize((TILE, TILE), Image.Resampling.LANCZOS), (k * TILE, (ROWS - 1) * TILE))
    partial = target.with_suffix(".partial.png")
    sheet.save(partial)
    os.replace(partial, target)


def main() -> int:
    out, rate = Path(sys.argv[1]), int(sys.argv[2])
    frames, exr = sorted(out.glob("frames/frame_[0-9]*.png")), sorted(out.glob("passes/avatar_[0-9]*.exr"))
    encode(frames, out / "demo.mp4", rate)
    contact_sheet(frames, exr, out / "contact_sheet.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
