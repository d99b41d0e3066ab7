# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's process: reads requests, draws them one after another, answers.

One thread reads, so that a cancellation, a newer request or the client's end is noticed in the middle of a frame; the
main thread draws.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from .. import __version__
from . import faults
from .interface import codec, exit_codes, frame_folder, wire
from .interface.frames import FrameBuffer
from .interface.messages import PROTOCOL, BackendError, RenderedFrame, RenderRequest


class RendererLike(Protocol):
    """What the server needs of a renderer."""

    @property
    def device_name(self) -> str: ...

    def render(
        self,
        request: RenderRequest,
        out: dict[str, npt.NDArray[np.float32]] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> RenderedFrame: ...

    def unload(self) -> None: ...


@dataclass(eq=False)
class _Job:
    id: int
    client: str
    interactive: bool
    request: RenderRequest
    buffer: FrameBuffer
    cancelled: threading.Event = field(default_factory=threading.Event)


def default_renderer(device: str) -> RendererLike:
    """The real renderer; importing it imports torch."""
    from .renderer import Renderer

    return Renderer(device)


def serve(
    requests: BinaryIO, replies: BinaryIO, make_renderer: Callable[[str], RendererLike] = default_renderer
) -> int:
    """Answer requests until the client says goodbye or its pipe ends; returns the exit code.

    The device is taken from the environment variable NEURAL_AVATAR_DEVICE ('auto' when it is not set).
    """
    # Ctrl-C in a terminal reaches the whole process group, but what it means is for the client to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _Server(requests, replies).run(make_renderer, os.environ.get("NEURAL_AVATAR_DEVICE") or "auto")


class _Server:
    def __init__(self, requests: BinaryIO, replies: BinaryIO) -> None:
        self._requests, self._replies = requests, replies
        self._write_lock = threading.Lock()
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._current: _Job | None = None
        self._unload = False
        # The next two are touched by the reading thread alone.
        self._buffers: dict[int, FrameBuffer] = {}
        self._folders: set[str] = set()

    def run(self, make_renderer: Callable[[str], RendererLike], device: str) -> int:
        threading.Thread(target=self._read, name="requests", daemon=True).start()
        try:
            self._work(make_renderer, device)
        except BaseException as error:
            _say(traceback.format_exc())
            # The client starts another process, in which the device may work again.
            self._leave(exit_codes.DEVICE_FAILED if faults.device_failed(error) else 1)
        self._leave(1)

    def _work(self, make_renderer: Callable[[str], RendererLike], device: str) -> None:
        self._reply({"type": "starting", "stage": "Starting backend: loading PyTorch…"})
        try:
            renderer = make_renderer(device)
            self._reply(_hello(renderer))
        except BaseException as error:
            _say(traceback.format_exc())
            self._reply({"type": "error", "id": 0, **codec.error_to_plain(_start_error(error))})
            return
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._unload)
                unload, self._unload = self._unload, False
                job = self._current = self._jobs.popleft() if self._jobs else None
            if unload:
                try:
                    renderer.unload()
                except Exception as error:
                    if faults.device_failed(error):
                        raise
                    _say(traceback.format_exc())
            if job is not None:
                self._reply(_draw(renderer, job))
                with self._changed:
                    self._current = None
                job = None  # the buffer's memory must not wait for the next frame

    def _read(self) -> None:
        try:
            while (message := wire.read_message(self._requests)) is not None and message["type"] != "shutdown":
                try:
                    self._take(message)
                except Exception as error:
                    # One odd message is no reason to end: the frames after it may be right.
                    plain = codec.error_to_plain(_as_error(error))
                    self._reply({"type": "error", "id": _number(message.get("id")), **plain})
            self._leave(0)
        except wire.WireError as error:
            _say(f"the client's messages cannot be read: {error}")
            self._leave(exit_codes.BROKEN_STREAM)
        except BaseException:
            _say(traceback.format_exc())
            self._leave(1)

    def _take(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "hello":
                if message["protocol"] != PROTOCOL:
                    text = (
                        f"The add-on speaks protocol {message['protocol']}, the renderer speaks {PROTOCOL}: after "
                        "an update, restart Blender."
                    )
                    self._reply({"type": "error", "id": 0, "code": "protocol-mismatch", "message": text, "details": ""})
                    self._leave(1)
            case "folder":
                self._folders.add(str(message["path"]))
            case "map":
                self._map(int(message["buffer"]), Path(message["path"]), int(message["capacity"]))
            case "unmap":
                self._buffers.pop(int(message["buffer"]), None)
            case "render":
                self._queue(message)
            case "cancel":
                self._cancel(int(message["id"]))
            case "unload":
                with self._changed:
                    self._unload = True
                    self._changed.notify()
            case other:
                raise BackendError("bad-request", f"The backend does not know the message '{other}'.")

    def _map(self, number: int, path: Path, capacity: int) -> None:
        try:
            self._buffers[number] = FrameBuffer.open(path, capacity)
        except (OSError, ValueError) as error:  # matters only to a request that wants this buffer
            _say(f"the frame {path} cannot be mapped: {error}")

    def _queue(self, message: Mapping[str, Any]) -> None:
        request = codec.request_from_plain(message["request"])
        buffer = self._buffers.get(int(message["buffer"]))
        if buffer is None:
            raise BackendError("no-space", "The renderer cannot reach the memory of this frame; the log says why.")
        # Fails here, as the client's fault, rather than in the middle of the drawing.
        buffer.planes(request.camera.width, request.camera.height, request.planes)
        job = _Job(int(message["id"]), str(message["client"]), bool(message["interactive"]), request, buffer)
        dropped = []
        with self._changed:
            if job.interactive:
                dropped = [old for old in self._jobs if old.interactive and old.client == job.client]
                self._jobs = deque(old for old in self._jobs if old not in dropped)
                if (now := self._current) is not None and now.interactive and now.client == job.client:
                    now.cancelled.set()
            self._jobs.append(job)
            self._changed.notify()
        for old in dropped:
            self._reply(_error_reply(old, BackendError("superseded", "A newer request took this frame's place.")))

    def _cancel(self, number: int) -> None:
        with self._changed:
            waiting = next((job for job in self._jobs if job.id == number), None)
            if waiting is not None:
                self._jobs.remove(waiting)
            elif self._current is not None and self._current.id == number:
                self._current.cancelled.set()
        if waiting is not None:
            self._reply(_error_reply(waiting, BackendError("cancelled", "The frame was cancelled.")))

    def _reply(self, message: Mapping[str, Any]) -> None:
        data = wire.pack(message)
        with self._write_lock:
            try:
                self._replies.write(data)
                self._replies.flush()
            except (OSError, ValueError):
                self._leave(0)

    def _leave(self, code: int) -> NoReturn:
        """End now, whatever the main thread is doing: a frame may take long, and there is nobody left to see it."""
        for folder in list(self._folders):
            frame_folder.remove(folder)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _say(text: str) -> None:
    """Write into the log, which may have gone with the client."""
    with contextlib.suppress(OSError, ValueError):
        print(text.rstrip(), file=sys.stderr, flush=True)


def _draw(renderer: RendererLike, job: _Job) -> dict[str, Any]:
    """Draw a frame into its buffer; returns the reply. Whatever goes wrong becomes data, but for a failed device: with
    that, this process can draw no other frame either."""
    camera = job.request.camera
    try:
        planes = job.buffer.planes(camera.width, camera.height, job.request.planes)
        frame = renderer.render(job.request, out=planes, cancelled=job.cancelled.is_set)
        if job.cancelled.is_set():
            raise BackendError("cancelled", "The frame was cancelled.")
        job.buffer.write_tag(job.id, camera.width, camera.height)
        return {"type": "frame", "id": job.id, "warnings": list(frame.warnings), "seconds": dict(frame.seconds)}
    except Exception as error:
        if faults.device_failed(error):
            _say(f"request {job.id} of '{job.client}': the device has failed, and this process ends")
            raise
        return _error_reply(job, _as_error(error))


def _error_reply(job: _Job, error: BackendError) -> dict[str, Any]:
    if error.code not in ("cancelled", "superseded"):
        _say(f"request {job.id} of '{job.client}': [{error.code}] {error.message}\n{error.details}")
    return {"type": "error", "id": job.id, **codec.error_to_plain(error)}


def _as_error(error: Exception) -> BackendError:
    if isinstance(error, BackendError):
        return error
    details = "".join(traceback.format_exception(error))
    if faults.out_of_memory(error):
        return BackendError(
            "out-of-memory",
            "The renderer ran out of memory: lower the resolution, use fewer avatars, close other programs, or choose "
            "another device in the add-on's preferences.",
            details,
        )
    return BackendError(
        "internal", f"The renderer failed ({type(error).__name__}: {error}). The log has the details.", details
    )


def _start_error(error: BaseException) -> BackendError:
    if isinstance(error, BackendError):
        return error
    details = "".join(traceback.format_exception(error))
    if isinstance(error, (ImportError, OSError)):
        return BackendError(
            "backend-no-torch",
            f"PyTorch cannot be loaded in '{sys.executable}' ({type(error).__name__}: {error}). Install torch 2.11 "
            "or newer, numpy and "
            "safetensors there, or choose another Python in the add-on's preferences.",
            details,
        )
    return BackendError("backend-no-start", f"The renderer could not start ({type(error).__name__}: {error}).", details)


def _hello(renderer: RendererLike) -> dict[str, Any]:
    torch = sys.modules.get("torch")  # a renderer without torch does not need it for its greeting
    devices = ["cpu"]
    if torch is not None:
        cuda = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
        devices = [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    return {
        "type": "hello",
        "protocol": PROTOCOL,
        "version": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__) if torch is not None else "",
        "device": renderer.device_name,
        "devices": devices,
        "pid": os.getpid(),
    }


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
