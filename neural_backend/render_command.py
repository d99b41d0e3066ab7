# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `neural-avatar render`: a clip's frames without Blender, as PNG, EXR or MP4."""

from __future__ import annotations

import argparse
import hashlib
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from . import exr, video
from .clip import Clip, read_clip
from .frame_files import FrameFormat, Stamps, make_folder, remaining
from .interface.avatar_header import read_header
from .interface.messages import BackendError
from .progress import Progress, duration
from .render_clip import ClipJob, drawer_of, render_frames, serve

_PASSES = ("combined", "depth", "mask")


def add_render(subparsers: Any) -> None:
    """Add the command to an argparse sub-parser collection."""
    render = subparsers.add_parser(
        "render",
        help="draw an avatar over a clip of joints and a camera, as PNG, EXR or MP4",
        description="Draw an avatar over CLIP.npz (Blender's Bake Pose Clip makes one) as OUT/00001.png, … or as one "
        "OUT.mp4. Frames that are there already are skipped, so that a farm can share a clip and an interrupted run "
        "can be taken up again.",
    )
    add = render.add_argument
    add("avatar", type=Path, metavar="AVATAR", help="the avatar file")
    add("clip", type=Path, metavar="CLIP.npz", help="joints and camera (docs/farm.md)")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the pictures, or a file OUT.mp4")
    add("--format", choices=("png", "exr", "mp4"), help="png (default): sRGB, straight alpha. exr: scene-linear, "
        "premultiplied, passes as Blender's. mp4: H.264 over --background")  # fmt: skip
    add("--device", default="auto", metavar="DEVICE", help="auto (default), cpu, cuda, cuda:1, mps")
    add("--devices", metavar="LIST", help="several at once, such as 0,1 for two GPUs, or cuda:0,cpu")
    add("--start", type=int, metavar="N", help="first frame (default: the clip's first)")
    add("--end", type=int, metavar="N", help="last frame, itself included (default: the clip's last)")
    add("--step", type=int, default=1, metavar="N", help="draw every Nth frame")
    add("--passes", metavar="LIST", help=f"of an EXR: {','.join(exr.PASSES)} (default: {','.join(_PASSES)})")
    add("--float", action="store_true", help="EXR with 32 bits a channel; without it colours have 16")
    add("--background", metavar="COLOUR", help="behind an MP4: black (default), white, grey, #rrggbb, or a picture")
    add("--batch", type=int, metavar="N", help="bodies that the network sees at once (default: 8 on a GPU, else 1)")
    add("--overwrite", action="store_true", help="draw frames again that are there already")
    add("--png-compression", type=int, default=4, choices=range(10), metavar="0-9", help=argparse.SUPPRESS)
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    render.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Render; returns the exit code."""
    read_header(options.avatar)  # its errors come before torch is loaded
    clip = read_clip(options.clip)
    kind = _kind(options)
    form = FrameFormat(
        "exr" if kind == "exr" else "png", _passes(options, kind), options.float, options.png_compression
    )
    signal.signal(signal.SIGTERM, _stop)
    if options.worker:
        return serve(ClipJob(options.avatar, options.clip, options.output, form, options.batch), clip, options.device)
    _refuse_nonsense(options, kind)
    indices = _frame_range(clip, options.start, options.end, options.step)
    if kind == "mp4":
        return _render_movie(options, clip, indices)
    if kind == "exr":
        exr.require()
    job = ClipJob(options.avatar, options.clip, options.output, form, options.batch)
    return _render_frames(options, job, clip, indices)


def _render_frames(options: argparse.Namespace, job: ClipJob, clip: Clip, indices: Sequence[int]) -> int:
    make_folder(job.folder)
    stamps = Stamps(job.avatar, clip, job.form)
    todo = remaining(job.folder, clip, indices, job.form, stamps, options.overwrite)
    if skipped := len(indices) - len(todo):
        print(
            f"{skipped} of {len(indices)} frames are in {job.folder} already and are skipped "
            "(--overwrite draws them again)."
        )
    if not todo:
        return 0
    try:
        rate = _draw(options, job, clip, todo)
    except KeyboardInterrupt:
        left = len(remaining(job.folder, clip, todo, job.form, stamps, False)) if not options.overwrite else len(todo)
        print(f"Stopped with {left} frames to go; the same command goes on from there.", file=sys.stderr)
        return 130
    size = f"{clip.cameras[0].width} x {clip.cameras[0].height}"
    print(f"{len(todo)} frames of {size} pixels are in {job.folder}, {rate:.2f} per second.")
    return 0


def _draw(options: argparse.Namespace, job: ClipJob, clip: Clip, todo: Sequence[int]) -> float:
    """Draw the frames ``todo``; returns how many a second."""
    devices = _devices(options)
    if len(devices) > 1:
        from .clip_workers import render_on_devices

        with Progress("render", len(todo)) as progress:
            render_on_devices(job, devices, todo, lambda _: progress.add(), progress.say)
            return progress.rate
    drawer = drawer_of(job, clip, devices[0])
    groups = (todo[i : i + drawer.batch] for i in range(0, len(todo), drawer.batch))
    with Progress("render", len(todo)) as progress:
        render_frames(job, clip, drawer, groups, lambda _: progress.add())
        return progress.rate


def _render_movie(options: argparse.Namespace, clip: Clip, indices: Sequence[int]) -> int:
    video.require()
    target: Path = options.output
    camera = clip.cameras[0]
    behind = video.background(options.background or "black", camera.width, camera.height)
    form = FrameFormat(compression=1)
    stamps = Stamps(options.avatar, clip, form)
    digest = hashlib.sha256(behind.tobytes() + repr(clip.fps / options.step).encode())
    for i in indices:
        digest.update(stamps[i].encode())
    stamp = digest.hexdigest()[:32]
    if target.exists() and not options.overwrite:
        if video.read_stamp(target) == stamp:
            print(f"{target} is there already (--overwrite makes it again).")
            return 0
        raise BackendError("frames-differ", f"{target} is another movie: choose another name, or give --overwrite.")
    make_folder(target.parent)
    # The movie's frames, from which an interrupted run goes on; frames of a former clip are of no use to anybody.
    folder = target.with_name(f".{target.stem}.frames")
    make_folder(folder)
    job = ClipJob(options.avatar, options.clip, folder, form, options.batch)
    todo = [i for i in indices if form.stamp_of(form.path(folder, clip.numbers[i])) != stamps[i]]
    if len(todo) < len(indices):
        print(f"{len(indices) - len(todo)} of {len(indices)} frames were drawn before.")
    try:
        if todo:
            _draw(options, job, clip, todo)
        frames = [form.path(folder, clip.numbers[i]) for i in indices]
        with Progress("encode", len(frames)) as progress:
            video.encode(target, frames, behind, clip.fps / options.step, stamp, progress.add)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from there.", file=sys.stderr)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    seconds = len(indices) * options.step / clip.fps
    print(f"{target}: {len(indices)} frames, {duration(seconds)}.")
    return 0


def _kind(options: argparse.Namespace) -> str:
    movie = options.output.suffix.lower() == ".mp4"
    kind = str(options.format or ("mp4" if movie else "png"))
    if movie != (kind == "mp4"):
        raise BackendError(
            "output-format",
            f"--format {kind} and -o {options.output} do not fit: a movie is a file that ends with .mp4, pictures go "
            "into a folder.",
        )
    return kind


def _passes(options: argparse.Namespace, kind: str) -> tuple[str, ...]:
    if kind != "exr":
        return ()
    chosen = tuple(p.strip().lower() for p in (options.passes or ",".join(_PASSES)).split(","))
    unknown = [p for p in chosen if p not in exr.PASSES]
    if unknown or len(set(chosen)) < len(chosen):
        raise BackendError(
            "passes", f"--passes takes different ones of {', '.join(exr.PASSES)}; '{options.passes}' is something else."
        )
    return chosen


def _refuse_nonsense(options: argparse.Namespace, kind: str) -> None:
    for name, fits in (("passes", "exr"), ("float", "exr"), ("background", "mp4")):
        if getattr(options, name) and kind != fits:
            raise BackendError("options", f"--{name} is for --format {fits} alone.")
    if options.devices and options.device != "auto":
        raise BackendError("options", "Give --device or --devices, not both.")
    for name in ("step", "batch"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise BackendError("options", f"--{name} must be 1 or more.")


def _devices(options: argparse.Namespace) -> list[str]:
    if not options.devices:
        return [options.device]
    names = [name.strip() for name in options.devices.split(",")]
    return [f"cuda:{name}" if name.isdigit() else name for name in names if name]


def _frame_range(clip: Clip, start: int | None, end: int | None, step: int) -> list[int]:
    """Indices of the frames that are called start to end."""
    low, high = clip.numbers[0], clip.numbers[-1]
    first, last = low if start is None else start, high if end is None else end
    if not low <= first <= last <= high:
        message = f"The clip has the frames {low} to {high}; {first} to {last} is no part of it."
        raise BackendError("frame-range", message)
    inside = [i for i, number in enumerate(clip.numbers) if first <= number <= last]
    if not inside:
        raise BackendError("frame-range", f"The clip has no frame from {first} to {last}.")
    return inside[::step]


def _stop(number: int, frame: FrameType | None) -> None:
    """A farm that ends the task is as good as Ctrl-C."""
    raise KeyboardInterrupt
