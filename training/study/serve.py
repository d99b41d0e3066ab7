# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving a study to this computer's browser, so that votes reach the folder by themselves.

Bound to 127.0.0.1, and to whoever knows the address: its path begins with a random token, so that neither other users'
programs nor pages of other sites can vote.
"""

from __future__ import annotations

import os
import re
import secrets
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ...neural_backend.interface.messages import BackendError
from ..files import write_text
from .trials import PAGE, Study, read_key
from .votes import parse_votes

#: A table of votes larger than this is none of ours.
_MOST_BYTES = 1 << 20


def study_server(folder: Path) -> tuple[ThreadingHTTPServer, str]:
    """A server of FOLDER's study that is bound and not yet running, and the address of its page. It writes each
    browser's votes as FOLDER/votes-SESSION.csv, whole or not at all. Raises BackendError 'study-key'."""
    study, token = read_key(folder), secrets.token_urlsafe(16)
    if not (folder / PAGE).is_file():
        raise BackendError("study-key", f"{folder} holds no {PAGE}; make the study again.")

    class Handler(_Handler):
        pass

    Handler.folder, Handler.study, Handler.root = folder, study, f"/{token}/"
    server = _bound(study, Handler)
    return server, f"http://127.0.0.1:{server.server_address[1]}/{token}/"


def _bound(study: Study, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server on the study's own port where that is free: a browser knows its half-done votes by it, also when the
    program was ended in between."""
    own = 49152 + zlib.crc32("".join(trial.id for trial in study.trials).encode()) % 16384
    try:
        return _Server(("127.0.0.1", own), handler)
    except OSError:
        return _Server(("127.0.0.1", 0), handler)


def serve_study(folder: Path) -> int:
    """Serve until Ctrl-C."""
    server, address = study_server(folder)
    print(f"Vote at {address}\nVotes are written to {folder} as they are made; Ctrl-C ends this.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("Ended.")
    finally:
        server.server_close()
    return 0


class _Server(ThreadingHTTPServer):
    # Where this is set Windows lets two programs have one port; elsewhere it lets a port be had again at once.
    allow_reuse_address = os.name != "nt"


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    study: Study
    root: str
    timeout = 30

    def do_GET(self) -> None:
        """The page, and nothing else of the folder."""
        if self.path == self.root:
            self._answer(200, (self.folder / PAGE).read_bytes(), "text/html; charset=utf-8")
        else:
            self._answer(404, b"not here")

    def do_POST(self) -> None:
        """All votes of one browser so far."""
        match = re.fullmatch(re.escape(self.root) + r"(votes-[0-9a-f]{16})", self.path)
        if match is None:
            return self._answer(404, b"not here")
        length = self.headers.get("Content-Length") or ""
        if not length.isdigit() or int(length) > _MOST_BYTES:
            return self._answer(413, b"too much")
        try:
            text = self.rfile.read(int(length)).decode("utf-8")
            parse_votes(text, self.study, "The browser's table")
            write_text(self.folder / f"{match[1]}.csv", text)
        except (BackendError, UnicodeDecodeError) as error:
            return self._answer(400, str(error).encode("utf-8"))
        except OSError as error:
            return self._answer(500, str(error.strerror or error).encode("utf-8"))
        return self._answer(200, b"kept")

    def _answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of requests."""
