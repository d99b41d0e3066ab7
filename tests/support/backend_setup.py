# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of setting up the backend share: packages made here, and an index of them on this machine."""

from __future__ import annotations

import hashlib
import http.server
import os
import sysconfig
import threading
import zipfile
from pathlib import Path

import pytest

NAMES = {"torch": "2.13.0+made.here", "numpy": "99.0", "safetensors": "99.0", "pillow": "99.0"}
posix = pytest.mark.skipif(os.name != "posix", reason="signals and scripts of POSIX")


def make_wheel(folder: Path, name: str, version: str) -> Path:
    """A package of nothing; torch's leads to the packages of the Python that runs the tests."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if name == "torch":
        files["genuine_torch.pth"] = sysconfig.get_paths()["purelib"] + "\n"
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in files.items():
            wheel.writestr(each, text)
    return path


class Index:
    """A package index on this machine. stall: the wheel of torch never arrives whole; `stalled` tells when."""

    def __init__(self, wheels: Path, stall: bool = False) -> None:
        self.stalled, self.let_go = threading.Event(), threading.Event()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                *_, kind, name = self.path.strip("/").split("/")
                if kind == "files":
                    data = (wheels / name.replace("%2B", "+")).read_bytes()
                    self._head(len(data), "application/octet-stream")
                    if stall and name.startswith("torch"):
                        self.wfile.write(data[:100])
                        index.stalled.set()
                        index.let_go.wait(60)
                        return
                    self.wfile.write(data)
                    return
                links = "".join(
                    f'<a href="/files/{p.name}#sha256={hashlib.sha256(p.read_bytes()).hexdigest()}">{p.name}</a>'
                    for p in wheels.glob(f"{name}-*.whl")
                )
                page = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                self._head(len(page), "text/html")
                self.wfile.write(page)

            def _head(self, length: int, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/simple"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()
