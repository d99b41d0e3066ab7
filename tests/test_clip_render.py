# SPDX-License-Identifier: GPL-3.0-or-later
"""`neural-avatar render` as a farm and an animator use it: Blender's own frames, whole files, resumption, devices."""

from __future__ import annotations

import signal
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from neural_avatar.neural_backend.clip import read_clip
from neural_avatar.neural_backend.interface.messages import BackendError
from support import blender_scripts
from support.clips import channels, make_clip, names, numbered, pixels
from support.commands import complaint, run
from support.people import standing


@pytest.fixture(scope="module")
def plain(avatar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six frames of the clip, rendered in one go."""
    folder = tmp_path_factory.mktemp("plain")
    run("render", avatar, make_clip(folder / "clip.npz"), "-o", folder / "frames", "--device", "cpu")
    return folder / "frames"


def same_pictures(folder: Path, other: Path, *numbers: int) -> None:
    assert names(folder) == numbered(*numbers)
    for name in names(folder):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_frames_are_those_of_blenders_engine(bpy_python: Path, avatar: Path, tmp_path: Path) -> None:
    told = blender_scripts.run(bpy_python, "bake.py", avatar, tmp_path, resources=tmp_path / "config")
    said = told["told"]
    good = ("plain", "passes", "lens", "cuts", "border", "between", "both", "replaced", "instance")
    assert {name: said[name] for name in good} == dict.fromkeys(good, "")
    for name, words in {
        "again": "is there already", "range": "before it begins", "nowhere": "cannot be written",
        "no_camera": "Frame 2: Scene 'Scene' has no camera", "never": "is hidden", "gone": "gone.avatar",
        "not_rendered": "is hidden from renders", "no_instance": "is hidden from renders",
        "unseen": "Frame 2: A render shows 'person', but this view layer does not",
    }.items():  # fmt: skip
        assert words in said[name] and said[name].endswith("."), (name, said[name])
    refused = ("part", "never", "range", "unseen", "no_", "not_")
    assert not [name for name in told["left"] if any(word in name for word in refused)]

    beside = tmp_path / "avatar.avatar"
    for name in ("plain", "lens", "cuts", "border"):
        out = tmp_path / f"{name}_drawn"
        run("render", beside, tmp_path / f"{name}.npz", "-o", out, "--device", "cpu")
        shown = sorted((tmp_path / name).iterdir())
        assert names(out) == [f"0{p.name}" for p in shown]
        for path in shown:
            blender, ours = pixels(path), pixels(out / f"0{path.name}")
            assert blender.shape == ours.shape
            assert np.abs(blender[..., 3] - ours[..., 3]).max() <= 1, path
            solid = ours[..., 3] == 255
            hidden = name == "cuts" and path.stem == "0005"
            assert solid.any() != hidden, path
            assert not hidden or not blender.any()
            assert np.abs(blender - ours)[solid].max(initial=0) <= 1, path
    first, last = (pixels(tmp_path / "cuts_drawn" / f"0000{n}.png") for n in (2, 6))
    assert np.abs(first - last).max() > 200, "another camera"

    out = tmp_path / "passes_drawn"
    passes = "combined,depth,mask,part,uv"
    run("render", beside, tmp_path / "passes.npz", "-o", out, "--format", "exr", "--passes", passes, "--float")
    for path in sorted((tmp_path / "passes").iterdir()):
        blender, drawn = channels(path), channels(out / f"0{path.name}")
        assert {c for c in blender if ".Composite." not in c} == set(drawn)
        for channel, values in drawn.items():
            if channel.endswith(("Part.X", "UV.U", "UV.V")):  # labels may differ where two parts are level
                assert (np.abs(blender[channel] - values) < 1e-3).mean() > 0.995, (path, channel)
            else:
                np.testing.assert_allclose(blender[channel], values, atol=2e-3, err_msg=f"{path} {channel}")

    clip = read_clip(tmp_path / "plain.npz")
    assert clip.numbers == (2, 3, 4, 5, 6) and abs(clip.fps - 30 / 1.001) < 1e-4
    assert clip.name and Path(clip.avatar) == beside
    assert read_clip(tmp_path / "lens.npz").numbers == (2, 4, 6)
    assert abs(read_clip(tmp_path / "lens.npz").fps - 15 / 1.001) < 1e-4
    between = read_clip(tmp_path / "between.npz")
    assert between.numbers == (2, 3, 4, 5, 6) and abs(between.fps - 120 / 1.001) < 1e-4
    np.testing.assert_allclose(between.joints[[0, 4]], clip.joints[[0, 1]], atol=1e-6)
    assert (between.joints[0] != between.joints[2]).any() and (between.joints[2] != between.joints[4]).any()
    for who in ("both_Second_one", "both_person"):
        assert len(read_clip(tmp_path / f"{who}.npz")) == 5


def test_an_interrupted_job_is_taken_up_and_only_whole_frames_count(avatar: Path, plain: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.npz"), tmp_path / "out"
    run("render", avatar, clip, "-o", out, "--start", 2, "--end", 5, "--step", 2)
    assert names(out) == numbered(2, 4)
    (out / "00003.png").write_bytes((plain / "00003.png").read_bytes()[:-1])
    (out / "00005.png").write_bytes(b"")
    done = run("render", avatar, clip, "-o", out)
    assert "2 of 6 frames are" in done.stdout and "4 frames of 65 x 81" in done.stdout
    assert "6 of 6" in run("render", avatar, clip, "-o", out).stdout
    same_pictures(out, plain, 1, 2, 3, 4, 5, 6)


def test_frames_of_another_clip_are_not_mixed_in(avatar: Path, plain: Path, tmp_path: Path) -> None:
    other, out = make_clip(tmp_path / "other.npz", joints=np.stack([standing() * 1.1] * 6)), tmp_path / "out"
    run("render", avatar, make_clip(tmp_path / "clip.npz"), "-o", out, "--end", 2)
    message = complaint("render", avatar, other, "-o", out)
    assert "00001.png was drawn from another avatar, clip or version" in message and "--overwrite" in message
    same_pictures(out, plain, 1, 2)
    run("render", avatar, other, "-o", out, "--overwrite")
    assert (pixels(out / "00001.png") != pixels(plain / "00001.png")).any() and len(names(out)) == 6


def test_several_devices_share_and_a_failing_one_costs_nothing(avatar: Path, plain: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.npz"), tmp_path / "out"
    done = run("render", avatar, clip, "-o", out, "--devices", "cpu,cuda:77,cpu")
    assert "cuda:77 is given up, the others go on" in done.stderr and "6 frames" in done.stdout
    same_pictures(out, plain, 1, 2, 3, 4, 5, 6)
    done = run("render", avatar, clip, "-o", tmp_path / "none", "--devices", "77,cuda:78", code=1)
    assert "No device is left; 6 frames are still to be drawn" in done.stderr and "Traceback" not in done.stderr
    assert names(tmp_path / "none") == []


def render_six(avatar: Path, plain: Path, folder: Path, devices: list[str]) -> list[str]:
    """Render all six frames on devices, and see that none is wanting or other than `plain`; returns what was said."""
    from neural_avatar.neural_backend import clip_workers
    from neural_avatar.neural_backend.frame_files import FrameFormat
    from neural_avatar.neural_backend.render_clip import ClipJob

    job = ClipJob(avatar, make_clip(folder / "clip.npz"), folder / "out", FrameFormat())
    job.folder.mkdir()
    said: list[str] = []
    finished: list[int] = []
    clip_workers.render_on_devices(job, devices, range(6), finished.append, said.append)
    assert sorted(finished) == list(range(6))
    same_pictures(job.folder, plain, 1, 2, 3, 4, 5, 6)
    return said


def test_a_worker_that_is_killed_costs_nothing(avatar: Path, plain: Path, tmp_path: Path) -> None:
    from neural_avatar.neural_backend import clip_workers

    class Suicidal(clip_workers._Worker):
        """The second of them dies as soon as it is given something to do."""

        def hand(self, indices: Any) -> None:
            super().hand(indices)
            if self.device == "cpu:0":
                self._process.kill()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_workers, "_Worker", Suicidal)
        said = render_six(avatar, plain, tmp_path, ["cpu", "cpu:0"])
    assert "cpu:0 is given up" in said[0]


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be made to hang there")
@pytest.mark.parametrize("when", ["starting", "drawing"])
def test_a_worker_that_hangs_costs_nothing_but_time(avatar: Path, plain: Path, tmp_path: Path, when: str) -> None:
    from neural_avatar.neural_backend import clip_workers

    class Hanging(clip_workers._Worker):
        """The second of them waits for ever, as one does whose GPU hangs."""

        def __init__(self, job: Any, device: str, inbox: Any) -> None:
            super().__init__(job, device, inbox)
            if device == "cpu:0" and when == "starting":
                self._process.send_signal(signal.SIGSTOP)

        def hand(self, indices: Any) -> None:
            super().hand(indices)
            if self.device == "cpu:0":
                self._process.send_signal(signal.SIGSTOP)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_workers, "_Worker", Hanging)
        patch.setattr(clip_workers, "_SILENCE", 20.0)
        patch.setattr(clip_workers, "_PATIENCE", 1.0)
        said = render_six(avatar, plain, tmp_path, ["cpu:0", "cpu"])
    # One that hangs from the beginning may never be missed.
    assert when == "starting" or (len(said) == 1 and "cpu:0 is given up" in said[0] and "silent" in said[0])


def test_batches_draw_what_single_frames_draw(avatar: Path, plain: Path, root: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.npz")
    run("render", avatar, clip, "-o", tmp_path / "out", "--batch", 4)
    for name in names(plain):
        assert np.abs(pixels(tmp_path / "out" / name) - pixels(plain / name)).max() <= 1
    person = next((root / "assets").glob("*.avatar"))  # one with a network
    for batch in (1, 3):
        run("render", person, clip, "-o", tmp_path / str(batch), "--end", 3, "--batch", batch, OMP_NUM_THREADS="2")
    for name in names(tmp_path / "1"):
        a, b = pixels(tmp_path / "1" / name), pixels(tmp_path / "3" / name)
        assert (a[..., 3] > 127).sum() > 150
        assert np.abs(a - b)[(a[..., 3] == 255) & (b[..., 3] == 255)].max() <= 1, "but for rounding"
        assert np.abs(a[..., 3] - b[..., 3]).max() <= 1


def test_memory_that_does_not_suffice_makes_smaller_batches_and_a_failed_device_is_told(
    avatar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neural_avatar.neural_backend import clip_drawing

    whole, sizes = clip_drawing.draw_layers, list[int]()

    def small(person: Any, clip: Any, indices: Any) -> Any:
        sizes.append(len(indices))
        if len(indices) > 1:
            torch.empty(1 << 50)
        return whole(person, clip, indices)

    def none(person: Any, clip: Any, indices: Any) -> Any:
        torch.empty(1 << 50)

    def broken(person: Any, clip: Any, indices: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with…")

    clip = read_clip(make_clip(tmp_path / "clip.npz"))
    drawer = clip_drawing.ClipDrawer(str(avatar), clip, "cpu", batch=4)
    monkeypatch.setattr(clip_drawing, "draw_layers", small)
    assert [i for i, _ in drawer.draw(range(6))] == [0, 1, 2, 3, 4, 5] and sizes == [4, 2, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(clip_drawing, "draw_layers", none)
    with pytest.raises(BackendError, match=r"^CPU has too little memory for one frame: close other .* use it\.$"):
        list(drawer.draw([0]))
    monkeypatch.setattr(clip_drawing, "draw_layers", broken)
    with pytest.raises(BackendError, match="illegal memory access was encountered\\): give the same command") as caught:
        list(drawer.draw([0]))
    assert caught.value.code == "device-failed"


def test_exr_has_blenders_layers_in_half_or_float(avatar: Path, plain: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.npz", gain=np.array([2.0, 1.0, 0.5]))
    run("render", avatar, clip, "-o", tmp_path / "half", "--format", "exr", "--end", 2)
    run("render", avatar, clip, "-o", tmp_path / "float", "--format", "exr", "--end", 1, "--float")
    run("render", avatar, clip, "-o", tmp_path / "single", "--format", "exr", "--end", 1, "--passes", "combined")
    assert names(tmp_path / "half") == numbered(1, 2, kind="exr")
    half, full = channels(tmp_path / "half" / "00001.exr"), channels(tmp_path / "float" / "00001.exr")
    layer = "ViewLayer."
    assert set(half) == {layer + c for c in (*(f"Combined.{c}" for c in "RGBA"), "Depth.Z", "Mask.X")}
    assert half[layer + "Combined.R"].dtype == np.float16 and half[layer + "Depth.Z"].dtype == np.float32
    assert all(values.dtype == np.float32 for values in full.values())
    for name, values in full.items():
        assert np.abs(half[name].astype(np.float32) - values).max() <= 2e-3, name
    alpha = full[layer + "Combined.A"]
    assert (full[layer + "Depth.Z"][alpha < 0.4] == np.float32(1e10)).all() and (alpha == full[layer + "Mask.X"]).all()
    assert 2.5 < full[layer + "Depth.Z"][alpha > 0.9].min() < 3.2
    # The gain is on the light; the PNG without it says what the light was.
    shown = pixels(plain / "00001.png")
    solid = shown[..., 3] == 255
    light = np.where(shown <= 10, shown / 255 / 12.92, ((shown / 255 + 0.055) / 1.055) ** 2.4)
    for letter, i, gain in (("R", 0, 2.0), ("G", 1, 1.0), ("B", 2, 0.5)):
        assert np.abs(full[layer + f"Combined.{letter}"] - light[..., i] * gain)[solid].max() < 0.02
    assert set(channels(tmp_path / "single" / "00001.exr")) == set("RGBA")


def test_mp4_has_bt709_the_clips_rate_and_the_background(avatar: Path, plain: Path, tmp_path: Path) -> None:
    clip, movie = make_clip(tmp_path / "clip.npz"), tmp_path / "deep" / "shot.mp4"
    Image.new("RGB", (300, 100), (200, 60, 20)).save(tmp_path / "wall.png")
    done = run("render", avatar, clip, "-o", movie, "--background", tmp_path / "wall.png")
    assert "6 frames" in done.stdout and names(movie.parent) == ["shot.mp4"]
    with av.open(str(movie)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert context.name == "h264" and context.pix_fmt == "yuv420p" and (stream.width, stream.height) == (66, 82)
        assert stream.average_rate == Fraction(24000, 1001)
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tuple(map(int, tags)) == (1, 1, 1, 1)
        decoded = [
            frame.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
            for frame in container.decode(stream)
        ]
    assert len(decoded) == 6
    for i, shown in enumerate(decoded):
        front = pixels(plain / f"{i + 1:05d}.png")
        picture = np.where(front[..., 3:] == 255, front[..., :3], (200, 60, 20))
        edge = (front[..., 3] > 0) & (front[..., 3] < 255)
        off = np.abs(shown[:81, :65] - picture)[~edge]
        assert off.mean() < 6, "lossy, but the same colours"
        wall = np.abs(shown[:10, :10].astype(int) - (200, 60, 20)).max()
        assert wall <= 3
    assert "there already" in run("render", avatar, clip, "-o", movie, "--background", tmp_path / "wall.png").stdout
    assert "another movie" in complaint("render", avatar, clip, "-o", movie)
    run("render", avatar, clip, "-o", movie, "--overwrite", "--background", "#3366cc", "--step", 2)
    with av.open(str(movie)) as container:
        assert container.streams.video[0].average_rate == Fraction(12000, 1001)
        assert len(list(container.decode(video=0))) == 3


def test_nonsense_on_the_command_line_is_one_sentence(avatar: Path, tmp_path: Path) -> None:
    clip, out = make_clip(tmp_path / "clip.npz"), tmp_path / "out"
    for arguments, words in (
        (("-o", out, "--format", "mp4"), "ends with .mp4"),
        (("-o", tmp_path / "a.mp4", "--format", "png"), "ends with .mp4"),
        (("-o", out, "--passes", "depth"), "--passes is for --format exr"),
        (("-o", out, "--format", "exr", "--passes", "depth,smoke"), "smoke"),
        (("-o", out, "--background", "white"), "--background is for --format mp4"),
        (("-o", tmp_path / "a.mp4", "--background", "mauve"), "neither a colour"),
        (("-o", out, "--step", 0), "--step must be 1 or more"),
        (("-o", out, "--batch", 0), "--batch must be 1 or more"),
        (("-o", out, "--device", "cpu", "--devices", "0,1"), "not both"),
        (("-o", out, "--start", 0), "The clip has the frames 1 to 6; 0 to 6 is no part of it"),
        (("-o", clip), "clip.npz"),
    ):
        assert words in complaint("render", avatar, clip, *arguments), arguments
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": np.array([1, 2, 3, 3, 5, 6])}, "'frames' must be whole numbers that rise"),
        ({"frames": np.arange(6) + 0.5}, "'frames' must be whole numbers that rise"),
        ({"visible": np.ones(5, bool)}, "'visible' must be one number, or one for each frame"),
        ({"gain": np.array([1.0, -1, 1])}, "'gain' must be three numbers"),
        ({"near": np.array([np.nan] * 6)}, "'near' must be one number"),
        ({"detail": 0}, "'detail' must be one positive number"),
        ({"fps": "24"}, "'fps' holds"),
    ],
)
def test_a_broken_clip_is_named(avatar: Path, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    clip = make_clip(tmp_path / "broken.npz", **change)
    message = complaint("render", avatar, clip, "-o", tmp_path / "out")
    assert words in message and "broken.npz" in message
