# SPDX-License-Identifier: GPL-3.0-or-later
"""The previews of Blender's 3D views: one for each region, one timer for all, which runs only while something is to
come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from bpy.app.handlers import persistent

from ..neural_backend.interface.messages import AvatarInstance, BackendError, RenderRequest
from . import backdrop, draw, draw_bones, look, plate, scene, session, windows, working_space
from .overlay import any_avatar
from .preview import Pending, Preview, as_error
from .preview_picture import Box, Cache, Picture, Style, Wish, place
from .preview_view import View, depth_terms, make_wish

cache = Cache()


@dataclass
class Viewed:
    """A region and its preview. people_error: what kept the scene from being read. fault: what keeps somebody from
    being shown among the others. own: milliseconds of the last drawing that were ours."""

    name: str
    preview: Preview
    upload: draw.Upload | None = None
    people_error: BackendError | None = None
    fault: BackendError | None = None
    own: float = 0.0
    drawn_at: float = 0.0
    wish: Wish | None = None

    @property
    def error(self) -> BackendError | None:
        """What the view has to tell."""
        return self.people_error or self.fault or self.preview.error


@dataclass(frozen=True)
class Crowd:
    """Who can be shown, and who cannot."""

    shown: tuple[scene.Shown, ...] = ()
    faults: tuple[scene.Fault, ...] = ()


@dataclass
class _State:
    views: dict[int, Viewed] = field(default_factory=dict)
    #: Counts changes of the scene: while it stays the same, so do the joints.
    generation: int = 0
    people: dict[tuple[int, str, str], Crowd | BackendError] = field(default_factory=dict)
    number: int = 0


_state = _State()


# --- what a view shows -----------------------------------------------------------------------------------------------


def people_of(depsgraph: bpy.types.Depsgraph) -> Crowd:
    """The avatars of an evaluated scene; read once for each change of it. Raises BackendError."""
    key = _state.generation, depsgraph.scene.name_full, depsgraph.view_layer.name
    found = _state.people.get(key)
    if found is None:
        if any(k[0] != _state.generation for k in _state.people):
            _state.people.clear()
        try:
            faults: list[scene.Fault] = []
            shown = scene.shown_people(depsgraph, faults) if any_avatar() else ()
            found = Crowd(shown, tuple(faults))
        except Exception as error:
            # A fault of ours too: it is told once, not with each drawing.
            found = as_error(error)
            _log(found)
        _state.people[key] = found
    if isinstance(found, BackendError):
        raise found
    return found


def people_in(context: Any, depsgraph: bpy.types.Depsgraph) -> tuple[AvatarInstance, ...]:
    """The avatars that a 3D view is to show. Raises BackendError where somebody cannot be shown."""
    people, fault = _people_and_fault(context, depsgraph)
    if fault is not None:
        raise fault
    return people


def _people_and_fault(
    context: Any, depsgraph: bpy.types.Depsgraph
) -> tuple[tuple[AvatarInstance, ...], BackendError | None]:
    """The avatars that a 3D view can show, and the first reason why there are not more. Raises BackendError."""
    crowd = people_of(depsgraph)
    people = tuple(shown.person for shown in crowd.shown if _visible(shown.shown_by, context))
    return people, next((fault.error for fault in crowd.faults if _visible(fault.shown_by, context)), None)


def _visible(obj: Any, context: Any) -> bool:
    """Is an object shown in this view? Local view and hidden collections are a view's own."""
    # What belongs to a background scene is hidden by nothing here.
    return context.scene.objects.get(obj.name) != obj or bool(obj.visible_in_viewport_get(context.space_data))


def camera_of(context: Any) -> Any:
    """The camera that a view looks through in a camera view: its own, else the scene's; None for none."""
    return context.space_data.camera or context.scene.camera


def view_of(context: Any) -> View:
    """The view that is being drawn."""
    region, data = context.region, context.region_data
    return View(
        region.width,
        region.height,
        np.array(data.window_matrix, np.float64),
        np.array(data.view_matrix, np.float64),
        border(context),
    )


def camera_frame(context: Any) -> tuple[float, float, float, float] | None:
    """The camera's frame in pixels of the view (x0, y0, x1, y1), None outside a camera view."""
    data, camera = context.region_data, camera_of(context)
    if data.view_perspective != "CAMERA" or camera is None or camera.type != "CAMERA":
        return None
    corners = camera.data.view_frame(scene=context.scene)
    to_view = np.array(data.window_matrix @ data.view_matrix @ camera.matrix_world.normalized())
    flat = np.array([to_view @ (*corner, 1.0) for corner in corners])
    places = (flat[:, :2] / flat[:, 3:] + 1) / 2 * (context.region.width, context.region.height)
    (x0, y0), (x1, y1) = places.min(0), places.max(0)
    return float(x0), float(y0), float(x1), float(y1)


def border(context: Any) -> Box | None:
    """The render border in pixels of the view, None where there is none, or where Blender draws beyond it: what
    Workbench draws, as in Solid view, is whole."""
    width, height = context.region.width, context.region.height
    frame, scene, space = camera_frame(context), context.scene, context.space_data
    shading = space.shading.type
    if shading != "MATERIAL" and (shading != "RENDERED" or scene.render.engine == "BLENDER_WORKBENCH"):
        return None
    if frame is not None and scene.render.use_border:
        limits, prefix, (x0, y0, x1, y1) = scene.render, "border_", frame
    elif frame is None and space.use_render_border:
        limits, prefix, (x0, y0, x1, y1) = space, "render_border_", (0.0, 0.0, float(width), float(height))
    else:
        return None
    left, right = (x0 + (x1 - x0) * getattr(limits, f"{prefix}{end}_x") for end in ("min", "max"))
    low, high = (y0 + (y1 - y0) * getattr(limits, f"{prefix}{end}_y") for end in ("min", "max"))
    left, low = max(round(left), 0), max(round(low), 0)
    return Box(left, low, max(min(round(right), width) - left, 0), max(min(round(high), height) - low, 0))


def viewed(context: Any) -> Viewed:
    """The preview of the region that is being drawn."""
    key = context.region.as_pointer()
    found = _state.views.get(key)
    if found is None:
        _state.number += 1
        name = f"view {_state.number}"

        def ask(request: RenderRequest) -> Pending:
            return session.session().request(request, name, interactive=True)

        found = _state.views[key] = Viewed(name, Preview(ask, cache))
    return found


def known(context: Any) -> Viewed | None:
    """The preview of the region that is being drawn, None where nothing was ever shown."""
    return _state.views.get(context.region.as_pointer())


def show(context: Any, depsgraph: bpy.types.Depsgraph, hidden_by_scene: bool) -> Viewed | None:
    """Draw the avatars into the view that is being drawn; returns its preview, None where there is nobody.

    hidden_by_scene: compare with the scene's depth.
    """
    started = time.perf_counter()
    settings = context.scene.neural_avatar_preview
    try:
        people, fault = _people_and_fault(context, depsgraph)
        if fault is not None and not people:
            raise fault
    except BackendError as error:
        view = viewed(context)
        view.people_error, view.wish = error, None
        return view
    if not people and context.region.as_pointer() not in _state.views:
        return None
    view, seen = viewed(context), view_of(context)
    view.people_error, view.fault = None, fault
    # The overlay is drawn in display colours, beyond the view transform that the table undoes.
    name, table = (None, None) if hidden_by_scene else look.prepared(context.scene)
    wish = view.wish = make_wish(seen, people, Style(context.scene.neural_avatar_render.quality, table, name))
    preview = view.preview
    preview.paused, preview.playing = settings.pause, windows.is_playing()
    cache.capacity = settings.cache_megabytes << 20
    _draw(view, preview.look(wish), wish, seen, _passepartout(context) if hidden_by_scene else None)
    if preview.wait_seconds() is not None:
        _wake()
    view.drawn_at = time.monotonic()
    view.own = (time.perf_counter() - started) * 1e3
    return view if people else None


def _passepartout(context: Any) -> tuple[tuple[float, float, float, float] | None, float]:
    """The camera's frame, if any, and how much is left of what lies outside it: Blender has drawn its own passepartout
    before the overlay."""
    camera, frame = camera_of(context), camera_frame(context)
    if frame is None or not camera.data.show_passepartout:
        return None, 1.0
    return frame, 1.0 - float(camera.data.passepartout_alpha)


def _draw(
    view: Viewed,
    shown: Picture | None,
    wish: Wish,
    seen: View,
    overlay: tuple[tuple[float, float, float, float] | None, float] | None,
) -> None:
    """Draw a picture. overlay: the passepartout, where the scene has been drawn and hides the avatar; None alone."""
    where = place(shown, wish) if shown is not None else None
    if shown is None or where is None:
        view.upload = None
        return
    # What is laid over Blender's picture goes to the display as it is.
    light = working_space.from_rec709() if overlay is None else None
    if view.upload is None or view.upload.picture is not shown or not np.array_equal(view.upload.light, light):
        view.upload = draw.Upload(shown, light)
    at, grow = where
    size = seen.width, seen.height
    if overlay is None:
        draw.picture(view.upload, at, size, None)
    else:
        draw.picture(view.upload, at, size, depth_terms(seen), grow, wish.back, *overlay, power=draw.OVERLAY)


def draw_engine(context: Any, depsgraph: bpy.types.Depsgraph) -> None:
    """The Rendered view of our own engine: film colour and avatars, scene-linear; Blender applies the display
    transform after it."""
    size = context.region.width, context.region.height
    clip = border(context) or Box(0, 0, *size)
    framed = camera_frame(context)
    color = backdrop.film_color(depsgraph.scene_eval)
    # In a camera view Blender itself draws the plates, under what is transparent.
    if color is not None and not (framed is not None and plate.background_pictures(camera_of(context))):
        draw.fill((*color, 1.0), (clip.x, clip.y, clip.width, clip.height), size)
    show(context, depsgraph, hidden_by_scene=False)


# --- what happens between two drawings -------------------------------------------------------------------------------


def _wake() -> None:
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)


def _tick() -> float | None:
    """Look after every view; called by Blender's timer, outside of any drawing. None ends the timer."""
    there = {region.as_pointer(): region for region in windows.regions()}
    for key in [k for k in _state.views if k not in there]:
        _close(_state.views.pop(key))
    waits, playing = [], windows.is_playing()
    for key, view in _state.views.items():
        view.preview.playing = playing
        if view.people_error is not None:
            # What the view is to show is known again with the next drawing, which starts the timer.
            view.preview.stop()
            continue
        if view.preview.poll():
            there[key].tag_redraw()
            _log(view.preview.error)
        seconds = view.preview.wait_seconds()
        if seconds is not None:
            waits.append(seconds)
    return max(min(waits), 0.001) if waits else None


def _close(view: Viewed) -> None:
    view.preview.stop()
    view.upload = None
    session.drop_client(view.name)


def _log(error: BackendError | None) -> None:
    """What only the log can explain goes there."""
    if error is not None and error.code == "internal":
        session.log(f"{error.message}\n{error.details}")


def forget(pictures: bool = True) -> None:
    """Forget every view, and every picture."""
    for view in _state.views.values():
        _close(view)
    _state.views.clear()
    _state.people.clear()
    if pictures:
        cache.clear()


def retry() -> None:
    """Try again what has failed."""
    for view in _state.views.values():
        view.preview.retry()
    _state.generation += 1
    windows.redraw()


def all_views() -> list[Viewed]:
    """The previews of all views that have been drawn."""
    return list(_state.views.values())


@persistent  # type: ignore[untyped-decorator]
def _changed(*_: Any) -> None:
    _state.generation += 1


@persistent  # type: ignore[untyped-decorator]
def _edited(*_: Any) -> None:
    _changed()
    draw_bones.forget()


@persistent  # type: ignore[untyped-decorator]
def _loaded(*_: Any) -> None:
    _edited()
    forget()


def start() -> None:
    """Follow the scene's changes, from the first time that there is something to show."""
    handlers = bpy.app.handlers
    if _loaded in handlers.load_post:
        return
    _state.generation += 1
    for listened in (handlers.depsgraph_update_post, handlers.undo_post, handlers.redo_post):
        listened.append(_edited)
    handlers.frame_change_post.append(_changed)
    handlers.load_post.append(_loaded)


def stop() -> None:
    """Undo :func:`start`, and leave nothing behind."""
    handlers = bpy.app.handlers
    if _loaded not in handlers.load_post:
        return
    for listened in (handlers.depsgraph_update_post, handlers.undo_post, handlers.redo_post):
        listened.remove(_edited)
    handlers.frame_change_post.remove(_changed)
    handlers.load_post.remove(_loaded)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    forget()
    draw.forget()
