# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's commands: `neural-avatar render` and `neural-avatar info`. torch is imported when a frame is drawn,
not before.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from .interface.avatar_header import METHODS, AvatarHeader, read_header
from .interface.files import whole
from .interface.messages import BackendError
from .render_command import add_render


def add_commands(subparsers: Any) -> None:
    """Add this room's commands to an argparse sub-parser collection; each sets ``run``, which takes the options and
    returns an exit code.
    """
    add_render(subparsers)
    info = subparsers.add_parser(
        "info", help="say what an avatar file holds", description="Say what an avatar file holds. Needs no torch."
    )
    info.add_argument("avatar", type=Path, metavar="AVATAR", help="the avatar file")
    info.add_argument("--json", action="store_true", help="everything, as JSON, for programs")
    info.add_argument("--thumbnail", type=Path, metavar="FILE.png", help="also write the file's picture")
    info.set_defaults(run=_info)


def _info(options: argparse.Namespace) -> int:
    header = read_header(options.avatar)
    if options.thumbnail is not None:
        if not header.thumbnail:
            raise BackendError("no-thumbnail", f"{options.avatar} holds no picture.")
        with whole(options.thumbnail) as temporary:
            temporary.write_bytes(header.thumbnail)
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
            f"24 of {header.texture_size} x {header.texture_size} texels"
            if METHODS[header.method].textures
            else "none",
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
