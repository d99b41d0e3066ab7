# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage is read whole, upright, at its real times, from any frame on; what cannot be read is told in one sentence."""

from __future__ import annotations

import builtins
import struct
import zlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training.footage import hdr
from neural_avatar.training.footage.video import open_source
from neural_avatar.training.footage.video_av import AvSource
from neural_avatar.training.footage.video_cv import CvSource

W, H = 64, 48


def picture(index: int, width: int = W, height: int = H) -> np.ndarray:
    """A frame that says which one it is, in 8 squares of black and white, and has a red corner at the top left."""
    rgb = np.full((height, width, 3), 128, np.uint8)
    for bit in range(8):
        rgb[height // 2 : height // 2 + 8, bit * 8 : bit * 8 + 8] = 255 if index >> bit & 1 else 0
    rgb[: height // 3, : width // 3] = (220, 20, 20)
    return rgb


def number(rgb: np.ndarray) -> int:
    height = rgb.shape[0]
    return sum((int(rgb[height // 2 + 4, bit * 8 + 4].mean()) > 128) << bit for bit in range(8))


def write_video(
    path: Path,
    count: int,
    *,
    codec: str = "libx264",
    rate: int = 30,
    degrees: int | None = None,
    flip: bool = False,
    stamps: Sequence[int] | None = None,
    size: tuple[int, int] = (W, H),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    transfer: int | None = None,
) -> Path:
    """A video of ``count`` numbered pictures. stamps: their times in thousandths of a second."""
    with av.open(str(path), "w", options=mux or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = options if options is not None else {"g": "12", "bf": "2", "crf": "10"}
        if degrees is not None:
            stream.set_display_rotation(degrees, hflip=flip)
        if stamps is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24").reformat(format=pix_fmt)
            if transfer is not None:
                frame.color_trc, frame.colorspace, frame.color_primaries = transfer, 9, 9
                stream.codec_context.color_trc = transfer
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("reader", [AvSource, CvSource])
def test_every_frame_from_everywhere(tmp_path: Path, reader: type) -> None:
    source = reader(write_video(tmp_path / "a.mp4", 60))
    assert (len(source), source.width, source.height, source.variable) == (60, W, H, False)
    assert source.fps == pytest.approx(30, abs=0.01)
    np.testing.assert_allclose(source.times, np.arange(60) / 30, atol=2e-3)
    assert [(i, number(rgb)) for i, rgb in source.frames()] == [(i, i) for i in range(60)]
    for start in (1, 11, 12, 13, 29, 47, 59):
        assert [(i, number(rgb)) for i, rgb in source.frames(start, start + 2)] == [
            (i, i) for i in range(start, min(start + 2, 60))
        ]
    assert list(source.frames(60)) == [] and source.warnings == []


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.webm", "libvpx-vp9", "yuv420p"), ("a.webm", "libvpx", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"),
     ("a.ts", "libx264", "yuv420p"), ("a.mkv", "libx265", "yuv420p10le"), ("a.mov", "prores_ks", "yuv422p10le"),
     ("a.mkv", "ffv1", "yuv420p")],
)  # fmt: skip
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / name, 30, codec=codec, pix_fmt=pix_fmt, options={} if "265" not in codec else
                       {"x265-params": "log-level=none:keyint=12"})  # fmt: skip
    source = open_source(path)
    assert len(source) == 30 and source.warnings == []
    assert [number(rgb) for _, rgb in source.frames()] == list(range(30))
    assert [(i, number(rgb)) for i, rgb in source.frames(17, 19)] == [(17, 17), (18, 18)]


@pytest.mark.parametrize("reader", [AvSource, CvSource])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_honoured(tmp_path: Path, reader: type, degrees: int) -> None:
    source = reader(write_video(tmp_path / "a.mp4", 3, degrees=degrees))
    assert (source.width, source.height) == ((W, H) if degrees % 180 == 0 else (H, W))
    _, rgb = next(source.frames())
    assert rgb.shape == (source.height, source.width, 3)
    upright = np.rot90(picture(0), degrees // 90)  # the file's angle is counted against the clock
    assert np.abs(rgb.astype(int) - upright).mean() < 12


def test_mirrored_video(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.mp4", 2, degrees=0, flip=True))
    _, rgb = next(source.frames())
    assert np.abs(rgb.astype(int) - picture(0)[:, ::-1]).mean() < 12


def test_variable_frame_rate(tmp_path: Path) -> None:
    stamps = np.cumsum([0, *([33, 33, 66, 33, 20] * 6)]).tolist()
    source = open_source(write_video(tmp_path / "a.mkv", len(stamps), stamps=stamps))
    assert source.variable
    np.testing.assert_allclose(source.times, np.array(stamps) / 1000, atol=1.5e-3)
    assert [(i, number(rgb)) for i, rgb in source.frames(14, 16)] == [(14, 14), (15, 15)]


def test_times_begin_at_zero(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.mkv", 10, stamps=[5000 + 40 * i for i in range(10)]))
    assert source.times[0] == 0 and not source.variable and source.fps == pytest.approx(25, abs=0.1)


def test_odd_size(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.mkv", 3, size=(65, 49), pix_fmt="yuv444p"))
    assert [rgb.shape for _, rgb in source.frames()] == [(49, 65, 3)] * 3


def test_hdr_is_toned_and_said(tmp_path: Path) -> None:
    source = open_source(write_video(
        tmp_path / "a.mkv", 3, codec="libx265", pix_fmt="yuv420p10le", transfer=18,
        options={"x265-params": "log-level=none:transfer=arib-std-b67:colormatrix=bt2020nc:colorprim=bt2020"},
    ))  # fmt: skip
    assert any("HDR (HLG)" in w for w in source.warnings)
    assert [number(rgb) for _, rgb in source.frames()] == [0, 1, 2]


@pytest.mark.parametrize(("transfer", "white"), [(16, 0.5807), (18, 0.7505)])
def test_hdr_reference_white(transfer: int, white: float) -> None:
    """203 cd/m2 (ITU-R BT.2408: 58 % PQ, 75 % HLG) is bright, grey stays grey, and more light is never darker."""
    tone = hdr.tone(transfer)
    assert tone is not None and tone.light[round(white * 65535)] == pytest.approx(1, rel=0.03)
    ramp = np.repeat(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], 3, 2)
    out = tone.apply(ramp).astype(int)
    assert (np.ptp(out, axis=2) <= 2).all() and (np.diff(out[0, :, 1]) >= 0).all()
    assert out[0, 0, 1] == 0 and out[0, -1, 1] == 255 and 215 < out[0, round(white * 511), 1] < 250


def test_alpha_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("prores_ks", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuva444p10le"
        for index in range(4):
            rgba = np.dstack([picture(index), np.where(np.arange(W) < 8 * index + 8, 0, 255)[None].repeat(H, 0)])
            frame = av.VideoFrame.from_ndarray(rgba.astype(np.uint8), format="rgba")
            container.mux(stream.encode(frame.reformat(format="yuva444p10le")))
        container.mux(stream.encode())
    source = open_source(path)
    assert source.has_alpha
    alpha = source.alpha(3)
    assert alpha is not None and alpha.shape == (H, W) and alpha[5, 4] < 8 and alpha[5, 44] > 247


def test_pictures_in_natural_order(tmp_path: Path) -> None:
    for index in range(12):
        cv2.imwrite(str(tmp_path / f"shot{index}.png"), picture(index)[..., ::-1])
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(tmp_path)
    assert [number(rgb) for _, rgb in source.frames()] == list(range(12)) and not source.has_alpha
    assert [number(rgb) for _, rgb in open_source(tmp_path / "shot?.png").frames()] == list(range(10))


def test_pictures_with_alpha(tmp_path: Path) -> None:
    alpha = np.zeros((H, W), np.uint8)
    alpha[:, 20:] = 200
    deep = np.dstack([picture(3)[..., ::-1], alpha]).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "0.png"), deep)
    source = open_source(tmp_path)
    assert source.has_alpha
    np.testing.assert_array_equal(source.alpha(0), alpha)
    frame = next(source.read())
    np.testing.assert_array_equal(frame.rgb, picture(3))


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), picture(0))
    cv2.imwrite(str(tmp_path / "1.png"), picture(0)[:-2])
    with pytest.raises(BackendError, match=r"1\.png is 64x46.*64x48") as caught:
        list(open_source(tmp_path).frames())
    assert caught.value.code == "video-size"


def test_a_damaged_picture_is_left_out(tmp_path: Path) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(index)[..., ::-1])
    (tmp_path / "2.png").write_bytes(b"\x89PNG nothing")
    source = open_source(tmp_path)
    assert [i for i, _ in source.frames()] == [0, 1, 3]
    assert "1 of its 4 frames" in source.warnings[-1] and "frame 2" in source.warnings[-1]


def test_a_picture_of_absurd_size_is_damaged(tmp_path: Path) -> None:
    """OpenCV raises an error of its own for what claims to be larger than it allows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0" * 999)) + chunk(b"IEND", b"")
    (tmp_path / "0.png").write_bytes(png)
    with pytest.raises(BackendError, match=r"0\.png is damaged"):
        open_source(tmp_path)


def test_opaque_alpha_of_a_video_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    write_video(path, 2, codec="qtrle", pix_fmt="argb", options={})
    assert not open_source(path).has_alpha


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video " * 100)
    (tmp_path / "folder").mkdir()
    _sound(tmp_path / "sound.mp4")
    whole = write_video(tmp_path / "whole.mp4", 60).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])  # its index, at the end, is gone
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        container.start_encoding()
    for name, code in (
        ("empty.mp4", "video-empty"), ("text.mp4", "video-unreadable"), ("folder", "video-empty"),
        ("sound.mp4", "video-empty"), ("cut.mp4", "video-unreadable"), ("none.avi", "video-empty"),
        ("nowhere.mp4", "video-missing"), ("no*.mp4x", "video-missing"),
    ):  # fmt: skip
        with pytest.raises(BackendError) as caught:
            open_source(tmp_path / name)
        assert (name, caught.value.code) == (name, code)
        assert name in caught.value.message and "\n" not in caught.value.message


def test_a_cut_off_video_gives_what_is_left(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", 90, mux={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    source = open_source(tmp_path / "cut.mp4")
    assert 20 < len(source) < 90
    got = [(i, number(rgb)) for i, rgb in source.frames()]
    assert all(i == n for i, n in got) and len(got) >= len(source) - 3
    assert any(f"{len(source)} of its 90 frames" in w for w in source.warnings)


@pytest.mark.parametrize("start", [0, 40])
def test_a_video_broken_in_the_middle(tmp_path: Path, start: int) -> None:
    path = write_video(tmp_path / "a.mp4", 96)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.pos is not None and p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[45:50]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    source = open_source(path)
    assert len(source) == 96
    got = [(i, number(rgb)) for i, rgb in source.frames(start)]
    lost = set(range(start, 96)) - {i for i, _ in got}
    assert lost and lost == source.lost and all(44 <= i < 60 for i in lost)
    assert all(i == n for i, n in got if i < 44 or i >= 60)
    assert any(f"{len(lost)} of its 96 frames cannot be decoded" in w for w in source.warnings)


def test_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write_video(tmp_path / "a.mp4", 10)
    real = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name == "av" or name.startswith("av."):
            raise ImportError("no PyAV here")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "neural_avatar.training.footage.video_av")
    monkeypatch.setattr(builtins, "__import__", refuse)
    source = open_source(path)
    assert isinstance(source, CvSource) and [number(rgb) for _, rgb in source.frames(4)] == [4, 5, 6, 7, 8, 9]
    (tmp_path / "text.mp4").write_text("this is not a video " * 100)
    with pytest.raises(BackendError) as caught:
        open_source(tmp_path / "text.mp4")
    assert caught.value.code == "video-unreadable" and "text.mp4" in caught.value.message
