# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures inside a page: two under a slider, differences, and the atlas of textures.

Without a script the two pictures lie side by side; a few lines of our own lay them over each other.
"""

from __future__ import annotations

import base64
from html import escape

import cv2
import numpy as np
import numpy.typing as npt

from ..metrics import over, person_box

Image = npt.NDArray[np.uint8]

#: Space around the person's box, as a share of its longer side.
_AROUND = 0.06
#: Differences are shown this many times larger.
GAIN = 4
#: The atlas is not shown wider than this.
_ATLAS_WIDTH = 1600
_LOSSLESS = 101  # of OpenCV's WebP qualities, the one that loses nothing

SLIDER_STYLE = (
    ".frames{display:grid;grid-template-columns:repeat(auto-fill,minmax(340px,1fr));gap:22px}"
    ".trio{display:grid;grid-template-columns:2fr 1fr;gap:4px;align-items:start}.trio img{width:100%;display:block}"
    ".slider{position:relative;display:grid;grid-template-columns:1fr 1fr;gap:4px}.slider input{display:none}"
    ".slider img{width:100%;display:block}.wide .slider{min-width:600px}"
    ".js .trio{grid-template-columns:1fr 1fr}.js .slider{grid-template-columns:1fr;overflow:hidden}"
    ".js .slider>*{grid-area:1/1}.js .slider .over{clip-path:inset(0 0 0 var(--x,50%))}"
    ".js .slider input{display:block;position:relative;z-index:2;width:100%;height:100%;margin:0;opacity:0;"
    "cursor:ew-resize}.js .slider::after{content:'';position:absolute;top:0;bottom:0;left:var(--x,50%);width:2px;"
    "background:#e11d48;pointer-events:none}.js .slider:focus-within{outline:2px solid #1769aa}"
)
SLIDER_SCRIPT = (
    "<script>document.documentElement.className='js';document.addEventListener('input',e=>{"
    "const s=e.target.closest('.slider');if(s)s.style.setProperty('--x',e.target.value+'%')})</script>"
)


def embed(picture: npt.ArrayLike, lossless: bool = True) -> str:
    """A data address of a picture (H, W, 3) RGB, float in 0..1 or uint8."""
    pixels = np.asarray(picture)
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    quality = [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS if lossless else 90]
    done, data = cv2.imencode(".webp", np.ascontiguousarray(pixels[..., ::-1]), quality)
    if not done:
        raise ValueError(f"a picture of shape {pixels.shape} cannot be encoded")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def slider(under: str, over_: str, names: tuple[str, str]) -> str:
    """Two pictures (data addresses) under a slider: the first to its left, the second to its right."""
    left, right = map(escape, names)
    return (
        f'<div class="slider"><img alt="{left}" src="{under}"><img class="over" alt="{right}" src="{over_}">'
        f'<input type="range" min="0" max="100" value="50" step="0.5" aria-label="{left} to the left, {right} to the '
        'right"></div>'
    )


def around_person(truth: npt.NDArray[np.float32]) -> tuple[slice, slice]:
    """The part of a frame (H, W, 4) that shows its person with some space around; all of it where there is none."""
    alpha = truth[..., 3]
    box = person_box(alpha)
    if box is None:
        return slice(0, alpha.shape[0]), slice(0, alpha.shape[1])
    longer = max(part.stop - part.start for part in box)
    return person_box(alpha, 4 + round(_AROUND * longer)) or box


def frame_figure(truth: npt.NDArray[np.float32], render: npt.NDArray[np.float32], caption: str) -> str:
    """Film and render (H, W, 4) under a slider, and their difference, cut to the person, over white."""
    part = around_person(truth)
    film, image = over(truth[part], 1.0), over(render[part], 1.0)
    difference = 1 - np.clip(np.abs(image - film) * GAIN, 0, 1)
    return (
        f'<figure><div class="trio">{slider(embed(film), embed(image), ("film", "render"))}'
        f'<img alt="difference" src="{embed(difference)}"></div><figcaption>{escape(caption)}</figcaption></figure>'
    )


def atlas_figure(before: Image | None, after: Image) -> str:
    """The atlas before and after training under a slider, or the latter alone."""
    pictures = [embed(_narrow(picture), False) for picture in (before, after) if picture is not None]
    if len(pictures) == 1:
        return f'<figure><img alt="textures after training" style="width:100%" src="{pictures[0]}"></figure>'
    names = ("textures before training", "textures after training")
    return f'<figure class="wide">{slider(pictures[0], pictures[1], names)}</figure>'


def _narrow(picture: Image) -> Image:
    width = picture.shape[1]
    if width <= _ATLAS_WIDTH:
        return picture
    size = (_ATLAS_WIDTH, round(picture.shape[0] * _ATLAS_WIDTH / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
