# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands `render` and `info` as a user runs them, and the real renderer behind the border."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from neural_avatar.neural_backend.clip import read_clip
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.client import BackendSession
from neural_avatar.neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from neural_avatar.neural_backend.interface.skeleton import BODY_JOINTS, JOINTS, reorder
from neural_avatar.neural_backend.start import SHARED_CORES
from support.clips import view
from support.commands import complaint, run
from support.people import standing

LIMIT = 120.0


def rest() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The same pose with hands, whose fingers go on where the forearm ends: joints (137, 3), confidence (137,)."""
    names, joints = list(BODY_JOINTS), list(standing())
    for side in "LR":
        wrist, elbow = (standing()[BODY_JOINTS.index(side + name)] for name in ("Wrist", "Elbow"))
        along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
        names.append(f"{side}Hand_Wrist")
        joints.append(wrist)
        for f, finger in enumerate(("Thumb", "Index", "Middle", "Ring", "Pinky")):
            for i in range(4):
                names.append(f"{side}Hand_Hand{finger}{i + 1}")
                joints.append(wrist + along * (0.08 + 0.025 * i) + np.float32([0, 0.02 * (f - 2), 0]))
    return reorder(np.stack(joints), names)


@pytest.fixture(scope="module")
def avatar_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar without a network: the proxy surface with textures of noise, quick and far from empty."""
    import torch

    from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
    from neural_avatar.neural_backend.avatar_file import make_header, save_avatar

    avatar = Avatar(AvatarConfig(method="static", size=(64, 32), texture_size=16), *rest())
    assert avatar.textures is not None
    with torch.no_grad():
        avatar.textures.copy_(torch.rand(avatar.textures.shape, generator=torch.Generator().manual_seed(2)))
    path = tmp_path_factory.mktemp("avatar") / "noise.avatar"
    header = make_header(
        avatar, name="Noise", license="CC0-1.0", credit="nobody", metrics={"ssim": 0.5}, thumbnail=b"\x89PNG"
    )
    save_avatar(path, avatar, header)
    return path


@pytest.fixture
def clip() -> dict[str, Any]:
    """Five frames of a clip, to be spoiled by the test and written with :func:`write`."""
    cameras = [view(i) for i in range(5)]
    return {
        "joints": np.stack([standing()] * 5),
        "names": np.array(BODY_JOINTS),
        **{name: np.stack([camera[name] for camera in cameras]) for name in ("K", "R", "t")},
        "width": 64,
        "height": 80,
        "fps": 25,
    }


def write(path: Path, clip: dict[str, Any]) -> Path:
    np.savez(path, **clip)
    return path


def pictures(folder: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Every file of a folder as (H, W, 4) uint8."""
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            assert picture.mode == "RGBA" and picture.format == "PNG"
            found[path.name] = np.asarray(picture)
    return found


def test_render_writes_straight_srgb_with_alpha(avatar_file: Path, clip: dict[str, Any], tmp_path: Path) -> None:
    from neural_avatar.neural_backend.renderer import Renderer, render_rgba

    path = write(tmp_path / "clip.npz", clip)
    done = run("render", avatar_file, path, "-o", tmp_path / "out", "--device", "cpu")
    assert "5 frames of 64 x 80" in done.stdout
    found = pictures(tmp_path / "out")
    assert list(found) == [f"{i:05d}.png" for i in range(5)]
    read = read_clip(path)
    avatar = Renderer("cpu").avatar(str(avatar_file))
    for i, picture in enumerate(found.values()):
        expected = render_rgba(avatar, read.joints[i], read.confidence[i], read.cameras[i])
        assert np.abs(picture / 255.0 - expected).max() <= 0.5 / 255 + 1e-6
        alpha = picture[..., 3]
        assert picture.shape == (80, 64, 4) and 150 < (alpha > 127).sum() < 1500 and (alpha[:, 0] == 0).all()
        assert (alpha[12:22, 22:42] > 127).any() and (alpha[65:72, 20:44] > 127).any(), "head on top, feet below"
    assert (found["00000.png"] != found["00004.png"]).any()


def test_render_goes_on_where_it_stopped(avatar_file: Path, clip: dict[str, Any], tmp_path: Path) -> None:
    path, out = write(tmp_path / "clip.npz", clip), tmp_path / "deep" / "out"
    run("render", avatar_file, path, "-o", out, "--start", 1, "--end", 2)
    assert [p.name for p in sorted(out.iterdir())] == ["00001.png", "00002.png"]
    drawn = (out / "00002.png").read_bytes()
    other = (out / "00001.png").read_bytes()
    (out / "00001.png").write_bytes(other[:-1])
    done = run("render", avatar_file, path, "-o", out)
    assert "1 of 5 frames are" in done.stdout and "4 frames" in done.stdout
    assert (out / "00001.png").read_bytes() == other, "a picture that is not whole is drawn again"
    assert "5 of 5" in run("render", avatar_file, path, "-o", out).stdout
    run("render", avatar_file, path, "-o", out, "--overwrite", "--start", 1, "--end", 1)
    assert len(pictures(out)) == 5 and (out / "00002.png").read_bytes() == drawn


def test_a_still_orthographic_camera_and_absent_joints(avatar_file: Path, clip: dict[str, Any], tmp_path: Path) -> None:
    clip |= {name: clip[name][0] for name in ("K", "R", "t")}
    clip["orthographic_scale"] = 2.4
    clip["confidence"] = np.ones((5, 25), np.float32)
    clip["joints"][2, 4] = np.nan
    clip["confidence"][2, 4] = 0
    run("render", avatar_file, write(tmp_path / "clip.npz", clip), "-o", tmp_path / "out")
    found = pictures(tmp_path / "out")
    rows = np.flatnonzero((found["00000.png"][..., 3] > 127).any(1))
    assert 1.6 < (rows[-1] - rows[0] + 1) * 2.4 / 80 < 2.0, "a person of 1.75 m"
    assert (found["00000.png"] == found["00001.png"]).all() and (found["00000.png"] != found["00002.png"]).any()


def _spoil(name: str, index: Any, value: Any) -> Any:
    def change(clip: dict[str, Any]) -> None:
        clip[name] = np.array(clip[name], copy=True)
        clip[name][index] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("K"), "lacks 'K'"),
        (lambda c: c.update(K=c["K"][:3]), "'K' has the shape (3, 3, 3), and (5, 3, 3) is expected"),
        (lambda c: c.update(joints=c["joints"][0]), "(frames, joints, 3)"),
        (lambda c: c.update(joints=c["joints"][:0]), "(frames, joints, 3)"),
        (lambda c: c.update(names=c["names"][:3]), "3 names for 25 joints"),
        (_spoil("names", 0, "Beak"), "Beak"),
        (_spoil("names", 0, "Neck"), "25 joints under 25 names (24 different)"),
        (_spoil("joints", (3, 1), np.nan), "joint 'Neck' of frame 3 is not a finite number"),
        (lambda c: c.update(confidence=np.zeros((5, 25))), "frame 0 has no Neck"),
        (lambda c: c.update(confidence=np.ones((5, 24))), "'confidence' has the shape"),
        (lambda c: c.update(confidence=np.full((5, 25), np.nan)), "'confidence' of frame 0 is not a finite number"),
        (_spoil("t", (4, 0), np.inf), "'t' of frame 4 is not a finite number"),
        (_spoil("R", 1, np.diag([1.0, 1, -1])), "frame 1 is impossible: 'R' is not a rotation"),
        (_spoil("R", 1, np.eye(3) * 2), "frame 1 is impossible: 'R' is not a rotation"),
        (_spoil("K", (2, 0, 0), 0), "frame 2 is impossible: 'K' has no positive focal length"),
        (_spoil("K", (0, 2, 2), 2), "frame 0 is impossible: 'K' is not"),
        (_spoil("K", (4, 1, 0), 5), "frame 4 is impossible: 'K' is not"),
        (lambda c: c.update(width=0), "'width' must be one positive number"),
        (lambda c: c.update(height=20.5), "'height' must be a whole number"),
        (lambda c: c.update(width=1 << 20), "too large"),
        (lambda c: c.update(orthographic_scale=-1.0), "'orthographic_scale' must be"),
        (lambda c: c.update(joints=c["joints"].astype(str)), "numbers are expected"),
        (lambda c: c.update(names=c["names"].astype(object)), "cannot be read as a clip"),
    ],
)
def test_a_spoilt_clip_is_explained(change: Any, words: str, clip: dict[str, Any], tmp_path: Path) -> None:
    change(clip)
    with pytest.raises(BackendError) as caught:
        read_clip(write(tmp_path / "clip.npz", clip))
    assert words in caught.value.message and str(tmp_path / "clip.npz") in caught.value.message


def test_a_damaged_clip_is_explained(clip: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.npz"
    np.savez_compressed(path, **clip)
    good = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = [info.header_offset for info in archive.infolist()]
    for place in places:
        start = place + 30 + int.from_bytes(good[place + 26 : place + 28], "little")
        start += int.from_bytes(good[place + 28 : place + 30], "little")
        path.write_bytes(good[:start] + b"\xff" * 8 + good[start + 8 :])  # no beginning of a compressed stream
        with pytest.raises(BackendError, match="cannot be read as a clip"):
            read_clip(path)


def test_wrong_files_are_explained_in_one_sentence(avatar_file: Path, clip: dict[str, Any], tmp_path: Path) -> None:
    good, out = write(tmp_path / "clip.npz", clip), tmp_path / "out"
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    np.save(tmp_path / "array.npy", np.zeros(3))
    cut = tmp_path / "cut.avatar"
    cut.write_bytes(avatar_file.read_bytes()[:-1000])
    assert "none.avatar" in complaint("render", tmp_path / "none.avatar", good, "-o", out)
    assert "cut.avatar" in complaint("render", cut, good, "-o", out)
    assert "text.npz" in complaint("render", avatar_file, text, "-o", out)
    assert "array.npy" in complaint("render", avatar_file, tmp_path / "array.npy", "-o", out)
    assert "no clip" in complaint("render", avatar_file, tmp_path / "none.npz", "-o", out)
    assert "0 to 4" in complaint("render", avatar_file, good, "-o", out, "--end", 5)
    assert "cuda:77" in complaint("render", avatar_file, good, "-o", out, "--device", "cuda:77")
    done = run("render", avatar_file, text, "-o", out, "--debug", code=1)
    assert "Traceback" in done.stderr
    assert run("render", avatar_file, code=2).stdout == ""


def test_a_folder_that_cannot_be_written_is_explained(avatar_file: Path, clip: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = write(tmp_path / "clip.npz", clip)
    done = run("render", avatar_file, path, "-o", tmp_path / "file" / "out", code=1)
    assert "file" in done.stderr and "Traceback" not in done.stderr


def test_info_tells_what_is_inside_without_torch(avatar_file: Path, tmp_path: Path) -> None:
    text = run("info", avatar_file).stdout
    for words in ("Noise", "static", "CC0-1.0", "nobody", "ssim", "24 of 16 x 16"):
        assert words in text
    # A torch that cannot be imported stands first on the path.
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    facts = json.loads(run("info", avatar_file, "--json", PYTHONPATH=str(tmp_path)).stdout)
    assert facts["joint_names"] == list(JOINTS) and facts["license"] == "CC0-1.0" and facts["thumbnail_bytes"] == 4
    run("info", avatar_file, "--thumbnail", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes() == b"\x89PNG"
    assert "none.avatar" in complaint("info", tmp_path / "none.avatar")


def test_the_command_line_explains_itself() -> None:
    help_text = run("--help").stdout
    assert "render" in help_text and "info" in help_text
    assert "--overwrite" in run("render", "--help").stdout
    assert run("--version").stdout.startswith("neural-avatar ")
    assert "invalid choice" in run("paint", code=2).stderr


def test_the_real_backend_gives_what_the_renderer_draws(avatar_file: Path, tmp_path: Path) -> None:
    from neural_avatar.neural_backend.renderer import Renderer

    joints, confidence = reorder(standing(), BODY_JOINTS)
    camera = Camera(**view(), width=64, height=80)

    def ask(path: Path, pose: npt.NDArray[np.float32] = joints) -> RenderRequest:
        return RenderRequest(camera, (AvatarInstance(str(path), "Anna", pose, confidence),))

    session = BackendSession(sys.executable, tmp_path / "log", {"NEURAL_AVATAR_DEVICE": "cpu"})
    try:
        expected = Renderer("cpu").render(ask(avatar_file))
        with session.request(ask(avatar_file), "final").wait(LIMIT) as frame:
            assert frame.planes["mask"].max() > 0.9 and frame.planes["depth"].min() < 3.2
            for name, plane in expected.planes.items():
                np.testing.assert_array_equal(frame.planes[name], plane)
        assert session.info["torch"] and session.info["device"] == "CPU" and "cpu" in session.info["devices"]
        pid = session.info["pid"]
        for request, code in (
            (ask(tmp_path / "none.avatar"), "avatar-missing"),
            (ask(avatar_file, np.full_like(joints, np.nan)), "joints-invalid"),
        ):
            with pytest.raises(BackendError) as caught:
                session.request(request, "final").wait(LIMIT)
            assert caught.value.code == code
        with session.request(ask(avatar_file, joints + np.float32([0, -50, 0])), "final").wait(LIMIT) as frame:
            assert frame.planes["color"].max() == 0 and len(frame.warnings) == 1
        session.unload()
        with session.request(ask(avatar_file), "final").wait(LIMIT) as frame:
            np.testing.assert_array_equal(frame.planes["color"], expected.planes["color"])
        assert session.info["pid"] == pid
    finally:
        session.close()


#: OpenMP tells how its threads wait, as it is loaded.
TELL = {"OMP_DISPLAY_ENV": "verbose"}


def waits(text: str) -> set[str]:
    """OMP_WAIT_POLICY and GOMP_SPINCOUNT, as GNU's OpenMP took them."""
    return set(re.findall(r"(?:OMP_WAIT_POLICY|GOMP_SPINCOUNT) = '(\w+)'", text))


def test_threads_leave_the_machine_to_others(
    avatar_file: Path, clip: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the command line and of the backend, before torch is loaded; a user's own word counts."""
    for name in SHARED_CORES:
        monkeypatch.delenv(name, raising=False)
    path = write(tmp_path / "clip.npz", clip)
    words = ("render", avatar_file, path, "--end", 0, "--device", "cpu", "-o")
    told = run(*words, tmp_path / "a", **TELL)
    if "GOMP_SPINCOUNT" not in told.stderr:
        pytest.skip("OpenMP IS ANOTHER: how threads wait is tried where torch comes with GNU's")
    assert waits(told.stderr) == set(SHARED_CORES.values())
    assert "ACTIVE" in waits(run(*words, tmp_path / "b", **TELL, OMP_WAIT_POLICY="ACTIVE").stderr)
    session = BackendSession(sys.executable, tmp_path / "log", {"NEURAL_AVATAR_DEVICE": "cpu", **TELL})
    try:
        session.wait_until_ready()
    finally:
        session.close()
    assert waits((tmp_path / "log").read_text("utf-8")) == set(SHARED_CORES.values())
