# SPDX-License-Identifier: GPL-3.0-or-later
"""Each avatar's exposure and white balance, and the colours under which it keeps its look in AgX or Filmic.

An avatar's colours are display colours: what a camera's picture shows. Under the view transform *Standard* they are
shown as they are. Any other transform changes them, unless they are first sent through its inverse: a table, found by
asking Blender itself what it makes of scene-linear colours and improving them step by step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import bpy

from ..neural_backend.interface.messages import TABLE_UNIT
from . import display, windows
from .later import np
from .render_settings import displayed_as, retag, settings
from .writing import on_first_thread

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

#: Steps of the table along each axis.
STEPS = 33
#: Scene-linear light that the table may ask for. A little below zero, as AgX shows strong colours only so; no brighter
#: than what AgX and Filmic show as white, or soft edges would glare.
DARKEST, BRIGHTEST = -0.1, 18.0
_ROUNDS = 20
_DAYLIGHT = 6500.0

#: Seconds for which a view's settings must rest before a table is made for drawing: that holds up all of Blender.
_REST = 0.5

#: By what decides how colours are shown (:func:`display.key`).
_tables: dict[tuple[Any, ...], npt.NDArray[np.float32]] = {}
#: By a scene's name: the key of the table that its drawings lack, and since when; and of the one drawn with last.
_awaited: dict[str, tuple[tuple[Any, ...], float]] = {}
_drawn: dict[str, tuple[Any, ...]] = {}


class AvatarLook(bpy.types.PropertyGroup):
    exposure: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Exposure",
        description="Brightness of this avatar, in stops",
        default=0.0,
        min=-10.0,
        max=10.0,
        soft_min=-3.0,
        soft_max=3.0,
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )
    temperature: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Temperature",
        description="White balance: colour temperature (kelvin) of the light that is shown as white. Above 6500 the "
        "avatar becomes warmer, below it colder",
        default=_DAYLIGHT,
        min=2000.0,
        max=20000.0,
        step=10000,
        precision=0,
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )
    tint: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Tint",
        description="White balance across the temperature: above 0 the avatar becomes more magenta, below it greener",
        default=0.0,
        min=-150.0,
        max=150.0,
        precision=0,
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )


def gain(obj: Any) -> tuple[float, float, float]:
    """Factors of scene-linear red, green and blue of an (evaluated) armature's avatar."""
    look = obj.neural_avatar_look
    r, g, b = white_balance(look.temperature, look.tint) * 2.0**look.exposure
    return float(r), float(g), float(b)


def white_balance(temperature: float, tint: float) -> Array:
    """Factors (3,) of scene-linear Rec.709 that show light of a temperature (kelvin) as white, at equal luminance."""
    if temperature == _DAYLIGHT and tint == 0:
        return np.ones(3)
    factors = _light(_DAYLIGHT, 0.0) / _light(temperature, tint)
    return np.asarray(factors / (factors @ (0.2126, 0.7152, 0.0722)))


def _light(t: float, tint: float) -> Array:
    """Scene-linear Rec.709 (3,) of a black body (Krystek 1985, in the CIE 1960 diagram), moved across the locus."""

    def place(k: float) -> Array:
        return np.array(
            [
                (0.860117757 + 1.54118254e-4 * k + 1.28641212e-7 * k * k)
                / (1 + 8.42420235e-4 * k + 7.08145163e-7 * k * k),
                (0.317398726 + 4.22806245e-5 * k + 4.20481691e-8 * k * k)
                / (1 - 2.89741816e-5 * k + 1.61456053e-7 * k * k),
            ]
        )

    along = place(t + 1) - place(t - 1)
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)  # towards green
    u, v = place(t) + across * tint / 3000
    x, y = 3 * u / (2 * u - 8 * v + 4), 2 * v / (2 * u - 8 * v + 4)
    to_rec709 = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    return np.asarray((to_rec709 @ (x / y, 1.0, (1 - x - y) / y)).clip(0.02))


def table(scene: Any, should_cancel: Callable[[], bool] = lambda: False) -> npt.NDArray[np.float32] | None:
    """The request's colour table for a scene (original or evaluated); None where none is needed.

    Takes about two seconds for a view transform that is new in this session. A render's thread has it made by Blender's
    first one. Raises BackendError 'cancelled'.
    """
    if not settings(scene).keep_look:
        return None
    seen = displayed_as(scene)
    key = display.key(seen)
    if key is None:
        return None
    found = _tables.get(key)
    return found if found is not None else on_first_thread(lambda: _made(seen), should_cancel)


def _made(scene: Any) -> npt.NDArray[np.float32]:
    """The table of an original scene, made where it is not there; kept."""
    key = display.key(scene)
    assert key is not None
    found = _tables.get(key)
    if found is None:
        with display.showing(scene) as ask:
            found = _inverse(ask)
        if len(_tables) >= 8:
            _tables.pop(next(iter(_tables)))
        _tables[key] = found
    return found


def prepared(scene: Any) -> tuple[tuple[Any, ...] | None, npt.NDArray[np.float32] | None]:
    """As :func:`table`, but for drawing, which may not wait: what tells the table from others, and the table; as long
    as there is none, those of the drawing before, or (None, None). One that is lacking is made when the view's settings
    rest, and the views are drawn again."""
    if not settings(scene).keep_look:
        return None, None
    key, name = display.key(displayed_as(scene)), scene.name
    if key is None:
        return None, None
    if key in _tables:
        _drawn[name] = key
    elif name not in _awaited or _awaited[name][0] != key:
        _awaited[name] = key, time.monotonic()
        if not bpy.app.timers.is_registered(_make_awaited):
            # Another file may be loaded first: nobody would make the table any more.
            bpy.app.timers.register(_make_awaited, first_interval=_REST, persistent=True)
    last = _drawn.get(name)
    return (last, _tables[last]) if last in _tables else (None, None)


def _make_awaited() -> float | None:
    """Make the tables that drawings lack; called by Blender's timer, outside of any drawing. None ends the timer."""
    for name, (key, since) in list(_awaited.items()):
        scene: Any = bpy.data.scenes.get(name)
        if scene is None or display.key(displayed_as(scene)) != key:
            del _awaited[name]
        elif time.monotonic() - since >= _REST and not windows.is_playing():
            del _awaited[name]
            table(scene)
            windows.redraw()
    return _REST / 2 if _awaited else None


def stored(light: Array) -> Array:
    """Scene-linear light as a request's table has it."""
    return np.asarray(np.sign(light) * np.log2(1 + np.abs(light) / TABLE_UNIT))


def light_of(values: Array) -> Array:
    """What :func:`stored` has stored."""
    return np.asarray(np.sign(values) * TABLE_UNIT * (np.exp2(np.abs(values)) - 1))


def _inverse(shown: Callable[[Array], Array]) -> npt.NDArray[np.float32]:
    """(STEPS, STEPS, STEPS, 3) stored light that is shown as display sRGB in equal steps.

    Levenberg's and Marquardt's method for all entries at once, from each channel's grey.
    """
    steps = np.linspace(0, 1, STEPS)
    target = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    low, high = stored(np.array([DARKEST, BRIGHTEST]))
    ramp = np.linspace(low, high, 4096)
    grey = np.maximum.accumulate(shown(light_of(np.repeat(ramp[:, None], 3, 1))).mean(1))
    values = np.interp(target, grey, ramp)
    found = shown(light_of(values))
    error = ((found - target) ** 2).sum(1)
    damping = np.full(len(target), 1e-3)
    for _ in range(_ROUNDS):
        slopes = np.empty((len(target), 3, 3))
        for channel in range(3):
            step = np.where(values[:, channel] > high - 0.1, -0.02, 0.02)
            moved = values.copy()
            moved[:, channel] += step
            slopes[:, :, channel] = (shown(light_of(moved)) - found) / step[:, None]
        normal = np.einsum("nij,nik->njk", slopes, slopes) + damping[:, None, None] * np.eye(3)
        downhill = np.einsum("nij,ni->nj", slopes, target - found)
        tried = (values + np.linalg.solve(normal, downhill[..., None])[..., 0].clip(-1.5, 1.5)).clip(low, high)
        there = shown(light_of(tried))
        worth = ((there - target) ** 2).sum(1)
        better = worth < error
        values, found = np.where(better[:, None], tried, values), np.where(better[:, None], there, found)
        error = np.where(better, worth, error)
        damping = np.where(better, damping * 0.3, damping * 5).clip(1e-7, 10)
        if error.max() < 1e-8:
            break
    return values.reshape(STEPS, STEPS, STEPS, 3).astype(np.float32)


class NEURAL_AVATAR_OT_use_standard(bpy.types.Operator):
    """Show the scene by the view transform Standard: avatars and plates then look as they were filmed"""

    bl_idname = "neural_avatar.use_standard"
    bl_label = "Use Standard"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    def execute(self, context: Any) -> Outcome:
        view = displayed_as(context.scene).view_settings
        view.view_transform = "Standard"
        view.look, view.exposure, view.gamma = "None", 0.0, 1.0
        view.use_curve_mapping = False
        if hasattr(view, "use_white_balance"):
            view.use_white_balance = False
        return {"FINISHED"}


class NEURAL_AVATAR_PT_look(bpy.types.Panel):
    bl_label = "Look"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "data"
    bl_parent_id = "NEURAL_AVATAR_PT_avatar"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.object and context.object.type == "ARMATURE" and context.object.neural_avatar.avatar_path)

    def draw(self, context: Any) -> None:
        layout, look = self.layout, context.object.neural_avatar_look
        layout.use_property_split = True
        for name in ("exposure", "temperature", "tint"):
            layout.prop(look, name)
        draw_view_transform(layout, context.scene)


def draw_view_transform(layout: Any, scene: Any) -> None:
    """What can be done about a view transform that changes avatars; nothing where there is none."""
    if display.key(displayed_as(scene)) is None:
        return
    layout.label(text=f"{displayed_as(scene).view_settings.view_transform} changes the avatar's colours", icon="INFO")
    layout.prop(settings(displayed_as(scene)), "keep_look")
    layout.operator(NEURAL_AVATAR_OT_use_standard.bl_idname)


CLASSES = (AvatarLook, NEURAL_AVATAR_OT_use_standard, NEURAL_AVATAR_PT_look)


def register() -> None:
    """Attach the look to objects."""
    bpy.types.Object.neural_avatar_look = bpy.props.PointerProperty(  # type: ignore[attr-defined, func-returns-value]
        type=AvatarLook, override={"LIBRARY_OVERRIDABLE"}
    )


def unregister() -> None:
    """Detach the look; what is stored in files stays there."""
    del bpy.types.Object.neural_avatar_look  # type: ignore[attr-defined]
    if bpy.app.timers.is_registered(_make_awaited):
        bpy.app.timers.unregister(_make_awaited)
    for kept in (_tables, _awaited, _drawn):
        kept.clear()
