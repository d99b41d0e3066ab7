# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's commands: `neural-avatar render` and `neural-avatar info`. torch is imported when a frame is drawn,
not before.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .clip import Clip, read_clip
from .interface.avatar_header import AvatarHeader, read_header
from .interface.messages import BackendError
from .png import write_png


def add_commands(subparsers: Any) -> None:
    """Add this room's commands to an argparse sub-parser collection; each sets ``run``, which takes the options and
    returns an exit code.
    """
    render = subparsers.add_parser(
        "render",
        help="draw an avatar over a clip of joints and a camera, as PNG pictures with alpha",
        description="Draw an avatar over CLIP.npz as DIR/00000.png, … (straight alpha, sRGB). Frames that are there "
        "already are skipped, so "
        "that a farm can share a clip and an interrupted run can be taken up again.",
    )
    render.add_argument("avatar", type=Path, metavar="AVATAR", help="the avatar file")
    render.add_argument(
        "clip", type=Path, metavar="CLIP.npz", help="joints, names, K, R, t, width, height (docs/farm.md)"
    )
    render.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the pictures, made if need be"
    )
    render.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")
    render.add_argument(
        "--start", type=int, metavar="N", help="first frame, counted from 0 (default: the clip's first)"
    )
    render.add_argument("--end", type=int, metavar="N", help="last frame, itself included (default: the clip's last)")
    render.add_argument("--overwrite", action="store_true", help="draw frames again that are there already")
    render.set_defaults(run=_render)

    info = subparsers.add_parser(
        "info", help="say what an avatar file holds", description="Say what an avatar file holds. Needs no torch."
    )
    info.add_argument("avatar", type=Path, metavar="AVATAR", help="the avatar file")
    info.add_argument("--json", action="store_true", help="everything, as JSON, for programs")
    info.add_argument("--thumbnail", type=Path, metavar="FILE.png", help="also write the file's picture")
    info.set_defaults(run=_info)


def _render(options: argparse.Namespace) -> int:
    read_header(options.avatar)  # its errors come before torch is loaded
    clip = read_clip(options.clip)
    frames = _frame_range(clip, options.start, options.end)
    options.output.mkdir(parents=True, exist_ok=True)
    todo = [i for i in frames if options.overwrite or not picture_path(options.output, i).exists()]
    if skipped := len(frames) - len(todo):
        print(
            f"{skipped} of {len(frames)} frames are in {options.output} already and are skipped "
            "(--overwrite draws them again)."
        )
    if not todo:
        return 0

    from .renderer import Renderer, render_rgba

    avatar = Renderer(options.device).avatar(str(options.avatar))
    drawn = 0
    try:
        for i in _progress(todo):
            picture = render_rgba(avatar, clip.joints[i], clip.confidence[i], clip.cameras[i])
            write_png(picture_path(options.output, i), picture)
            drawn += 1
    except KeyboardInterrupt:
        print(f"Stopped after {drawn} of {len(todo)} frames; the same command goes on from there.", file=sys.stderr)
        return 130
    print(f"{drawn} frames of {clip.cameras[0].width} x {clip.cameras[0].height} pixels are in {options.output}.")
    return 0


def _frame_range(clip: Clip, start: int | None, end: int | None) -> range:
    first, last = 0 if start is None else start, len(clip) - 1 if end is None else end
    if not 0 <= first <= last < len(clip):
        message = f"The clip has the frames 0 to {len(clip) - 1}; {first} to {last} is no part of it."
        raise BackendError("frame-range", message)
    return range(first, last + 1)


def picture_path(folder: Path, frame: int) -> Path:
    """The picture of a frame, counted from 0."""
    return folder / f"{frame:05d}.png"


def _progress(frames: list[int]) -> Iterable[int]:
    try:
        from tqdm import tqdm
    except ImportError:
        return _plain_progress(frames)
    bar: Iterable[int] = tqdm(frames, desc="render", unit="frame", dynamic_ncols=True)
    return bar


def _plain_progress(frames: list[int]) -> Iterator[int]:
    for done, frame in enumerate(frames, 1):
        yield frame
        if done == len(frames) or done % 10 == 0:
            print(f"{done} of {len(frames)} frames", file=sys.stderr, flush=True)


def _info(options: argparse.Namespace) -> int:
    header = read_header(options.avatar)
    if options.thumbnail is not None:
        if not header.thumbnail:
            raise BackendError("no-thumbnail", f"{options.avatar} holds no picture.")
        temporary = options.thumbnail.with_name(options.thumbnail.name + ".part")
        temporary.write_bytes(header.thumbnail)
        os.replace(temporary, options.thumbnail)
    if options.json:
        print(json.dumps(_plain(header), indent=2))
        return 0
    network = ", ".join(f"{k} {v}" for k, v in header.network.items())
    rows = [
        ("name", header.name),
        ("file", f"{options.avatar} ({options.avatar.stat().st_size / 1e6:.1f} MB, format {header.format_version})"),
        ("method", header.method),
        ("network", network),
        (
            "textures",
            "none"
            if header.method.startswith("direct")
            else f"24 of {header.texture_size} x {header.texture_size} texels",
        ),
        ("joints", f"{int((header.rest_confidence > 0).sum())} of {len(header.joint_names)} known from the footage"),
        ("body", f"{header.body_size:.2f} m, trunk and limbs summed"),
        ("licence", header.license),
        ("credit", header.credit),
        *((f"metric {name}", _short(value)) for name, value in sorted(header.metrics.items())),
        *((f"made with {name}", _short(value)) for name, value in sorted(header.provenance.items())),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"{name:{width}}  {text or '-'}")
    return 0


def _short(value: Any) -> str:
    text = (
        f"{value:.4g}"
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, default=str)
    )
    return text if len(text) <= 100 else text[:99] + "…"


def _plain(header: AvatarHeader) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in vars(header).items():
        if isinstance(value, bytes):
            plain[name + "_bytes"] = len(value)
        else:
            plain[name] = value.tolist() if isinstance(value, np.ndarray) else value
    return plain
