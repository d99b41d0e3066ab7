# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo inside Blender: install the extension, make the scene, render. Started by `python3 dev.py demo`.

It goes a user's way: add the person, build a set around it, "Create Shadow Proxy", "Set Up Compositing", render.

Reads one JSON object from its command line and writes one with its timings; Blender's own chatter goes to a log.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector

sys.path.insert(0, str(Path(__file__).resolve().parent))
import compositor
import layout
import rig
import set as stage_set
import walk

MODULE = "bl_ext.user_default.neural_avatar"
FIRST = 1
FILM_RATE = 24


class Demo:
    """One run. Attributes named in capitals of the stages: see `run`."""

    def __init__(self, options: dict[str, Any], say: Any) -> None:
        self.frames, self.size = int(options["frames"]), int(options["size"])
        self.out, self.archive = Path(options["out"]), options["zip"]
        self.bvh = Path(options["bvh"]) if options["bvh"] else None
        self.avatar_file = options["avatar"] or ""
        self.seconds: dict[str, float] = {}
        self.say = say

    def run(self) -> dict[str, Any]:
        """All stages; returns what the caller prints."""
        for name, stage in (
            ("install the extension", self.install), ("make the scene", self.make), ("render the frames", self.render),
        ):  # fmt: skip
            started = time.monotonic()
            self.say(f"{name} …")
            stage()
            self.seconds[name] = time.monotonic() - started
        bpy.ops.preferences.addon_disable(module=MODULE)  # ends the backend, and leaves no engine behind at exit
        return {"seconds": self.seconds, "frames": self.frames, "rate": self.scene.render.fps}

    def install(self) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        bpy.ops.extensions.package_install_files(filepath=self.archive, repo="user_default", enable_on_install=True)
        if MODULE not in bpy.context.preferences.addons:
            bpy.ops.preferences.addon_enable(module=MODULE)
        self.skeleton = importlib.import_module(MODULE + ".neural_backend.interface.skeleton")
        self.body = importlib.import_module(MODULE + ".neural_backend.interface.body")
        self.addon_joints = importlib.import_module(MODULE + ".addon.joints")
        self.addon_avatars = importlib.import_module(MODULE + ".addon.avatars")
        self.addon_compositor = importlib.import_module(MODULE + ".addon.compositor")

    def make(self) -> None:
        self.scene = bpy.context.scene
        self.scene.name = "Courtyard"
        self.scene.render.fps = FILM_RATE
        armature = self._from_bvh() if self.bvh else self._walking()
        self.header = self.addon_avatars.header(self.addon_avatars.absolute_path(armature))
        joints = self._stand(armature)
        plan = layout.plan(joints[:, self.skeleton.INDEX["MidHip"]], self._height(), self.scene.render.fps)
        self._settings()
        self._add_camera(plan)
        stage_set.build_set(self.scene, plan)
        self._choose_engine()
        bpy.context.view_layer.objects.active = armature
        bpy.ops.neural_avatar.shadow_proxy()
        bpy.ops.neural_avatar.setup_compositing()
        tree = self.addon_compositor.tree_of(self.scene)
        (person,) = self.addon_compositor.marked(tree, "person")
        (self.out / "passes").mkdir(parents=True, exist_ok=True)
        compositor.write_passes(tree, person, self.out / "passes")

    def render(self) -> None:
        for frame in range(FIRST, FIRST + self.frames):
            started = time.monotonic()
            self.scene.frame_set(frame)
            self.scene.render.filepath = str(self.out / "frames" / f"frame_{frame:04d}.png")
            bpy.ops.render.render(write_still=True)
            self.say(f"  frame {frame} of {self.frames}: {time.monotonic() - started:.1f} s", over=True)

    def _walking(self) -> bpy.types.Object:
        """The avatar's own armature, walking."""
        bpy.ops.neural_avatar.add_person(filepath=self.avatar_file)
        armature = bpy.context.object
        header = self.addon_avatars.header(self.addon_avatars.absolute_path(armature))
        times = np.arange(self.frames) / FILM_RATE
        joints = walk.walk(header.rest_joints, self.skeleton.INDEX, times, heading=0.35, curvature=-0.22)
        armature.matrix_world = Matrix.Identity(4)
        rig.pose_to_joints(armature, joints, self.skeleton.INDEX, FIRST)
        return armature

    def _from_bvh(self) -> bpy.types.Object:
        """A BVH's armature, with the avatar's mapping found by the names of its bones, in the avatar's size."""
        count, seconds = rig.bvh_length(self.bvh)
        duration = (count - 1) * seconds
        # A short clip is shown at a higher frame rate rather than stretched: it stays in real time.
        rate = int(np.clip(np.ceil(self.frames / max(duration, 1e-6)), FILM_RATE, 60))
        self.scene.render.fps = rate
        self.frames = max(1, min(self.frames, int(duration * rate) + 1))
        armature = rig.import_bvh(self.scene, self.bvh, FIRST)
        if self.avatar_file:
            armature.neural_avatar.avatar_path = self.avatar_file
        else:
            bpy.ops.neural_avatar.use_bundled()
        bpy.ops.neural_avatar.detect_mapping()
        self.header = self.addon_avatars.header(self.addon_avatars.absolute_path(armature))
        joints, confidence = self._read(armature)
        scale = float(self.body.body_scale(joints[None], confidence[None], self.header.rest_joints)[0])
        armature.matrix_world = Matrix.Scale(1 / scale, 4) @ armature.matrix_world
        return armature

    def _read(self, armature: bpy.types.Object) -> Any:
        return self.addon_joints.world_joints(
            armature.evaluated_get(bpy.context.evaluated_depsgraph_get()), self.header
        )

    def _read_all(self, armature: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
        read = []
        for frame in range(FIRST, FIRST + self.frames):
            self.scene.frame_set(frame)
            read.append(self._read(armature))
        return np.stack([j for j, _ in read]).astype(np.float64), np.stack([c for _, c in read])

    def _stand(self, armature: bpy.types.Object) -> np.ndarray:
        """Bring the person onto the middle of the stage; returns the joints (T, 137, 3) there."""
        joints, _ = self._read_all(armature)
        index = self.skeleton.INDEX
        feet = [index[s + n] for s in "LR" for n in ("BigToe", "SmallToe", "Heel")]
        lowest = float(np.percentile(joints[:, feet, 2].min(1), 10))
        angle, move = layout.stand_on_floor(*(joints[:, index[n]] for n in ("MidHip", "LHip", "RHip")), lowest)
        armature.matrix_world = Matrix.Translation(move) @ Matrix.Rotation(angle, 4, "Z") @ armature.matrix_world
        return self._read_all(armature)[0]

    def _height(self) -> float:
        known = self.header.rest_joints[self.header.rest_confidence > 0]
        return float(np.ptp(known[:, 2])) * 1.06  # the crown lies above the highest joint

    def _settings(self) -> None:
        scene, render = self.scene, self.scene.render
        render.resolution_x = render.resolution_y = self.size
        render.resolution_percentage = 100
        render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
        render.dither_intensity = 0.0
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        scene.frame_start, scene.frame_end = FIRST, FIRST + self.frames - 1

    def _add_camera(self, plan: layout.Layout) -> None:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        camera.data.lens = plan.lens
        self.scene.collection.objects.link(camera)
        self.scene.camera = camera
        for k, (place, target) in enumerate(zip(plan.camera, plan.target, strict=True)):
            camera.location = place
            camera.rotation_euler = Vector(target - place).to_track_quat("-Z", "Y").to_euler()
            camera.keyframe_insert("location", frame=FIRST + k)
            camera.keyframe_insert("rotation_euler", frame=FIRST + k)

    def _choose_engine(self) -> None:
        self.scene.render.engine = "CYCLES"
        self.scene.render.use_persistent_data = True
        cycles = self.scene.cycles
        # Few samples, one bounce replaced by ambient light, a fast denoiser: about 1.5 s a frame on two cores.
        cycles.device, cycles.samples, cycles.use_adaptive_sampling, cycles.seed = "CPU", 5, False, 1
        cycles.use_denoising, cycles.denoiser = True, "OPENIMAGEDENOISE"
        cycles.denoising_quality = cycles.denoising_prefilter = "FAST"
        cycles.use_fast_gi, cycles.fast_gi_method, cycles.ao_bounces_render = True, "REPLACE", 1
        self.scene.world.light_settings.distance = 2.0
        self.scene.world.light_settings.ao_factor = 0.75


def main() -> int:
    options = json.loads(sys.argv[1])
    out = Path(options["out"])
    terminal, errors = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    log = os.open(out / "blender.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def say(text: str, over: bool = False) -> None:
        if over and terminal.isatty():
            terminal.write(f"\r{text}\033[K")
        else:
            terminal.write(text + "\n")
        terminal.flush()

    try:
        result = Demo(options, say).run()
    except Exception as error:
        traceback.print_exc()
        for addon_log in Path(os.environ["BLENDER_USER_RESOURCES"]).rglob("neural_avatar.log"):
            shutil.copyfile(addon_log, out / "neural_avatar.log")
        errors.write(f"\nThe demo failed: {error}\nMore in the logs in {out}\n")
        errors.flush()
        return 1
    Path(options["result"]).write_text(json.dumps(result), "utf-8")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
