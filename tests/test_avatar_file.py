# SPDX-License-Identifier: GPL-3.0-or-later
"""The .avatar file: what goes in comes out, and what is wrong is said."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neural_avatar.neural_backend.avatar import Avatar, AvatarConfig
from neural_avatar.neural_backend.avatar_file import load_avatar, make_header, save_avatar
from neural_avatar.neural_backend.interface.avatar_header import METADATA_KEY, METHODS, read_header
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.neural_backend.interface.skeleton import INDEX, JOINT_COUNT
from neural_avatar.neural_backend.network import PAPER, Generator, NetworkConfig

SMALL = NetworkConfig(channels=(4, 4, 8, 8, 8), blocks=(1, 1))


def _avatar(method: str = "textured-proxy") -> Avatar:
    torch.manual_seed(3)
    rest = np.zeros((JOINT_COUNT, 3))
    for name, point in {
        "MidHip": (0, 0, 0.9), "Neck": (0, 0, 1.4), "LShoulder": (0.17, 0, 1.4), "RShoulder": (-0.17, 0, 1.4),
        "LElbow": (0.35, 0, 1.2), "RElbow": (-0.35, 0, 1.2), "LWrist": (0.5, 0, 1.0), "RWrist": (-0.5, 0, 1.0),
        "LHip": (0.08, 0, 0.9), "RHip": (-0.08, 0, 0.9), "LKnee": (0.08, 0, 0.5), "RKnee": (-0.08, 0, 0.5),
        "LAnkle": (0.08, 0, 0.08), "RAnkle": (-0.08, 0, 0.08),
    }.items():  # fmt: skip
        rest[INDEX[name]] = point
    avatar = Avatar(
        AvatarConfig(method, (64, 32), SMALL, texture_size=8), rest, (np.abs(rest).sum(1) > 0).astype(float)
    )
    with torch.no_grad():
        for parameter in avatar.parameters():
            parameter.copy_(torch.rand_like(parameter).half())
    return avatar


@pytest.mark.parametrize("method", METHODS)
def test_round_trip(tmp_path: Path, method: str) -> None:
    avatar, path = _avatar(method), tmp_path / "person.avatar"
    header = make_header(avatar, name="Ann", license="CC0", credit="me", thumbnail=b"\x89PNG", metrics={"psnr": 20.5})
    save_avatar(path, avatar, header)
    read = read_header(path)
    assert (read.name, read.license, read.credit, read.thumbnail, read.metrics) == (
        "Ann",
        "CC0",
        "me",
        b"\x89PNG",
        {"psnr": 20.5},
    )
    assert read.method == method and read.body_size == pytest.approx(avatar.body_size)
    again = load_avatar(path)
    assert again.config == avatar.config
    for (name, a), (_, b) in zip(avatar.named_parameters(), again.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    camera = Camera(np.array([[60.0, 0, 16], [0, 60, 32], [0, 0, 1]]), np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
                    np.array([0, 0.8, 2.5]), 32, 64)  # fmt: skip
    joints, confidence = avatar.rest_joints[None], avatar.rest_confidence[None]
    with torch.no_grad():
        one, two = avatar.eval()(joints, confidence, [camera]), again(joints, confidence, [camera])
    torch.testing.assert_close(one.alpha, two.alpha, atol=1e-3, rtol=0)
    torch.testing.assert_close(one.rgb, two.rgb, atol=1e-3, rtol=0)
    assert list(tmp_path.iterdir()) == [path]


def _rewrite(path: Path, change: dict[str, object]) -> None:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    outer = json.loads(data[8 : 8 + length])
    plain = {**json.loads(outer["__metadata__"][METADATA_KEY]), **change}
    outer["__metadata__"][METADATA_KEY] = json.dumps(plain)
    text = json.dumps(outer).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    path = tmp_path / "person.avatar"

    def code(read: object = read_header) -> str:
        with pytest.raises(BackendError) as caught:
            read(path)  # type: ignore[operator]
        assert str(path) in caught.value.message
        return caught.value.code

    assert code() == "avatar-missing"
    save_avatar(path, _avatar())
    whole, sizes = path.read_bytes(), read_header(path).network
    for damaged in (b"", b"PK", whole[:100], whole[: len(whole) // 2], pickle.dumps({"a": 1}) * 20):
        path.write_bytes(damaged)
        assert code() == "avatar-corrupt"
        assert code(load_avatar) == "avatar-corrupt"
    path.write_bytes(whole)
    _rewrite(path, {"format_version": 99})
    assert code() == code(load_avatar) == "avatar-newer"
    path.write_bytes(whole)
    _rewrite(path, {"joint_names": ["Nose", "Neck"]})
    assert code() == code(load_avatar) == "avatar-skeleton"
    path.write_bytes(whole)
    _rewrite(path, {"texture_size": 16})
    assert code(load_avatar) == "avatar-corrupt"
    path.write_bytes(whole)
    _rewrite(path, {"rest_joints": [[0, 0, 0]]})
    assert code() == "avatar-corrupt"
    for method in ("nerf", ["textured"], None):
        path.write_bytes(whole)
        _rewrite(path, {"method": method})
        assert code() == "avatar-corrupt"
    for network in (
        {"kernel": 20001},
        {"channels": [4096] * 5},
        {"blocks": [99, 99]},
        {"channels": 7},
        {"size": [0, 0]},
    ):
        path.write_bytes(whole)
        _rewrite(path, {"network": {**sizes, **network}})
        assert code(load_avatar) == "avatar-corrupt"
    for version in (float("inf"), None, "x"):
        path.write_bytes(whole)
        _rewrite(path, {"format_version": version})
        assert code() == "avatar-corrupt"
    for outer in ("[" * 5000, '{"a": {"data_offsets": null}}', '{"a": {"data_offsets": [0, 1e999]}}', "[1]"):
        text = outer.encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + b" " * 64)
        assert code() == "avatar-corrupt"
    bad = _avatar()
    with torch.no_grad():
        bad.textures[0, 0, 0, 0] = float("nan")  # type: ignore[index]
    save_avatar(path, bad)
    assert code(load_avatar) == "avatar-corrupt"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(BackendError) as caught:
        save_avatar(tmp_path / "no such folder" / "x.avatar", _avatar())
    assert caught.value.code == "avatar-unwritable"


def test_the_header_is_read_without_torch(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "person.avatar"
    save_avatar(path, _avatar())
    code = f"""
import importlib.util, sys
root = {str(root)!r}
spec = importlib.util.spec_from_file_location("neural_avatar", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["neural_avatar"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from neural_avatar.neural_backend.interface.avatar_header import read_header
assert read_header({str(path)!r}).method == "textured-proxy"
assert not set(("torch", "safetensors")) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=120)


def test_the_paper_s_network_has_17_million_parameters() -> None:
    generator = Generator(PAPER, 27, (25, 48))
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(17.3e6, rel=0.01)
