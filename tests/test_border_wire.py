# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said across the border: messages, bytes that are none, other protocols, odd requests."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_avatar.neural_backend.interface import codec, launch, wire
from neural_avatar.neural_backend.interface.client import BackendSession
from neural_avatar.neural_backend.interface.messages import PROTOCOL
from support.border import LIMIT, ROOT, ask, code_of

# Frames of a test lie in a folder of its own.
pytestmark = pytest.mark.usefixtures("frames_folder")


def backend_process(script: Path) -> subprocess.Popen[bytes]:
    command = launch.command(sys.executable, script)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def conversation(script: Path, data: bytes) -> tuple[list[wire.Message], int]:
    """What a backend answers to these bytes, and its exit code."""
    child = backend_process(script)
    out, _ = child.communicate(data, timeout=LIMIT)
    stream, messages = io.BytesIO(out), []
    while (message := wire.read_message(stream)) is not None:
        messages.append(message)
    return messages, child.returncode


def test_another_protocol_is_refused_by_both_sides(tmp_path: Path, script: Path) -> None:
    messages, code = conversation(script, wire.pack({"type": "hello", "protocol": PROTOCOL + 1}))
    assert code == 1 and [m["code"] for m in messages if m["type"] == "error"] == ["protocol-mismatch"]
    # A backend that does not look at the client's greeting: the client has to.
    greeting = wire.pack({"type": "hello", "protocol": PROTOCOL + 1})
    script.write_text(f"import sys; sys.stdout.buffer.write({greeting!r}); sys.stdout.flush(); sys.stdin.read()")
    session = BackendSession(sys.executable, tmp_path / "log", start_timeout=LIMIT, script=script)
    assert code_of(lambda: session.request(ask(tmp_path / "marks"), "final").wait(LIMIT)) == "protocol-mismatch"
    session.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        wire.PREFIX.pack(b"????", wire.WIRE_VERSION, 0, 2, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION + 1, 0, 2, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 0xFFFFFFFF, 0) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 2, 1 << 60) + b"{}",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 2, 0) + b"[]",
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 100000, 0) + b"[" * 100000,
        wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 0, 9, 0) + b'{"type":1}'[:9],
        wire.pack({"type": "hello", "protocol": PROTOCOL})[:-3],
    ],
)
def test_bytes_that_are_no_messages_end_the_backend(script: Path, data: bytes) -> None:
    assert conversation(script, data)[1] == 72


@pytest.mark.parametrize(
    "entry",
    [
        [0, "<f4", [1 << 40, 1 << 40]], [-8, "<f4", [1]], [8, "<f4", [3]], [0, "|O8", [1]], [0, "<f4", [-1]],
        [0, "<f4", [True]], [0, "<f4"], "x", [0, "<f4", [1] * 40], [0.5, "<f4", [1]],
    ],
)  # fmt: skip
def test_an_array_outside_its_message_is_refused(entry: object) -> None:
    import json

    header = json.dumps({"type": "x", "a": {"$array": entry}}).encode()
    data = wire.PREFIX.pack(wire.MAGIC, wire.WIRE_VERSION, 1, len(header), 16) + header + bytes(16)
    with pytest.raises(wire.WireError):
        wire.read_message(io.BytesIO(data))


def test_messages_come_back_as_they_were_sent() -> None:
    rng = np.random.default_rng(3)
    arrays = {
        "f4": rng.normal(size=(2, 3)).astype(np.float32), "f8": rng.normal(size=(4,)).astype(">f8"),
        "u1": rng.integers(0, 255, (3, 1, 2)).astype(np.uint8), "i8": np.arange(3),
        "none": np.zeros((0, 3), np.float32),
        "strided": rng.normal(size=(6, 4))[::2, 1:], "scalar": np.array(5.0), "nan": np.array([np.nan, np.inf]),
    }  # fmt: skip
    message = {"type": "x", "text": "ä\n", "list": [1, None, True, {"a": 1.5}], **arrays}
    back = wire.read_message(io.BytesIO(wire.pack(message)))
    assert back is not None and back["list"] == message["list"] and back["text"] == "ä\n"
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)
    with pytest.raises(wire.WireError):
        wire.pack({"type": "x", "object": object()})
    with pytest.raises(wire.WireError):
        wire.pack({"type": "x", "array": np.array([object()])})


def test_odd_requests_are_answered_and_the_backend_goes_on(tmp_path: Path, script: Path) -> None:
    good = codec.request_to_plain(ask(tmp_path / "marks"))
    odd = [
        {"type": "what"},
        {"type": "render", "id": 1},
        {"type": "render", "id": 2, "client": "c", "interactive": False, "buffer": 99, "request": good},
        {
            "type": "render",
            "id": 3,
            "client": "c",
            "interactive": False,
            "buffer": 1,
            "request": {**good, "planes": ["x"]},
        },
        {"type": "map", "id": 4, "buffer": 1, "path": str(tmp_path / "none"), "capacity": 100},
        {"type": "map", "id": 5, "buffer": 1, "path": str(script), "capacity": 1 << 40},
        {"type": "cancel", "id": 1000},
        {"type": "unmap", "buffer": 1000},
        {"type": "folder", "path": str(tmp_path)},
    ]
    child = backend_process(script)
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(b"".join(wire.pack(message) for message in odd))
    child.stdin.flush()
    errors, greeted = [], False
    while len(errors) < 4 or not greeted:
        message = wire.read_message(child.stdout)
        assert message is not None
        greeted |= message["type"] == "hello"
        if message["type"] == "error":
            errors.append((message["id"], message["code"]))
    assert sorted(number for number, _ in errors) == [0, 1, 2, 3]
    child.communicate(timeout=LIMIT)
    assert child.returncode == 0 and script.exists(), "a folder that is none of ours is never removed"


def test_a_request_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    request = ask(tmp_path, "Zoë", 0.25, planes=("depth",))
    message = wire.read_message(io.BytesIO(wire.pack({"type": "x", "request": codec.request_to_plain(request)})))
    assert message is not None
    back = codec.request_from_plain(message["request"])
    assert back.planes == ("depth",) and back.avatars[0].name == "Zoë" and back.avatars[0].path == str(tmp_path)
    np.testing.assert_array_equal(back.avatars[0].joints, request.avatars[0].joints)
    np.testing.assert_array_equal(back.camera.K, request.camera.K)
    assert (back.camera.width, back.camera.height, back.camera.orthographic) == (32, 16, False)


def test_the_client_needs_the_standard_library_and_numpy_alone() -> None:
    code = f"""
import runpy, sys
runpy.run_path({str(ROOT / "neural_backend" / "start.py")!r})["load_package"]()
before = set(sys.modules)
import neural_avatar.neural_backend.interface.client
foreign = {{m.partition(".")[0] for m in set(sys.modules) - before}} - {{*sys.stdlib_module_names, "numpy"}}
foreign.discard("neural_avatar")
assert not foreign, foreign
assert not any("neural_avatar" in p or p == {str(ROOT)!r} for p in sys.path), sys.path
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd="/")
