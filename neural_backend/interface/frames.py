# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames in memory that both processes see: files mapped by both, written by the backend and read in place by the
client.

Who may touch a frame is a matter of ownership, not of locks: the client gives a free buffer away with a request, the
backend owns it until its reply, then the reader owns it until it releases it. The backend writes a tag after the
pixels, so a reader can tell which frame it has.

On Linux and macOS a file's name is removed as soon as both sides have mapped it, so a crash of either leaves nothing
behind. On Windows the client removes it when neither side has it mapped any more.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import frame_folder
from .frame_folder import FrameFolder
from .messages import PLANES, BackendError

Planes = dict[str, npt.NDArray[np.float32]]

#: Most bytes of one frame; 8K with every plane has 1.3 GB.
MAX_FRAME_BYTES = 4 << 30
#: Most buffers for one client. Two do in practice: one being read, one being drawn.
MAX_BUFFERS = 8
#: Does a file keep its name for as long as either side has it mapped?
NAMES_STAY = sys.platform == "win32"
#: Bytes of the smallest buffer; each larger size is half as large again.
_LEAST = 1 << 20

_TAG = struct.Struct("<8sQII")
_MAGIC = b"NAvFrame"
_ALIGNMENT = 64


def _layout(width: int, height: int, names: Sequence[str]) -> tuple[dict[str, int], int]:
    offsets, end = {}, _ALIGNMENT
    for name in names:
        offsets[name] = end
        end += -(-4 * width * height * PLANES[name] // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


def frame_bytes(width: int, height: int, names: Sequence[str]) -> int:
    """Bytes of a buffer for such a frame. Raises BackendError 'frame-too-large'."""
    size = _layout(width, height, names)[1]
    if size > MAX_FRAME_BYTES:
        raise BackendError(
            "frame-too-large",
            f"A frame of {width} x {height} pixels takes {size >> 20} MiB, more than the {MAX_FRAME_BYTES >> 20} MiB "
            "that are possible: "
            "lower the resolution or render it in parts with a render border.",
        )
    return size


class FrameBuffer:
    """One mapped file, large enough for a frame of ``capacity`` bytes. The mapping lasts as long as any array on it."""

    def __init__(self, descriptor: int, path: Path, capacity: int) -> None:
        self.path, self.capacity = path, capacity
        self._map = mmap.mmap(descriptor, capacity)

    @staticmethod
    def create(path: Path, capacity: int) -> FrameBuffer:
        """Make the file with all its room taken, so that a full disk is an error now and no crash later. Raises
        OSError.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            if sys.platform == "linux":
                os.posix_fallocate(descriptor, 0, capacity)
            else:
                os.truncate(descriptor, capacity)
            return FrameBuffer(descriptor, path, capacity)
        except BaseException:
            remove_file(path)
            raise
        finally:
            os.close(descriptor)

    @staticmethod
    def open(path: Path, capacity: int) -> FrameBuffer:
        """Map the client's file and, where the system permits, remove its name. Raises OSError, ValueError."""
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0))
        try:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or not _ALIGNMENT <= capacity <= info.st_size:
                raise ValueError(f"{path} is no frame of {capacity} bytes")
            buffer = FrameBuffer(descriptor, path, capacity)
        finally:
            os.close(descriptor)
        if not NAMES_STAY:
            remove_file(path)
        return buffer

    def planes(self, width: int, height: int, names: Sequence[str]) -> Planes:
        """The frame's planes, (height, width, channels) float32 each, without a copy. Raises ValueError when they do
        not fit.
        """
        offsets, size = _layout(width, height, names)
        if size > self.capacity:
            raise ValueError(f"{width}x{height} {names} needs {size} bytes, the buffer has {self.capacity}")
        return {
            name: np.frombuffer(self._map, np.float32, width * height * PLANES[name], offset).reshape(
                height, width, PLANES[name]
            )
            for name, offset in offsets.items()
        }

    def write_tag(self, frame: int, width: int, height: int) -> None:
        """Say which frame the buffer holds, after its last pixel."""
        _TAG.pack_into(self._map, 0, _MAGIC, frame, width, height)

    def has_tag(self, frame: int, width: int, height: int) -> bool:
        """Does the buffer hold this frame?"""
        return bool(_TAG.unpack_from(self._map, 0) == (_MAGIC, frame, width, height))


def remove_file(path: Path) -> None:
    """Remove a file's name if it is still there and the system permits."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _with_room(path: Path, size: int) -> FrameBuffer:
    """A buffer in which a somewhat larger frame has room too, so that a body which comes nearer does not need a new one
    with each frame; one of just ``size`` bytes where there is no more room. Raises OSError.
    """
    capacity = _LEAST
    while capacity < size:
        capacity += capacity // 2
    with contextlib.suppress(OSError):
        return FrameBuffer.create(path, min(capacity, MAX_FRAME_BYTES))
    return FrameBuffer.create(path, size)


class FramePool:
    """The client's side: buffers of each client id, used again and again, replaced when a frame needs more room.

    announce(message) tells the backend of buffers that come and go. Not thread-safe: its owner holds a lock.
    """

    def __init__(self, announce: Callable[[dict[str, object]], None]) -> None:
        self._announce = announce
        self._folders: dict[Path, FrameFolder] = {}
        self._buffers: dict[int, tuple[str, FrameBuffer]] = {}
        self._busy: set[int] = set()
        #: Busy buffers whose client will not come back for them.
        self._doomed: set[int] = set()
        #: Files of forgotten buffers, where their names stay.
        self._names: set[Path] = set()
        self._next = 1

    def take(self, client: str, size: int) -> int:
        """A free buffer of a client with room for ``size`` bytes. Raises BackendError 'frames-held' or 'no-space'."""
        self._remove_names()
        mine = [n for n, (owner, _) in self._buffers.items() if owner == client]
        free = [n for n in mine if n not in self._busy]
        for number in free:
            if self.fits(number, size):
                self._busy.add(number)
                return number
        for number in free:
            self.discard(number)
        if len(mine) - len(free) >= MAX_BUFFERS:
            raise BackendError("frames-held", f"'{client}' holds {MAX_BUFFERS} frames that it has not released.")
        number = self._create(client, size)
        self._busy.add(number)
        return number

    def fits(self, number: int, size: int) -> bool:
        """Is there room for the frame, and not so much more that memory is wasted?"""
        return size <= self._buffers[number][1].capacity <= max(8 * size, _LEAST)

    def buffer(self, number: int) -> FrameBuffer:
        return self._buffers[number][1]

    def give_back(self, number: int) -> None:
        """The buffer may be used again, or goes where its client has been dropped."""
        self._busy.discard(number)
        if number in self._doomed:
            self.discard(number)

    def discard(self, number: int) -> None:
        """Forget a buffer; its memory goes when the last array on it goes."""
        self._busy.discard(number)
        self._doomed.discard(number)
        _, buffer = self._buffers.pop(number, ("", None))
        if buffer is not None:
            # The backend, which may not have come to map the file yet, removes its name then; where it cannot, the
            # name is removed later, as soon as both sides have let go of it.
            if NAMES_STAY:
                self._names.add(buffer.path)
            self._announce({"type": "unmap", "buffer": number})

    def drop(self, client: str) -> None:
        """Forget a client's buffers: at once those that nobody uses now, the others when they are given back."""
        for number in [n for n, (owner, _) in self._buffers.items() if owner == client]:
            if number in self._busy:
                self._doomed.add(number)
            else:
                self.discard(number)

    def drop_free(self) -> None:
        """Forget all buffers that nobody uses now."""
        for number in self._buffers.keys() - self._busy:
            self.discard(number)

    def close(self) -> None:
        """Forget everything and remove the folders. The backend must have ended."""
        self._buffers.clear()
        self._busy.clear()
        self._doomed.clear()
        self._names.clear()
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()

    def _remove_names(self) -> None:
        for path in self._names:
            remove_file(path)
        self._names = {path for path in self._names if path.exists()}

    def _put_into(self, base: Path, number: int, size: int) -> FrameBuffer:
        """A buffer in the folder that is ours in ``base``. Raises OSError."""
        try:
            return _with_room(self._folder(base) / f"frame-{number}", size)
        except FileNotFoundError:
            # Who cleans temporary folders may have removed it; a frame in use needs no name.
            if base in self._folders:
                self._folders.pop(base).close()
            return _with_room(self._folder(base) / f"frame-{number}", size)

    def _folder(self, base: Path) -> Path:
        folder = self._folders.get(base)
        if folder is None:
            folder = self._folders[base] = FrameFolder(base)
            self._announce({"type": "folder", "path": str(folder.path)})
        return folder.path

    def _create(self, client: str, size: int) -> int:
        reasons = []
        for base in frame_folder.bases():
            try:
                number, self._next = self._next, self._next + 1
                buffer = self._put_into(base, number, size)
            except OSError as error:
                reasons.append(f"{base}: {error.strerror or errno.errorcode.get(error.errno or 0, error)}")
                continue
            self._buffers[number] = (client, buffer)
            self._announce({"type": "map", "buffer": number, "path": str(buffer.path), "capacity": buffer.capacity})
            return number
        raise BackendError(
            "no-space",
            f"There is no room for a shared frame of {max(size >> 20, 1)} MiB ({'; '.join(reasons)}): free some "
            "memory or disk space.",
        )
