# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview of one view: which picture is asked for next, and which is shown. Knows no Blender, waits for nothing.

MOVING: the view changes; drafts at a level of quality that keeps up. RESTING: it has stopped changing, the picture at
full quality is on its way. HIGH: that picture is there, and nothing is left to do. At most one request is under way. A
draft under way is never thrown away for a newer one, or a steady motion would show nothing at all; the picture at full
quality is, as soon as something moves.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..neural_backend.interface.messages import BackendError, RenderedFrame, RenderRequest
from .preview_picture import Cache, Picture, Wish, make_picture

#: Levels of quality: the share of the view's and of the network's resolution along each side.
LEVELS = (0.375, 0.5, 0.625, 0.75, 1.0)
_FIRST_LEVEL = 1

#: Seconds from the request of a draft to its picture that are aimed at.
AIM = 1 / 15
#: Seconds without a change after which a view counts as resting.
REST = 0.2
#: Seconds between two looks at a request under way.
LOOK = 1 / 90
#: Seconds after which what failed by the backend's fault is tried again by itself.
RETRY = 3.0
#: Times in a row that the same thing is tried; then it takes a change or a click, or a broken Python would be started
#: for ever.
TRIES = 3
#: Seconds after which a picture that does not come is given up; the backend may have to load PyTorch first.
PATIENCE = 300.0
#: Seconds over which the rate of pictures is counted.
_RATE_SPAN = 2.0

#: Errors that another try may mend although nothing in the scene changes.
_MAY_MEND = ("backend-", "no-space", "frame-", "frames-", "out-of-memory", "internal")


class State(enum.Enum):
    EMPTY = "nothing to show"
    MOVING = "moving"
    RESTING = "resting"
    HIGH = "full quality"


class Pending(Protocol):
    """What the preview needs of a request under way."""

    def poll(self) -> bool: ...
    def wait(self, timeout: float = ...) -> RenderedFrame: ...
    def cancel(self) -> None: ...


@dataclass
class _UnderWay:
    wish: Wish
    level: float
    frame: Pending
    since: float


class Preview:
    """One view. ask: sends a request, newest wins; may raise BackendError. cache: shared by all views."""

    def __init__(
        self,
        ask: Callable[[RenderRequest], Pending],
        cache: Cache,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._cache, self._clock = ask, cache, clock
        self._wish: Wish | None = None
        self._changed_at = -1e9
        self._under_way: _UnderWay | None = None
        self._level = _FIRST_LEVEL
        self._failed_at = 0.0
        self._failed_key, self._failures = b"", 0
        self._arrivals: deque[float] = deque(maxlen=240)
        self._counted: Picture | None = None
        self.picture: Picture | None = None
        self.error: BackendError | None = None
        self.paused = False
        #: While an animation plays every frame is a draft, however slowly it plays.
        self.playing = False
        #: Seconds from the request to the picture, of the last picture.
        self.latency = 0.0

    @property
    def state(self) -> State:
        """What the view is at."""
        if self._wish is None or self._wish.box is None:
            return State.EMPTY
        if self._moves():
            return State.MOVING
        return State.HIGH if self._best_level() >= 1 else State.RESTING

    @property
    def rate(self) -> float:
        """Pictures shown each second, of late."""
        now = self._clock()
        recent = [t for t in self._arrivals if now - t < _RATE_SPAN]
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0

    @property
    def level(self) -> float:
        """The level of quality that drafts are asked for at."""
        return LEVELS[self._level]

    @property
    def is_busy(self) -> bool:
        """Is a request under way?"""
        return self._under_way is not None

    def look(self, wish: Wish) -> Picture | None:
        """Called with each drawing of the view: what it is to show. Returns the picture to show now; asks nobody."""
        if self._wish is None or wish.key != self._wish.key:
            self._changed_at = self._clock()
        self._wish = wish
        if wish.box is None:
            self.picture = None
            return None
        kept = self._cache.get(wish.key)
        if kept is not None and (self.picture is None or kept is not self.picture):
            self.picture = kept
        if self.picture is not None and self.picture is not self._counted:
            self._counted = self.picture
            self._arrivals.append(self._clock())
        return self.picture

    def poll(self) -> bool:
        """Take what has come, ask for what is due. Returns whether the view is to be drawn again. Never raises: what
        fails is in :attr:`error`."""
        changed = self._collect()
        level = self._due()
        if level is None or self._wish is None:
            return changed
        now = self._clock()
        try:
            frame = self._ask(self._wish.request(level))
        except Exception as error:
            return self._fail(as_error(error), self._wish) or changed
        self._under_way = _UnderWay(self._wish, level, frame, now)
        return changed

    def wait_seconds(self) -> float | None:
        """Seconds after which :meth:`poll` has something to do; None when it has nothing to do until the next look."""
        if self._under_way is not None:
            return LOOK
        if self._wish is None or self._wish.box is None or self.paused or self._best_level() >= 1:
            return None
        now = self._clock()
        if self.error is not None and self._failed_key == self._wish.key:
            return max(self._failed_at + RETRY - now, 0.0) if self._may_mend() else None
        if self._due() is not None:
            return 0.0
        if self.playing:
            return REST
        return max(self._changed_at + REST - now, 0.0)

    def retry(self) -> None:
        """Forget an error: the next poll tries again."""
        self.error, self._failures = None, 0

    def stop(self) -> None:
        """Give up what is under way."""
        if self._under_way is not None:
            self._under_way.frame.cancel()
            self._under_way = None

    def _moves(self) -> bool:
        return self.playing or self._clock() - self._changed_at < REST

    def _best_level(self) -> float:
        """The level of the best picture of the present wish; 0 for none."""
        if self._wish is None:
            return 0.0
        shown = self.picture
        if shown is not None and shown.wish.key == self._wish.key:
            return shown.level
        kept = self._cache.get(self._wish.key)
        return 0.0 if kept is None else kept.level

    def _due(self) -> float | None:
        """The level at which the present wish is to be asked for now, None for not at all."""
        wish, now = self._wish, self._clock()
        if wish is None or wish.box is None or self.paused:
            return None
        best, moving = self._best_level(), self._moves()
        if best >= 1:
            return None
        waits = self.error is not None and self._failed_key == wish.key
        if waits and not (self._may_mend() and now - self._failed_at >= RETRY):
            return None
        if self._under_way is not None:
            # Only a picture at full quality of something past makes room.
            obsolete = self._under_way.level >= 1 and self._under_way.wish.key != wish.key and self.level < 1
            return self.level if obsolete and best == 0 else None
        if moving and best > 0:
            return None
        return self.level if moving or best == 0 else 1.0

    def _collect(self) -> bool:
        job = self._under_way
        if job is None:
            return False
        now = self._clock()
        try:
            if not job.frame.poll():
                if now - job.since < PATIENCE:
                    return False
                self.stop()
                raise BackendError("backend-timeout", "The renderer does not answer: stop it in the renderer's panel.")
            self._under_way = None
            frame = job.frame.wait()
            try:
                picture = make_picture(job.wish, job.level, frame.planes, frame.seconds)
            finally:
                getattr(frame, "release", lambda: None)()
        except Exception as broken:
            self._under_way = None
            error = as_error(broken)
            return error.code not in ("superseded", "cancelled") and self._fail(error, job.wish)
        self.error = None
        self.latency = now - job.since
        if job.level < 1 or len(LEVELS) - 1 == self._level:
            self._adapt(job.level, self.latency)
        self._cache.put(picture)
        wish, shown = self._wish, self.picture
        if wish is None or wish.box is None:
            return False
        if shown is None or shown.wish.key != wish.key or picture.wish.key == wish.key:
            self.picture = picture
        return True

    def _adapt(self, level: float, seconds: float) -> None:
        """One level down when a draft was late, one up when there is time for the next one."""
        if level != self.level:
            return
        if seconds > 1.4 * AIM and self._level > 0:
            self._level -= 1
        elif self._level + 1 < len(LEVELS) and seconds * (LEVELS[self._level + 1] / level) ** 2 < 0.9 * AIM:
            self._level += 1

    def _fail(self, error: BackendError, wish: Wish) -> bool:
        known = self.error is not None and self.error.message == error.message
        self._failures = self._failures + 1 if self._failed_key == wish.key else 1
        self.error, self._failed_at, self._failed_key = error, self._clock(), wish.key
        return not known

    def _may_mend(self) -> bool:
        return self.error is not None and self._failures < TRIES and self.error.code.startswith(_MAY_MEND)


def as_error(error: Exception) -> BackendError:
    """A fault of ours is told as any other error: an exception would end the timer, and with it every view."""
    if isinstance(error, BackendError):
        return error
    import traceback

    sentence = f"The preview failed ({type(error).__name__}: {error}); the log has the details."
    return BackendError("internal", sentence, "".join(traceback.format_exception(error)))
