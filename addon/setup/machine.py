# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine has, and which build of PyTorch suits it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import programs

#: The vendor's address of PyTorch's builds. The variable, or the preferences, name another one: a mirror or a folder.
TORCH_INDEX = "https://download.pytorch.org/whl"
INDEX_VARIABLE = "NEURAL_AVATAR_TORCH_INDEX"

#: What the backend needs beside torch; the same as in pyproject.toml, which the extension's zip does not hold.
TORCH = "torch>=2.11,<2.14"
REQUIREMENTS = ("numpy>=1.26", "safetensors>=0.4.5", "pillow>=10.3")

#: Kind: its name for people, MB to download, MB on the disk.
KINDS: dict[str, tuple[str, int, int]] = {
    "CUDA": ("NVIDIA GPU (CUDA)", 3300, 7200),
    "ROCM": ("AMD GPU (ROCm)", 4800, 17000),
    "MPS": ("Apple GPU (Metal)", 120, 600),
    "CPU": ("CPU", 260, 1000),
}

#: NVIDIA's oldest driver for the CUDA of a build. Within one major version of CUDA older drivers run newer builds.
_CUDA_DRIVERS = (("cu130", 580), ("cu128", 570), ("cu126", 525))
#: GPUs older than Turing are only in the builds for CUDA 12.6.
_TURING = 7.5
_ROCM = ("rocm7.2", "rocm7.1", "rocm7.0")


@dataclass(frozen=True)
class Machine:
    """system: 'Linux', 'Windows' or 'Darwin'. processor: as platform.machine() says. gpus: names of NVIDIA's. driver:
    the major version of NVIDIA's driver, 0 for none. capability: the oldest NVIDIA GPU's CUDA capability, 0 where
    unknown. rocm: is AMD's ROCm there?"""

    system: str
    processor: str
    gpus: tuple[str, ...] = ()
    driver: int = 0
    capability: float = 0.0
    rocm: bool = False


@dataclass(frozen=True)
class Wheels:
    """A build of PyTorch. kind: a key of KINDS. indexes: addresses to try, the best first; '' is pip's own index.
    reason: why this kind was chosen."""

    kind: str
    indexes: tuple[str, ...]
    reason: str

    @property
    def label(self) -> str:
        return KINDS[self.kind][0]

    @property
    def download_mb(self) -> int:
        return KINDS[self.kind][1]

    @property
    def disk_mb(self) -> int:
        return KINDS[self.kind][2]


def look() -> Machine:
    """Look at this machine; takes up to a few seconds."""
    system = platform.system()
    gpus, driver, capability = _nvidia()
    rocm = system == "Linux" and (Path("/opt/rocm").is_dir() or "gfx" in _said(["rocminfo"]))
    return Machine(system, platform.machine(), gpus, driver, capability, rocm)


def choose(machine: Machine, wanted: str = "AUTO", index: str = "") -> Wheels:
    """The build for a machine. wanted: 'AUTO' or a key of KINDS. index: where to get it instead of the vendor's."""
    kind, reason = _kind(machine) if wanted == "AUTO" else (wanted, "chosen in the preferences")
    index = index.strip() or os.environ.get(INDEX_VARIABLE, "").strip()
    if index:
        return Wheels(kind, (index,), reason)
    if machine.system == "Darwin":
        return Wheels(kind, ("",), reason)
    if kind == "CUDA":
        names = [name for name, driver in _CUDA_DRIVERS if not machine.driver or machine.driver >= driver]
        if 0 < machine.capability < _TURING:
            names = ["cu126"]
        return Wheels(kind, tuple(f"{TORCH_INDEX}/{name}" for name in names or ["cu126"]), reason)
    names = list(_ROCM) if kind == "ROCM" else ["cpu"]
    return Wheels(kind, tuple(f"{TORCH_INDEX}/{name}" for name in names), reason)


def _kind(machine: Machine) -> tuple[str, str]:
    oldest = _CUDA_DRIVERS[-1][1]
    if machine.gpus and machine.driver >= oldest and machine.system in {"Linux", "Windows"}:
        return "CUDA", f"{machine.gpus[0]}, driver {machine.driver}"
    if machine.system == "Darwin":
        if machine.processor == "arm64":
            return "MPS", "a Mac with Apple's own processor"
        return "CPU", "a Mac with an Intel processor"
    if machine.rocm:
        return "ROCM", "ROCm is installed"
    if machine.gpus:
        return "CPU", f"the driver {machine.driver} of {machine.gpus[0]} is too old: {oldest} or newer makes it usable"
    return "CPU", "no GPU was found that PyTorch can use"


def _nvidia() -> tuple[tuple[str, ...], int, float]:
    lines = _said(["nvidia-smi", "--query-gpu=driver_version,compute_cap,name", "--format=csv,noheader"]).splitlines()
    found = [re.fullmatch(r"\s*(\d+)[\d.]*\s*,\s*([\d.]*)[^,]*,\s*(.+?)\s*", line) for line in lines]
    rows = [m.groups() for m in found if m is not None]
    if not rows:
        return (), 0, 0.0
    known = [float(capability) for _, capability, _ in rows if re.fullmatch(r"\d+(\.\d+)?", capability)]
    return tuple(name for *_, name in rows), int(rows[0][0]), min(known, default=0.0)


def _said(command: list[str]) -> str:
    """What a program prints, '' where there is none or it fails."""
    program = programs.find(command[0])
    if not program:
        return ""
    flags = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
            creationflags=flags,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
