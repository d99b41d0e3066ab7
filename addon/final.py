# SPDX-License-Identifier: GPL-3.0-or-later
"""Final renders: one frame, from the evaluated scene to the written passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..neural_backend.interface.messages import DEPTHS, AvatarInstance, BackendError, RenderRequest
from . import backdrop, failed_frames, look, matte, motion_blur, passes, render_job, scene, session
from .camera import Region, picture_size, render_region

if TYPE_CHECKING:
    from ..neural_backend.interface.camera import Camera
    from ..neural_backend.interface.client import PendingFrame, SharedFrame

#: What is seen at a moment: through which camera, and whom.
Shot = tuple["Camera", tuple[AvatarInstance, ...]]

#: One client for all final renders: Blender renders one frame at a time, and the memory of its frames is used again.
CLIENT = "final"

#: Seconds for one frame, an hour's patience for a slow machine and a large picture; cancelling always works.
FRAME_TIMEOUT = 3600.0


def render(engine: Any, depsgraph: Any) -> None:
    """Render a view layer's frame into the engine. Never raises: what goes wrong is reported, and the result is
    transparent."""
    width, height = picture_size(depsgraph.scene_eval.render)
    size = width, height
    layer = depsgraph.view_layer.name
    render_job.begin_frame(depsgraph.scene.original, depsgraph.scene_eval.frame_current)
    try:
        region = render_region(depsgraph.scene_eval.render)
        size = region.width, region.height
        _render(engine, depsgraph, region)
    except BackendError as error:
        if error.code != "cancelled":
            tell(engine, "ERROR", error.message, f"[{error.code}] {error.details}".rstrip())
            passes.write(engine, layer, size)
    except Exception as error:
        import traceback

        tell(
            engine,
            "ERROR",
            f"Neural Avatar failed ({type(error).__name__}: {error}); its log has the details.",
            traceback.format_exc(),
        )
        passes.write(engine, layer, size)


def _render(engine: Any, depsgraph: Any, region: Region) -> None:
    shots = _shots(engine, depsgraph, region)
    view, people = shots[len(shots) // 2]
    layer, size = depsgraph.view_layer, (region.width, region.height)
    box = _union([found for shot in shots if (found := scene.visible_box(*shot)) is not None])
    if box is None:
        if people:
            who = ", ".join(f"'{p.name}'" for p in people)
            tell(engine, "INFO", f"No part of {who} is in the picture at frame {depsgraph.scene_eval.frame_current}.")
        else:
            tell(
                engine,
                "WARNING",
                "No visible armature carries an avatar: choose an avatar file in an armature's data properties.",
            )
        passes.write(engine, layer.name, size, backdrop=_behind(engine, depsgraph, region))
        return
    if box.width * box.height >= passes.WHOLE_FROM * size[0] * size[1]:
        box = Region(0, 0, *size)
    wanted = tuple(p.plane for p in passes.active_passes(depsgraph.scene, layer) if p.name != passes.COMPOSITE)
    moving = tuple(name for name in wanted if name in (*DEPTHS, *motion_blur.AVERAGED) or name.startswith("crypto"))

    def request(shot: Shot, planes: tuple[str, ...]) -> RenderRequest:
        part = shot[0].crop(box.x, size[1] - box.y - box.height, box.width, box.height, box.width, box.height)
        return scene.request(part, shot[1], planes, depsgraph.scene_eval)

    # Made before all else where it is new, so that the wait for it can be cancelled.
    look.table(depsgraph.scene_eval, _watch(engine))
    first = request((view, people), wanted)
    asked = ask(first)
    # The backend draws the people while the backdrop is drawn here.
    behind = _behind(engine, depsgraph, region)
    if matte.passes_of(layer):
        matte.write_metadata(engine, layer.name, (p.name for p in people))
    with collect(engine, first, asked) as frame:
        for warning in frame.warnings:
            tell(engine, "WARNING", warning)
        if len(shots) == 1:
            passes.write(engine, layer.name, size, box, frame.planes, behind)
            return
        mean = motion_blur.Mean(frame.planes, (p.matte for p in people))
    for i, shot in enumerate(shots):
        if i != len(shots) // 2:
            engine.update_progress((i + 1) / len(shots))
            more = request(shot, moving)
            with collect(engine, more, ask(more)) as frame:
                mean.add(frame.planes)
    passes.write(engine, layer.name, size, box, mean.result(), behind)


def _behind(engine: Any, depsgraph: Any, region: Region) -> backdrop.Picture | None:
    """The backdrop. A plate that cannot be read is no reason to give the frame up: in a set it may be for reference."""
    picture, unread = backdrop.render(depsgraph, engine.camera_override, region)
    for source in unread:
        tell(
            engine,
            "WARNING",
            f"Plate '{source.name}' cannot be read at frame {depsgraph.scene_eval.frame_current} and is missing in "
            "the pass Composite: look whether its file is there.",
            source.filepath,
        )
    return picture


def _shots(engine: Any, depsgraph: Any, region: Region) -> list[Shot]:
    """What is seen at each moment of the shutter time, just one without motion blur."""
    moments = motion_blur.moments(depsgraph.scene_eval)
    # One camera for all moments: Blender changes it with the frame, and a marker may lie within the shutter time.
    found = engine.camera_override or depsgraph.scene_eval.camera
    eye = found.original if found is not None else None
    if len(moments) == 1:
        return [_shot(eye, depsgraph, region)]
    frame, subframe = depsgraph.scene_eval.frame_current, depsgraph.scene_eval.frame_subframe
    shots = []
    try:
        for moment in moments:
            whole = math.floor(frame + subframe + moment)
            engine.frame_set(whole, frame + subframe + moment - whole)
            shots.append(_shot(eye, depsgraph, region))
    finally:
        engine.frame_set(frame, subframe)
    return shots


def _shot(eye: Any, depsgraph: Any, region: Region) -> Shot:
    return scene.active_camera(depsgraph, eye, region), scene.avatar_instances(depsgraph)


def _union(boxes: list[Region]) -> Region | None:
    """The smallest region that holds all."""
    if not boxes:
        return None
    x, y = min(b.x for b in boxes), min(b.y for b in boxes)
    return Region(x, y, max(b.x + b.width for b in boxes) - x, max(b.y + b.height for b in boxes) - y)


def ask(request: RenderRequest) -> PendingFrame:
    """Set the backend to work. Raises BackendError."""
    return session.session().request(request, CLIENT)


def collect(engine: Any, request: RenderRequest, asked: PendingFrame) -> SharedFrame:
    """The frame that was asked for; a backend that dies over it is given a second chance. Raises BackendError."""
    should_cancel = _watch(engine)
    try:
        return asked.wait(FRAME_TIMEOUT, should_cancel)
    except BackendError as error:
        if error.code != "backend-died":
            raise
        tell(
            engine,
            "INFO",
            "The renderer's process stopped unexpectedly; it is started again for this frame.",
            error.details,
        )
        return ask(request).wait(FRAME_TIMEOUT, should_cancel)


def _watch(engine: Any) -> Callable[[], bool]:
    """Looks at cancel and shows what the backend is at; called every few milliseconds in the render's own thread."""
    shown = ""

    def should_cancel() -> bool:
        nonlocal shown
        now = "Rendering avatar…" if session.is_ready() else session.status()
        if now != shown:
            shown = now
            engine.update_stats("", now)
        return bool(engine.test_break())

    return should_cancel


def tell(engine: Any, level: str, message: str, details: str = "") -> None:
    """Report a sentence to the user, and with its details to the log."""
    engine.report({level}, message)
    render_job.note(level, message)
    if level == "ERROR":
        failed_frames.failed()
    session.log("\n".join(filter(None, (f"{level}: {message}", details))))
