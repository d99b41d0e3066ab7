# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside Blender as a module: what `blender -b FILE --render-output OUT --render-frame A..B` does in the program,
with the add-on of the checkout. Exit code 1 when a frame failed."""

import argparse
import sys

import bpy
import harness

parser = argparse.ArgumentParser()
parser.add_argument("-b", "-y", action="store_true")
parser.add_argument("--python-exit-code", type=int)
parser.add_argument("--python-expr", action="append", default=[])
parser.add_argument("file")
parser.add_argument("--scene")
parser.add_argument("--render-output")
parser.add_argument("--render-frame")
options = parser.parse_args()
harness.enable()
for expression in options.python_expr:
    exec(expression, {})
bpy.ops.wm.open_mainfile(filepath=options.file)
if options.scene:
    bpy.context.window.scene = bpy.data.scenes[options.scene]
scene = bpy.context.scene
if options.render_output:
    scene.render.filepath = options.render_output
failed = False
for part in options.render_frame.split(","):
    ends = part.split("..")
    scene.frame_start, scene.frame_end = int(ends[0]), int(ends[-1])
    try:
        failed |= bpy.ops.render.render(animation=True) != {"FINISHED"}
    except RuntimeError as error:
        print(error, file=sys.stderr)
        failed = True
sys.exit(int(failed))
