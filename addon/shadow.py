# SPDX-License-Identifier: GPL-3.0-or-later
"""Create Shadow Proxy: a body of the avatar's shape on the armature that only casts shadows and shows in reflections.

An avatar is a picture and throws no shadow of its own. The mesh hangs on the rig's bones by an ordinary Armature
modifier: nothing of the add-on runs when it is rendered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import bpy

from ..neural_backend.interface.messages import BackendError
from . import avatars
from .later import np
from .render_settings import displayed_as

if TYPE_CHECKING:
    from . import shadow_mesh

Outcome = set[Literal["RUNNING_MODAL", "CANCELLED", "FINISHED", "PASS_THROUGH", "INTERFACE"]]

#: Custom property of the mesh's object.
MARK = "neural_avatar_shadow"
#: Custom property of one that was once told to hide along with its armature.
_HIDES_ALONG = "neural_avatar_hides_along"


def proxies_of(obj: Any) -> list[Any]:
    """The shadow proxies of an armature."""
    return [child for child in obj.children if child.type == "MESH" and child.get(MARK)]


def create(context: Any, obj: Any) -> Any:
    """Make an armature's shadow proxy, in place of an older one; returns its object. Raises BackendError."""
    from ..neural_backend.interface.proxy import ProxyGeometry
    from . import joints, shadow_mesh

    header = avatars.header(avatars.absolute_path(obj))
    try:
        proxy = ProxyGeometry.from_dict(header.proxy)
    except ValueError as error:
        raise BackendError(
            "avatar-corrupt", f"The avatar of '{obj.name}' has no surface: export it again.", str(error)
        ) from error
    rows = joints.rows_of(obj)
    points, confidence, carriers = joints.rest_joints(obj, header)
    bones = obj.data.bones
    middles = {b.name: np.array((b.head_local + b.tail_local) / 2) for b in bones}
    built = shadow_mesh.build(
        points, confidence, header.rest_joints, header.rest_confidence, proxy, carriers, rows,
        {b.name: b.parent.name if b.parent else None for b in bones}, middles,
    )  # fmt: skip
    old = proxies_of(obj)
    made = _object(context, obj, built) if not old else _replaced(old, built)
    for name, share in _deforming(bones, built.weights, middles).items():
        group = made.vertex_groups.new(name=name)
        for weight in np.unique(share[share > 0]):
            group.add([int(i) for i in np.flatnonzero(share == weight)], float(weight), "REPLACE")
    _hide_along(made, obj)
    return made


def _hide_along(made: Any, obj: Any) -> None:
    """Disable a proxy wherever its armature is: by plain drivers, which need no permission to run Python."""
    # Only once, as who takes a driver away means it; and never where a user has hidden or animated an older proxy.
    if made.get(_HIDES_ALONG) or made.hide_render or made.hide_viewport or made.animation_data is not None:
        return
    for name in ("hide_render", "hide_viewport"):
        driver = made.driver_add(name).driver
        driver.type = "SUM"
        target = driver.variables.new().targets[0]
        target.id, target.data_path = obj, name
    made[_HIDES_ALONG] = True


def _deforming(bones: Any, weights: shadow_mesh.Weights, middles: Any) -> shadow_mesh.Weights:
    """The weights on bones that an Armature modifier listens to: for any other the nearest of these."""
    able = [b.name for b in bones if b.use_deform]
    if not able:
        raise BackendError(
            "bones-do-not-deform", "None of the armature's bones deforms: turn on Deform in the bones' properties."
        )
    out: shadow_mesh.Weights = {}
    for name, share in weights.items():
        if not bones[name].use_deform:
            name = min(able, key=lambda other: float(np.linalg.norm(middles[other] - middles[name])))
        out[name] = out.get(name, 0) + share
    return out


def _object(context: Any, obj: Any, built: shadow_mesh.ShadowMesh) -> Any:
    made = bpy.data.objects.new(f"{obj.name} Shadow", _mesh(f"{obj.name} Shadow", built))
    made[MARK] = True
    # An armature may be in other scenes too: in one that renders it alone there is nothing to throw a shadow on.
    root = displayed_as(context.scene).collection
    here = (root, *root.children_recursive)
    next((c for c in obj.users_collection if c.library is None and c in here), root).objects.link(made)
    made.parent = obj
    modifier = made.modifiers.new("Armature", "ARMATURE")
    modifier.object = obj
    made.visible_camera = False
    made.visible_shadow = made.visible_glossy = made.visible_diffuse = made.visible_transmission = True
    made.visible_volume_scatter = True
    made.display_type, made.hide_select = "WIRE", True
    made.data.materials.append(_material())
    return made


def _replaced(old: list[Any], built: shadow_mesh.ShadowMesh) -> Any:
    """The first of the older ones with a new mesh: its settings and materials are the user's."""
    made, before = old[0], old[0].data
    made.vertex_groups.clear()
    mesh = _mesh(before.name, built)
    for material in before.materials:
        mesh.materials.append(material)
    made.data = mesh
    if not before.users:
        bpy.data.meshes.remove(before)
    for extra in old[1:]:
        bpy.data.objects.remove(extra)
    return made


def _mesh(name: str, built: shadow_mesh.ShadowMesh) -> Any:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(built.vertices.tolist(), [], built.faces)
    mesh.polygons.foreach_set("use_smooth", [True] * len(mesh.polygons))
    mesh.update()
    return mesh


def _material() -> Any:
    """A plain grey, for reflections; the user may give it the clothes' colour."""
    name = "Neural Avatar Shadow"
    material: Any = bpy.data.materials.get(name)
    if material is None:
        material = bpy.data.materials.new(name)
        material.diffuse_color = (0.2, 0.2, 0.2, 1)
        if not material.node_tree:
            material.use_nodes = True
        surface = next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)
        if surface is not None:
            surface.inputs["Base Color"].default_value = (0.2, 0.2, 0.2, 1)
            surface.inputs["Roughness"].default_value = 0.9
    return material


class NEURAL_AVATAR_OT_shadow_proxy(bpy.types.Operator):
    """Add a body of the avatar's shape that follows the armature, is not seen by cameras, and casts shadows. Run again
    after the avatar or its mapping has changed"""

    bl_idname = "neural_avatar.shadow_proxy"
    bl_label = "Create Shadow Proxy"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.object is not None and avatars.carries_avatar(context.object)

    def execute(self, context: Any) -> Outcome:
        obj = context.object
        try:
            create(context, obj)
        except BackendError as error:
            self.report({"ERROR"}, error.message)
            return {"CANCELLED"}
        if obj.neural_avatar_fit.use:
            self.report(
                {"WARNING"},
                "The shadow has the rig's build, and Fit Proportions gives the avatar its own: their feet may part.",
            )
        return {"FINISHED"}


CLASSES = (NEURAL_AVATAR_OT_shadow_proxy,)
