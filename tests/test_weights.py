# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching public weights: asked for, resumed, checked; and never else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import weights
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.prepare import make_image_loss
from neural_avatar.training.vgg import load_vgg, random_vgg

CONTENT = bytes(range(256)) * 40_000
FILE = weights.Weights(f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth", 10, "a test")


@contextmanager
def official(content: bytes, breaks_off: int = 0, ranges: bool = True) -> Iterator[tuple[str, list[str]]]:
    """A server of ``content`` in the official one's place: its address, and the ranges it was asked for. breaks_off:
    bytes after which its first answer ends."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range") or ""
            asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:breaks_off] if breaks_off and len(asked) == 1 else body)

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's download cache of this test alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub" / "checkpoints"


def test_a_download_that_breaks_off_goes_on(cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    with official(CONTENT, breaks_off=3_000_000) as (address, asked):
        with pytest.raises(BackendError, match="broke off after 3000000 of 10240000 bytes"):
            weights.download(FILE, official=address)
        assert weights.cached_weights(FILE.file) is None, "half a file never gets its name"
        path = weights.download(FILE, lambda done, total: seen.append((done, total)), address)
    assert asked == ["", "bytes=3000000-"]
    assert path == weights.cached_weights(FILE.file) and path.read_bytes() == CONTENT and weights.intact(path)
    assert list(cache.iterdir()) == [path] and seen[-1] == (len(CONTENT), len(CONTENT)) and seen[0][0] > 3_000_000


def test_a_server_that_knows_no_ranges_sends_all_again(cache: Path) -> None:
    with official(CONTENT, breaks_off=1000, ranges=False) as (address, asked):
        with pytest.raises(BackendError, match="broke off"):
            weights.download(FILE, official=address)
        assert weights.download(FILE, official=address).read_bytes() == CONTENT
    assert len(asked) == 2


def test_what_was_whole_is_only_checked(cache: Path) -> None:
    """The program was stopped between the last byte and the check."""
    cache.mkdir(parents=True)
    (cache / (FILE.file + ".part")).write_bytes(CONTENT)
    with official(CONTENT) as (address, _):
        assert weights.download(FILE, official=address).read_bytes() == CONTENT


def test_what_has_another_checksum_is_thrown_away(cache: Path) -> None:
    with (
        official(b"<html>Please log in</html>") as (address, _),
        pytest.raises(BackendError, match="checksum") as error,
    ):
        weights.download(FILE, official=address)
    assert "thrown away" in error.value.message and list(cache.iterdir()) == []


def test_without_network_it_says_how_to_get_the_file(cache: Path) -> None:
    with official(b"") as (address, _):
        pass
    with pytest.raises(BackendError, match="could not be downloaded") as error:
        weights.download(FILE, official=address)
    assert f"{address}/{FILE.file}" in error.value.message and str(cache / FILE.file) in error.value.message
    assert "[Errno" not in error.value.message


def test_the_command_tells_and_refuses(root: Path, cache: Path) -> None:
    def run(*names: str) -> tuple[int, str]:
        words = [sys.executable, str(root), "weights", *names]
        done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    cache.mkdir(parents=True)
    (cache / weights.KNOWN["alexnet"].file).write_bytes(b"half of them")
    code, said = run()
    assert code == 0 and said.count("missing") == 2 and said.count("damaged") == 1
    assert all(f"{weights.OFFICIAL}/{known.file}" in said for known in weights.KNOWN.values())
    code, said = run("vgg16")
    assert code == 1 and "choose from vgg19, alexnet, inception" in said and "Traceback" not in said
    assert len(list(cache.iterdir())) == 1, "telling and refusing download nothing"


def test_the_image_loss_says_what_it_fell_back_to(cache: Path) -> None:
    loss, name = make_image_loss(TrainConfig())
    assert (
        "were not found" in name
        and "neural-avatar weights vgg19" in name
        and type(loss).__name__ == ("FallbackImageLoss")
    )
    with pytest.raises(BackendError, match="neural-avatar weights vgg19"):
        make_image_loss(TrainConfig(image_loss="vgg"))
    cache.mkdir(parents=True)
    (cache / weights.KNOWN["vgg19"].file).write_bytes(b"half of them")
    with pytest.raises(BackendError, match="is damaged"):
        make_image_loss(TrainConfig())


def test_vgg_is_the_first_twelve_layers_and_not_vgg16s(tmp_path: Path) -> None:
    """Against VGG19's own sequence of layers: convolutions, activations and poolings, twelve of them."""
    network = random_vgg(3)
    tensors = {}
    layers: list[torch.nn.Module] = []
    for index, convolution in zip((0, 2, 5, 7, 10), network.convolutions, strict=True):
        layers += [torch.nn.MaxPool2d(2)] * (index - len(layers)) + [convolution, torch.nn.ReLU()]
        tensors |= {f"features.{index}.{name}": value for name, value in convolution.state_dict().items()}
    assert len(layers) == 12
    path = tmp_path / "vgg.pth"
    torch.save(tensors, path)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    wanted = torch.nn.Sequential(*layers)((picture - mean.view(3, 1, 1)) / deviation.view(3, 1, 1))
    assert torch.allclose(load_vgg(path)(picture)[-1], wanted, atol=1e-5)
    torch.save({**tensors, "features.28.weight": torch.zeros(1)}, path)
    with pytest.raises(BackendError, match="VGG16"):
        load_vgg(path)
    torch.save({**tensors, "features.28.weight": torch.zeros(1), "features.34.weight": torch.zeros(1)}, path)
    load_vgg(path)
