# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawing pictures and text into a 3D view with the GPU. Nothing here may run without a window."""

from __future__ import annotations

from typing import Any

import blf
import gpu as _gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from .preview_picture import Picture
from .working_space import converted

_VERTEX = """
void main()
{
  vec2 at = mix(rect.xy, rect.zw, corner);
  place = corner;
  gl_Position = vec4(at, 0.0, 1.0);
}
"""

# Interpolated by hand: how Python's textures are filtered differs between versions of Blender. The soft edge of a
# figure has no depth of its own: it takes that of the nearest pixel which has one.
_FRAGMENT = """
vec4 color_at(ivec2 p, ivec2 size) { return texelFetch(color_map, clamp(p, ivec2(0), size - 1), 0); }
float depth_at(ivec2 p, ivec2 size) { return texelFetch(depth_map, clamp(p, ivec2(0), size - 1), 0).r; }

void main()
{
  ivec2 size = textureSize(color_map, 0);
  vec2 p = place * vec2(size) - 0.5;
  ivec2 low = ivec2(floor(p));
  vec2 share = p - vec2(low);
  vec4 color = mix(
      mix(color_at(low, size), color_at(low + ivec2(1, 0), size), share.x),
      mix(color_at(low + ivec2(0, 1), size), color_at(low + ivec2(1, 1), size), share.x),
      share.y);
  if (color.a < 0.002) {
    discard;
  }
  ivec2 middle = ivec2(place * vec2(size));
  float depth = depth_at(middle, size);
  for (int ring = 1; ring <= 4 && depth > 1e9; ring++) {
    for (int i = -1; i <= 1; i++) {
      for (int j = -1; j <= 1; j++) {
        depth = min(depth, depth_at(middle + ivec2(i, j) * ring, size));
      }
    }
  }
  depth = depth > 1e9 ? terms.w : depth;
  depth = depth * grow - back;
  float z = terms.z > 0.5 ? (terms.x * depth + terms.y) / max(depth, 1e-6) : terms.x * depth + terms.y;
  gl_FragDepth = clamp(z * 0.5 + 0.5, 0.0, 1.0);
  if (power > 0.0) {
    // What is to arrive at the display is sRGB; what brings it there may apply a power of its own before.
    vec3 linear = color.rgb / color.a;
    vec3 shown = mix(linear * 12.92, 1.055 * pow(max(linear, vec3(0.0031308)), vec3(1.0 / 2.4)) - 0.055,
                     step(vec3(0.0031308), linear));
    color.rgb = pow(clamp(shown, 0.0, 1.0), vec3(power)) * color.a;
  }
  bool inside = all(greaterThanEqual(gl_FragCoord.xy, frame.xy)) && all(lessThanEqual(gl_FragCoord.xy, frame.zw));
  out_color = inside ? color : color * outside;
}
"""

_FILL = "void main() { out_color = color; }"

#: Blender brings what is laid over its picture to the display by a power of 1 / 2.2.
OVERLAY = 2.2

#: The type stubs know no constructor of these classes.
gpu: Any = _gpu

_kept: dict[str, Any] = {}


def _shader(name: str) -> Any:
    """A shader of ours with its batch, compiled when it is first needed."""
    if name not in _kept:
        info = gpu.types.GPUShaderCreateInfo()
        info.vertex_in(0, "VEC2", "corner")
        info.push_constant("VEC4", "rect")
        if name == "picture":
            between = gpu.types.GPUStageInterfaceInfo("neural_avatar_picture")
            between.smooth("VEC2", "place")
            info.vertex_out(between)
            info.push_constant("VEC4", "terms")
            info.push_constant("FLOAT", "grow")
            info.push_constant("FLOAT", "back")
            info.push_constant("FLOAT", "outside")
            info.push_constant("FLOAT", "power")
            info.push_constant("VEC4", "frame")
            info.sampler(0, "FLOAT_2D", "color_map")
            info.sampler(1, "FLOAT_2D", "depth_map")
            if hasattr(info, "depth_write"):
                info.depth_write("ANY")
            info.vertex_source(_VERTEX)
            info.fragment_source(_FRAGMENT)
        else:
            info.push_constant("VEC4", "color")
            info.vertex_source("void main() { gl_Position = vec4(mix(rect.xy, rect.zw, corner), 0.0, 1.0); }")
            info.fragment_source(_FILL)
        info.fragment_out(0, "VEC4", "out_color")
        shader = gpu.shader.create_from_info(info)
        corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
        _kept[name] = shader, batch_for_shader(shader, "TRI_STRIP", {"corner": corners})
    return _kept[name]


class Upload:
    """A picture's textures on the GPU. Made in a drawing; to be kept as long as the picture is shown."""

    def __init__(self, picture: Picture, light: Any = None) -> None:
        """light: the matrix (3, 3) by which its light becomes the view's, None where it is that already."""
        self.picture, self.light = picture, light
        height, width = picture.depth.shape
        # Python's textures take 32-bit numbers alone, and halve them themselves.
        color = converted(picture.color.astype(np.float32), light).reshape(-1)
        self.color = gpu.types.GPUTexture(
            (width, height), format="RGBA16F", data=gpu.types.Buffer("FLOAT", color.size, color)
        )
        depth = picture.depth.reshape(-1)
        self.depth = gpu.types.GPUTexture(
            (width, height), format="R32F", data=gpu.types.Buffer("FLOAT", depth.size, depth)
        )
        known = depth[depth < 1e9]
        self.typical = float(known.mean()) if len(known) else 1.0


def picture(
    upload: Upload,
    at: tuple[float, float, float, float],
    view_size: tuple[int, int],
    terms: tuple[float, float, float] | None,
    grow: float = 1.0,
    back: float = 0.0,
    frame: tuple[float, float, float, float] | None = None,
    outside: float = 1.0,
    power: float = 0.0,
) -> None:
    """Draw a picture.

    at: (x, y, width, height) in pixels of a view of view_size. terms: of preview_view.depth_terms, to let the scene
    hide it; None to draw over everything. grow, back: what its depth is multiplied by, then lessened by.
    frame: (x0, y0, x1, y1) in pixels, outside of which ``outside`` of the picture is left; None for no such limit.
    power: 0 for a scene-linear target, 1 for one of display colours, OVERLAY for what Blender lays over its picture.
    """
    shader, batch = _shader("picture")
    gpu.state.blend_set("ALPHA_PREMULT")
    gpu.state.depth_test_set("NONE" if terms is None else "LESS_EQUAL")
    gpu.state.depth_mask_set(False)
    try:
        shader.uniform_float("rect", _rect(at, view_size))
        shader.uniform_float("terms", (*(terms or (0.0, 0.0, 0.0)), upload.typical))
        shader.uniform_float("grow", grow)
        shader.uniform_float("back", back)
        shader.uniform_float("outside", outside if frame is not None else 1.0)
        shader.uniform_float("power", power)
        shader.uniform_float("frame", frame or (0.0, 0.0, 0.0, 0.0))
        shader.uniform_sampler("color_map", upload.color)
        shader.uniform_sampler("depth_map", upload.depth)
        batch.draw(shader)
    finally:
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("NONE")


def fill(
    color: tuple[float, float, float, float], at: tuple[float, float, float, float], size: tuple[int, int]
) -> None:
    """Fill a part (x, y, width, height) of a view with one colour, premultiplied."""
    shader, batch = _shader("fill")
    gpu.state.blend_set("NONE")
    gpu.state.depth_test_set("NONE")
    shader.uniform_float("rect", _rect(at, size))
    shader.uniform_float("color", color)
    batch.draw(shader)


def text(lines: list[str], x: float, y: float, scale: float = 1.0, alert: bool = False) -> None:
    """Lines of text, the first one's baseline at (x, y) in pixels, the next ones below. For POST_PIXEL."""
    font = 0
    blf.size(font, 11 * scale)
    blf.enable(font, blf.SHADOW)
    blf.shadow(font, 3, 0, 0, 0, 0.8)
    blf.color(font, *((1.0, 0.55, 0.5, 1.0) if alert else (1.0, 1.0, 1.0, 0.9)))
    for number, line in enumerate(lines):
        blf.position(font, x, y - number * 16 * scale, 0)
        blf.draw(font, line)
    blf.disable(font, blf.SHADOW)


def _rect(at: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, width, height = at
    return 2 * x / size[0] - 1, 2 * y / size[1] - 1, 2 * (x + width) / size[0] - 1, 2 * (y + height) / size[1] - 1


def forget() -> None:
    """Give the shaders back; for when the add-on is disabled."""
    _kept.clear()
