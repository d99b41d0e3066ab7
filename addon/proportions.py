# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit Proportions: a rig of any build moves an avatar that keeps its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars
from .later import np
from .render_settings import retag

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..neural_backend.interface.avatar_header import AvatarHeader

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

SIZES = (
    ("AVATAR", "Avatar's", "The person is as tall as in life. A step is as long as the avatar's legs make it"),
    ("RIG", "Rig's", "The person is as large as the rig, and only the proportions are the avatar's"),
)


class FitSettings(bpy.types.PropertyGroup):
    use: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Fit Proportions",
        description="Take the directions of the bones from the rig, and their lengths from the avatar",
        default=False,
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )
    amount: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Amount",
        description="0: the rig's build. 1: the avatar's",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )
    size: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Size",
        description="Whose size the person has",
        items=SIZES,
        override={"LIBRARY_OVERRIDABLE"},
        update=retag,
    )


def fitted(
    obj: Any,
    header: AvatarHeader,
    points: npt.NDArray[np.float32],
    confidence: npt.NDArray[np.float32],
    matrix_world: npt.ArrayLike,
    scene: Any,
) -> npt.NDArray[np.float32]:
    """An (evaluated) armature's joints (137, 3) in world axes, in the avatar's build as far as its settings say.

    The ground is where the armature's own origin is.
    """
    fit = obj.neural_avatar_fit
    if not fit.use or fit.amount <= 0:
        return points
    from . import retarget

    there = retarget.retarget(
        points, confidence, header.rest_joints, header.rest_confidence,
        _size(fit, header, points, confidence, scene), np.asarray(matrix_world, np.float64)[:3, 3],
    )  # fmt: skip
    amount = float(fit.amount)
    return np.asarray((1 - amount) * points + amount * there, np.float32)


def _size(fit: Any, header: AvatarHeader, points: Any, confidence: Any, scene: Any) -> float:
    """World units to a metre of the avatar."""
    if fit.size == "RIG":
        from ..neural_backend.interface.body import body_scale

        return float(body_scale(points[None], confidence[None], header.rest_joints)[0])
    return 1.0 / float(scene.unit_settings.scale_length or 1.0)


class NEURAL_AVATAR_OT_fit_proportions(bpy.types.Operator):
    """Let the avatar keep its own build on this rig: directions from the rig, lengths from the avatar"""

    bl_idname = "neural_avatar.fit_proportions"
    bl_label = "Fit Proportions"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    size: bpy.props.EnumProperty(name="Size", description="Whose size the person has", items=SIZES)  # type: ignore[valid-type]
    amount: bpy.props.FloatProperty(name="Amount", default=1.0, min=0.0, max=1.0, subtype="FACTOR")  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and avatars.carries_avatar(context.object)

    def execute(self, context: Any) -> Outcome:
        from . import joints, retarget

        obj = context.object
        try:
            header = avatars.header(avatars.absolute_path(obj))
            posed = obj.evaluated_get(context.evaluated_depsgraph_get())
            points, confidence = joints.world_joints(posed, header)
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}
        fit = obj.neural_avatar_fit
        fit.use, fit.amount, fit.size = True, self.amount, self.size
        size = _size(fit, header, points, confidence, context.scene)
        ratio = retarget.leg_ratio(points.astype(np.float64), np.asarray(header.rest_joints, np.float64), size)
        self.report({"INFO"}, f"The avatar's legs are {ratio:.2f} times as long as the rig's; so is its way.")
        return {"FINISHED"}


class NEURAL_AVATAR_PT_proportions(bpy.types.Panel):
    bl_label = "Fit Proportions"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "data"
    bl_parent_id = "NEURAL_AVATAR_PT_avatar"
    bl_options = {"DEFAULT_CLOSED"}  # noqa: RUF012

    layout: Any

    @classmethod
    def poll(cls, context: Any) -> bool:
        return bool(context.object and context.object.type == "ARMATURE" and context.object.neural_avatar.avatar_path)

    def draw_header(self, context: Any) -> None:
        self.layout.prop(context.object.neural_avatar_fit, "use", text="")

    def draw(self, context: Any) -> None:
        layout, fit = self.layout, context.object.neural_avatar_fit
        layout.use_property_split = True
        layout.active = fit.use
        layout.prop(fit, "amount")
        layout.prop(fit, "size")


CLASSES = (FitSettings, NEURAL_AVATAR_OT_fit_proportions, NEURAL_AVATAR_PT_proportions)


def register() -> None:
    """Attach the settings to objects."""
    bpy.types.Object.neural_avatar_fit = bpy.props.PointerProperty(  # type: ignore[attr-defined, func-returns-value]
        type=FitSettings, override={"LIBRARY_OVERRIDABLE"}
    )


def unregister() -> None:
    """Detach the settings; what is stored in files stays there."""
    del bpy.types.Object.neural_avatar_fit  # type: ignore[attr-defined]
