# SPDX-License-Identifier: GPL-3.0-or-later
"""The preview's decisions, with a clock and a backend that the test moves by hand; no Blender."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from neural_avatar.addon.preview import LEVELS, PATIENCE, REST, RETRY, TRIES, Preview, State
from neural_avatar.addon.preview_picture import (
    Box,
    Cache,
    Picture,
    Style,
    Wish,
    make_key,
    make_picture,
    make_stand,
    place,
)
from neural_avatar.neural_backend.interface.camera import Camera
from neural_avatar.neural_backend.interface.codec import DETAIL_RANGE
from neural_avatar.neural_backend.interface.messages import (
    AvatarInstance,
    BackendError,
    RenderedFrame,
    RenderRequest,
)
from neural_avatar.neural_backend.interface.skeleton import INDEX, JOINT_COUNT


def wish(side: float = 0.0, eye: float = -4.0, turned: float = 0.0) -> Wish:
    """A body ``side`` metres off the middle of a view from ``eye``, the view turned around the body by an angle."""
    joints = np.zeros((JOINT_COUNT, 3), np.float32)
    joints[INDEX["Neck"]], joints[INDEX["MidHip"]] = (side, 0, 0.5), (side, 0, -0.5)
    people = (AvatarInstance("/nowhere/person.avatar", "someone", joints, np.ones(JOINT_COUNT, np.float32)),)
    c, s = np.cos(turned), np.sin(turned)
    rotation = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    camera = Camera(
        np.array([[400, 0, 200], [0, 400, 150], [0, 0, 1.0]]), rotation, np.array([0, 0, -eye]), 400, 300, False, 0.01
    )
    box = Box(100, 40, 160, 200)
    return Wish(make_key(camera, people, box), camera, people, box, make_stand(camera, people))


def planes(request: RenderRequest) -> dict[str, np.ndarray]:
    """A figure that fills the middle half of the picture."""
    height, width = request.camera.height, request.camera.width
    color, depth = np.zeros((height, width, 4), np.float32), np.full((height, width, 1), 1e10, np.float32)
    middle = slice(height // 4, 3 * height // 4), slice(width // 4, 3 * width // 4)
    color[middle], depth[middle] = 1, 4
    return {"color": color, "depth": depth}


@dataclass
class Frame:
    request: RenderRequest
    done: bool = False
    error: BackendError | None = None
    cancelled: bool = False

    def poll(self) -> bool:
        return self.done

    def wait(self, timeout: float = 0.0) -> RenderedFrame:
        if self.error is not None:
            raise self.error
        return RenderedFrame(planes(self.request), (), {"network": 0.01})

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Desk:
    """A preview, its clock and what it has asked for."""

    now: float = 100.0
    asked: list[Frame] = field(default_factory=list)
    refusal: BackendError | None = None

    def __post_init__(self) -> None:
        self.cache = Cache()
        self.preview = Preview(self.ask, self.cache, lambda: self.now)

    def ask(self, request: RenderRequest) -> Frame:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append(Frame(request))
        return self.asked[-1]

    def answer(self, seconds: float = 0.05, error: BackendError | None = None) -> None:
        self.now += seconds
        self.asked[-1].done, self.asked[-1].error = True, error
        self.preview.poll()

    def finish(self) -> None:
        """Let the view rest until nothing is left to do."""
        for _ in range(10):
            if self.preview.wait_seconds() is None:
                return
            if self.preview.is_busy:
                self.answer()
            else:
                self.now += self.preview.wait_seconds() + 1e-6
                self.preview.poll()
        raise AssertionError("it never comes to rest")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_draft_while_moving_then_full_quality_then_nothing(desk: Desk) -> None:
    assert desk.preview.wait_seconds() is None and desk.preview.state is State.EMPTY
    assert desk.preview.look(wish()) is None and desk.asked == []
    desk.preview.poll()
    assert desk.preview.state is State.MOVING and desk.asked[-1].request.detail == desk.preview.level < 1
    desk.answer()
    assert desk.preview.look(wish()).level < 1
    assert 0 < desk.preview.wait_seconds() <= REST
    desk.now += REST
    desk.preview.poll()
    assert desk.preview.state is State.RESTING and desk.asked[-1].request.detail == 1
    desk.answer(0.2)
    assert desk.preview.state is State.HIGH and desk.preview.look(wish()).level == 1
    assert desk.preview.wait_seconds() is None and len(desk.asked) == 2


def test_one_request_at_a_time_and_the_newest_next(desk: Desk) -> None:
    for step in range(5):
        desk.now += 0.01
        desk.preview.look(wish(0.01 * step))
        desk.preview.poll()
    assert len(desk.asked) == 1
    desk.answer()
    assert len(desk.asked) == 2
    assert desk.asked[1].request.avatars[0].joints[INDEX["Neck"], 0] == np.float32(0.04)


def test_motion_takes_the_place_of_full_quality_but_not_of_a_draft(desk: Desk) -> None:
    desk.preview.look(wish())
    desk.preview.poll()
    desk.answer()
    desk.now += REST
    desk.preview.poll()
    assert desk.asked[-1].request.detail == 1
    desk.preview.look(wish(0.1))
    desk.preview.poll()
    assert len(desk.asked) == 3 and desk.asked[-1].request.detail < 1
    desk.preview.look(wish(0.2))
    desk.preview.poll()
    assert len(desk.asked) == 3


def test_drafts_follow_the_machine(desk: Desk) -> None:
    def move(seconds: float) -> float:
        for step in range(12):
            desk.preview.look(wish(step + seconds))
            desk.preview.poll()
            desk.answer(seconds)
        return desk.preview.level

    assert move(0.5) == LEVELS[0]
    assert move(0.004) == 1.0
    assert desk.asked[-1].request.camera.width == 160


def test_second_playback_asks_for_nothing(desk: Desk) -> None:
    desk.preview.playing = True
    for _ in range(2):
        for frame in range(10):
            desk.now += 0.04
            desk.preview.look(wish(frame * 0.1))
            desk.preview.poll()
            if desk.preview.is_busy:
                desk.answer(0.04)
        if len(desk.asked) > 10:
            raise AssertionError("asked for what was there")
    assert len(desk.asked) == 10
    for frame in range(10):
        assert desk.preview.look(wish(frame * 0.1)).wish.key == wish(frame * 0.1).key


def test_memory_is_bounded(desk: Desk) -> None:
    desk.preview.playing = True
    desk.preview.look(wish())
    desk.preview.poll()
    desk.answer()
    desk.cache.capacity = 3 * desk.cache.size
    for frame in range(10):
        desk.preview.look(wish(frame))
        desk.preview.poll()
        desk.answer() if desk.preview.is_busy else None
    assert 0 < desk.cache.size <= desk.cache.capacity and 1 <= len(desk.cache) <= 3
    assert desk.cache.get(wish(9).key) is not None and desk.cache.get(wish(0).key) is None


def test_what_fails_again_and_again_is_left_alone_until_something_changes(desk: Desk) -> None:
    desk.preview.look(wish())
    for _ in range(TRIES):
        desk.now += RETRY
        desk.preview.poll()
        desk.answer(error=BackendError("backend-start", "It does not start."))
    assert len(desk.asked) == TRIES and desk.preview.wait_seconds() is None
    desk.now += 100 * RETRY
    desk.preview.poll()
    assert len(desk.asked) == TRIES and desk.preview.error is not None
    desk.preview.retry()
    desk.preview.poll()
    assert len(desk.asked) == TRIES + 1
    desk.answer()
    assert desk.preview.error is None


def test_error_is_kept_and_tried_again_where_that_may_help(desk: Desk) -> None:
    desk.preview.look(wish())
    desk.preview.poll()
    desk.answer(error=BackendError("backend-died", "It stopped."))
    assert desk.preview.error.message == "It stopped."
    assert 0 < desk.preview.wait_seconds() <= RETRY and len(desk.asked) == 1
    desk.now += RETRY
    desk.preview.poll()
    desk.answer()
    assert desk.preview.error is None and desk.preview.picture is not None
    desk.finish()
    desk.preview.look(wish(1))
    desk.refusal = BackendError("joints-missing", "It lacks a hip.")
    desk.preview.poll()
    assert desk.preview.error is not None and desk.preview.wait_seconds() is None
    desk.preview.retry()
    desk.refusal = None
    desk.finish()
    assert desk.preview.state is State.HIGH


def test_other_faults_become_sentences(desk: Desk) -> None:
    desk.refusal = ZeroDivisionError("by zero")  # type: ignore[assignment]
    desk.preview.look(wish())
    assert desk.preview.poll() and desk.preview.error.code == "internal"
    desk.refusal = None
    desk.preview.retry()
    desk.preview.poll()
    desk.now += PATIENCE
    desk.preview.poll()
    assert desk.preview.error.code == "backend-timeout" and desk.asked[-1].cancelled


def test_pause_asks_for_nothing(desk: Desk) -> None:
    desk.preview.paused = True
    desk.preview.look(wish())
    assert not desk.preview.poll() and desk.asked == [] and desk.preview.wait_seconds() is None


def shown(of: Wish) -> Picture:
    return make_picture(of, 1.0, planes(of.request(1.0)), {})


def test_old_picture_goes_along_with_the_body() -> None:
    before = wish()
    picture = shown(before)
    assert place(picture, before) == ((picture.x, picture.y, picture.width, picture.height), 1.0)
    # The figure is the middle half of the box (100, 40, 160, 200), with a pixel of room around.
    assert (picture.x, picture.y, picture.width, picture.height) == (139, 89, 82, 102)
    (x, y, width, height), grow = place(picture, wish(0.5))
    assert (width, height, grow) == pytest.approx((82, 102, 1)) and (x, y) == pytest.approx((139 + 50, 89))
    (_, _, width, _), grow = place(picture, wish(eye=-8.0))
    assert width == pytest.approx(41) and grow == pytest.approx(2)


def test_old_picture_goes_when_the_view_has_changed_too_much() -> None:
    picture = shown(wish())
    assert place(picture, wish(turned=0.3)) is not None
    assert place(picture, wish(turned=1.2)) is None
    assert place(picture, wish(eye=-40.0)) is None
    assert place(picture, replace(wish(1), box=None)) is None


def test_key_tells_every_difference(tmp_path) -> None:
    base = wish()
    assert make_key(base.camera, base.people, base.box) == base.key
    other = replace(base.camera, near=0.02)
    assert make_key(other, base.people, base.box) != base.key
    assert make_key(base.camera, base.people, None) != base.key
    assert wish(1e-5).key != base.key
    path = tmp_path / "person.avatar"
    people = (replace(base.people[0], path=str(path)),)
    gone = make_key(base.camera, people, base.box)
    path.write_bytes(b"1")
    first = make_key(base.camera, people, base.box)
    path.write_bytes(b"12")
    assert len({gone, first, make_key(base.camera, people, base.box)}) == 3


def test_a_scene_s_look_and_quality_are_part_of_what_is_wished_for() -> None:
    table = np.zeros((3, 3, 3, 3), np.float32)
    plain, fine, looked = (
        replace(wish(), style=style) for style in (Style(), Style(2.0), Style(1.0, table, ("AgX", 0.0)))
    )
    assert plain.request(0.5).detail == 0.5 and fine.request(0.5).detail == 1.0 and fine.request(1.0).detail == 2.0
    assert looked.request(1.0).table is table and plain.request(1.0).table is None
    keys = {make_key(w.camera, w.people, w.box, w.style) for w in (plain, fine, looked)}
    assert len(keys) == 3
    assert Style(0.1).quality == 0.1 and replace(plain, style=Style(0.1)).request(0.5).detail == DETAIL_RANGE[0]
