# SPDX-License-Identifier: GPL-3.0-or-later
"""The small set around the person: a courtyard in warm light, for Cycles. Runs inside Blender."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import bpy
import layout as stage
import numpy as np

Colour = tuple[float, float, float]


def build_set(scene: bpy.types.Scene, plan: stage.Layout) -> None:
    """Fill `scene` with floor, walls, props and light around the planned motion."""
    build = _Builder(scene)
    unit = plan.size / 1.7
    left, right = plan.low[0] - 1.3 * unit, plan.high[0] + 2.6 * unit
    back, front = plan.high[1] + 0.9 * unit, plan.low[1] - 7.0 * unit
    stone = build.material("Stone", (0.46, 0.40, 0.34), (0.36, 0.31, 0.26), kind="tiles", scale=1.15 / unit)
    plaster = build.material("Plaster", (0.66, 0.50, 0.37), (0.55, 0.40, 0.29), kind="noise", scale=1.6 / unit)
    trim = build.material("Trim", (0.72, 0.66, 0.57), (0.62, 0.56, 0.47), kind="noise", scale=5 / unit)
    wood = build.material("Wood", (0.30, 0.17, 0.085), (0.20, 0.105, 0.05), kind="noise", scale=9 / unit)
    door = build.material("Door", (0.055, 0.17, 0.19), (0.04, 0.13, 0.15), kind="noise", scale=7 / unit)
    clay = build.material("Clay", (0.47, 0.19, 0.10), (0.38, 0.15, 0.08), kind="noise", scale=8 / unit)
    leaf = build.material("Leaf", (0.10, 0.21, 0.045), (0.055, 0.13, 0.03), kind="noise", scale=6 / unit)

    middle, wide, deep = (left + right) / 2, right - left + 8 * unit, back - front + 8 * unit
    build.box("Floor", (middle, (back + front) / 2, -0.05), (wide, deep, 0.1), stone)
    build.box("Back wall", (middle, back + 0.1, 1.9 * unit), (wide, 0.2, 3.8 * unit), plaster)
    build.box("Side wall", (left - 0.1, back - 2.0 * unit, 1.9 * unit), (0.2, 4.0 * unit, 3.8 * unit), plaster)
    build.box("Skirting", (middle, back - 0.02, 0.14 * unit), (wide, 0.08, 0.28 * unit), trim)
    build.box("Side skirting", (left + 0.02, back - 2.0 * unit, 0.14 * unit), (0.08, 4.0 * unit, 0.28 * unit), trim)

    door_x = middle + 0.9 * unit
    build.box("Door frame", (door_x, back - 0.03, 1.16 * unit), (1.3 * unit, 0.12, 2.32 * unit), trim)
    for side in (-1, 1):
        build.box(
            "Door", (door_x + side * 0.27 * unit, back - 0.07, 1.08 * unit), (0.52 * unit, 0.1, 2.16 * unit), door
        )
        for z in (0.55, 1.5):
            build.box(
                "Panel", (door_x + side * 0.27 * unit, back - 0.125, z * unit), (0.34 * unit, 0.03, 0.72 * unit), door
            )

    build.bench((middle - 1.35 * unit, back - 0.42 * unit), unit, wood, trim)
    for k, (x, y, side, turn) in enumerate(
        ((0.35, 0.45, 0.46, 0.3), (0.95, 0.36, 0.36, -0.2), (0.42, 0.42, 0.32, 0.75))
    ):
        z = side / 2 if k < 2 else 0.46 + side / 2
        build.box(
            "Crate", (left + x * unit, back - y * unit, z * unit), (side * unit,) * 3, wood, turn=turn, bevel=0.02
        )
    build.pot((right - 1.1 * unit, back - 0.5 * unit), unit, clay, leaf, seed=3)

    for prop in plan.props:
        if prop.kind == "column":
            build.column(prop.place, unit, trim)
        else:
            build.planter(prop.place, prop.angle, unit, trim, leaf)
    _light(scene, plan, unit)


def _light(scene: bpy.types.Scene, plan: stage.Layout, unit: float) -> None:
    """A low warm sun from the camera's right and a soft sky."""
    sun = bpy.data.lights.new("Sun", "SUN")
    sun.energy, sun.angle, sun.color = 3.1, math.radians(4), (1.0, 0.86, 0.68)
    lamp = bpy.data.objects.new("Sun", sun)
    lamp.rotation_euler = (math.radians(48), math.radians(0), math.radians(40))
    scene.collection.objects.link(lamp)
    world = bpy.data.worlds.new("Sky")
    world.use_nodes = True
    background = world.node_tree.nodes["Background"]
    background.inputs["Color"].default_value = (0.62, 0.72, 0.9, 1)
    background.inputs["Strength"].default_value = 0.85
    scene.world = world


class _Builder:
    def __init__(self, scene: bpy.types.Scene) -> None:
        self.scene = scene

    def material(self, name: str, light: Colour, dark: Colour, kind: str, scale: float) -> bpy.types.Material:
        """A rough material between two colours: 'noise' (clouds with a fine bump) or 'tiles' (flagstones)."""
        material = bpy.data.materials.new(name)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        surface = nodes["Principled BSDF"]
        surface.inputs["Roughness"].default_value = 0.85
        place = nodes.new("ShaderNodeTexCoord")
        where = nodes.new("ShaderNodeNewGeometry").outputs["Position"] if kind == "tiles" else place.outputs["Object"]
        noise = nodes.new("ShaderNodeTexNoise")
        noise.inputs["Scale"].default_value, noise.inputs["Detail"].default_value = scale, 6.0
        links.new(where, noise.inputs["Vector"])
        ramp = nodes.new("ShaderNodeValToRGB")
        ramp.color_ramp.elements[0].color, ramp.color_ramp.elements[1].color = (*dark, 1), (*light, 1)
        ramp.color_ramp.elements[0].position, ramp.color_ramp.elements[1].position = 0.32, 0.68
        links.new(noise.outputs[0], ramp.inputs[0])
        colour, bump = ramp.outputs["Color"], noise.outputs[0]
        if kind == "tiles":
            brick = nodes.new("ShaderNodeTexBrick")
            brick.inputs["Scale"].default_value = scale
            brick.inputs["Mortar Size"].default_value = 0.008
            brick.inputs["Mortar"].default_value = (*(0.6 * c for c in dark), 1)
            brick.inputs["Color2"].default_value = (*(0.9 * c for c in light), 1)
            links.new(where, brick.inputs["Vector"])
            links.new(colour, brick.inputs["Color1"])
            colour = brick.outputs["Color"]
        links.new(colour, surface.inputs["Base Color"])
        relief = nodes.new("ShaderNodeBump")
        relief.inputs["Strength"].default_value, relief.inputs["Distance"].default_value = 0.12, 0.02
        links.new(bump, relief.inputs["Height"])
        links.new(relief.outputs["Normal"], surface.inputs["Normal"])
        return material

    def mesh(self, name: str, vertices: Sequence[Sequence[float]], faces: Sequence[Sequence[int]],
             material: bpy.types.Material, smooth: bool = False) -> bpy.types.Object:  # fmt: skip
        data = bpy.data.meshes.new(name)
        data.from_pydata([tuple(v) for v in vertices], [], [tuple(f) for f in faces])
        data.materials.append(material)
        if smooth:
            data.polygons.foreach_set("use_smooth", [True] * len(data.polygons))
        item = bpy.data.objects.new(name, data)
        self.scene.collection.objects.link(item)
        return item

    def box(self, name: str, centre: Sequence[float], size: Sequence[float], material: bpy.types.Material,
            turn: float = 0.0, bevel: float = 0.008) -> bpy.types.Object:  # fmt: skip
        corners = [[(i - 0.5) * s for i, s in zip(bits, size, strict=True)] for bits in np.ndindex(2, 2, 2)]
        faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        item = self.mesh(name, corners, faces, material)
        item.location, item.rotation_euler = centre, (0, 0, turn)
        edge = item.modifiers.new("Bevel", "BEVEL")
        edge.width, edge.segments = min(bevel, min(size) / 4), 2
        return item

    def lathe(self, name: str, place: Sequence[float], profile: Sequence[tuple[float, float]],
              material: bpy.types.Material, around: int = 40) -> bpy.types.Object:  # fmt: skip
        """A turned body: profile is (radius, height) from the bottom up."""
        vertices = [
            (r * math.cos(a), r * math.sin(a), z)
            for r, z in profile
            for a in np.linspace(0, 2 * math.pi, around, endpoint=False)
        ]
        faces = [
            (k * around + i, k * around + (i + 1) % around, (k + 1) * around + (i + 1) % around, (k + 1) * around + i)
            for k in range(len(profile) - 1)
            for i in range(around)
        ]
        faces.append(tuple(range((len(profile) - 1) * around, len(profile) * around)))
        item = self.mesh(name, vertices, faces, material, smooth=True)
        item.location = (place[0], place[1], 0)
        edges = item.modifiers.new("Edges", "EDGE_SPLIT")
        edges.split_angle = math.radians(35)
        return item

    def column(self, place: Sequence[float], unit: float, material: bpy.types.Material) -> None:
        profile = [
            (0.15, 0),
            (0.15, 0.1),
            (0.125, 0.11),
            (0.115, 0.18),
            (0.092, 0.2),
            (0.088, 1.6),
            (0.084, 3.4),
            (0.15, 3.6),
        ]
        self.lathe("Column", place, [(r * unit, z * unit) for r, z in profile], material)

    def planter(self, place: Sequence[float], angle: float, unit: float, box: bpy.types.Material,
                leaf: bpy.types.Material) -> None:  # fmt: skip
        size = (0.7 * unit, 0.24 * unit, 0.3 * unit)
        self.box("Planter", (place[0], place[1], size[2] / 2), size, box, turn=angle, bevel=0.02)
        for k, x in enumerate(np.linspace(-0.25, 0.25, 4)):
            spot = (place[0] + x * unit * math.cos(angle), place[1] + x * unit * math.sin(angle), size[2] - 0.02)
            self.plant(spot, 0.26 * unit, 34, leaf, seed=k)

    def pot(
        self, place: Sequence[float], unit: float, clay: bpy.types.Material, leaf: bpy.types.Material, seed: int
    ) -> None:
        profile = [(0.16, 0), (0.24, 0.4), (0.27, 0.42), (0.27, 0.5), (0.22, 0.5), (0.21, 0.44)]
        self.lathe("Pot", place, [(r * unit, z * unit) for r, z in profile], clay)
        self.plant((place[0], place[1], 0.44 * unit), 0.95 * unit, 90, leaf, seed)

    def bench(self, place: Sequence[float], unit: float, wood: bpy.types.Material, legs: bpy.types.Material) -> None:
        for k in range(4):
            where = (place[0], place[1] - (0.165 - 0.11 * k) * unit, 0.44 * unit)
            self.box("Seat", where, (1.5 * unit, 0.095 * unit, 0.045 * unit), wood)
        for x in (-0.58, 0.58):
            where = (place[0] + x * unit, place[1], 0.21 * unit)
            self.box("Leg", where, (0.12 * unit, 0.4 * unit, 0.42 * unit), legs, bevel=0.015)

    def plant(self, base: Sequence[float], height: float, leaves: int, leaf: bpy.types.Material, seed: int) -> None:
        """Arched leaves from one root, in one mesh."""
        dice = random.Random(seed)
        vertices: list[tuple[float, float, float]] = []
        faces: list[tuple[int, ...]] = []
        for _ in range(leaves):
            turn, length, lean = dice.uniform(0, 2 * math.pi), height * dice.uniform(0.6, 1.1), dice.uniform(0.25, 1.25)
            width = height * dice.uniform(0.045, 0.075)
            first = len(vertices)
            for step in range(6):
                u = step / 5
                out, up = length * 0.55 * lean * u**1.4, length * (u - 0.33 * lean * u * u)
                half = width * math.sin(math.pi * (0.12 + 0.88 * u)) ** 0.8
                for side in (-1, 1):
                    x = out * math.cos(turn) - side * half * math.sin(turn)
                    y = out * math.sin(turn) + side * half * math.cos(turn)
                    vertices.append((base[0] + x, base[1] + y, base[2] + up))
            faces += [(first + 2 * k, first + 2 * k + 1, first + 2 * k + 3, first + 2 * k + 2) for k in range(5)]
        self.mesh("Leaves", vertices, faces, leaf, smooth=True)
