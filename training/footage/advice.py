# SPDX-License-Identifier: GPL-3.0-or-later
"""What in the footage will hurt the avatar, why, and what to film again; each with the threshold that it crossed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .bones import body_height
from .check import film_heights
from .quality import MOVES, SECTORS, ranges_of_motion
from .survey import Survey

Array = npt.NDArray[np.float64]

#: A side of the body is not covered when it faces the camera in fewer pictures than both of these.
FEW_SHARE, FEW_PICTURES = 0.03, 12
#: Below it (pixels of the film) faces and cloth have too few pixels.
SMALL = 350.0
#: A picture is blurred when its fine detail is under this share of its camera's usual; so many of them are too many.
BLURRED, MANY_BLURRED = 0.6, 0.12
#: How far the person's brightness may wander within a camera, and differ between cameras (0..1 of display range).
DRIFT, UNLIKE = 0.06, 0.1
#: Share of the person that may be burnt out.
BLOWN = 0.04
#: Median reprojection error as a share of the person's height in the film: 8 px for somebody 800 px tall.
ASTRAY = 0.01
#: From which share of that height on a frame's joints are swapped or somebody else's; how many such frames are many.
FAR_OFF, MANY_FAR_OFF = 0.05, 0.05
#: Spread (half the distance between the 16th and 84th percentile) of a bone's length.
BONE_SPREAD = 0.02
#: Shares of pictures: with hands and face found, with somebody found at all, cut off by the frame.
HANDS, FACE, FOUND, CUT_OFF = 0.5, 0.3, 0.9, 0.1
#: Pictures to train on below which an avatar learns by heart.
FEW_ROWS = 150
#: Degrees that a joint should move through.
STIFF = 45.0
#: Film pixels to a stored pixel beyond which storing loses much.
SHRUNK = 1.6


@dataclass(frozen=True)
class Advice:
    """One thing to mend. kind: the same of whatever is alike in several cameras. camera: which one it speaks of, '' for
    none in particular. serious: mend it before training. why: what was measured, against which limit."""

    kind: str
    camera: str
    serious: bool
    title: str
    why: str
    remedy: str


def _merged(given: list[Advice]) -> list[Advice]:
    """What is said of several cameras alike becomes one piece of advice, in the words for the worst or first."""
    groups: dict[str, list[Advice]] = {}
    for item in given:
        groups.setdefault(item.kind, []).append(item)
    out = []
    for items in groups.values():
        worst = next((item for item in items if item.serious), items[0])
        others = [item.camera for item in items if item is not worst]
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        out.append(replace(worst, title=f"{worst.title} ({shown} alike)") if others else worst)
    return sorted(out, key=lambda a: not a.serious)


def advice(survey: Survey) -> list[Advice]:
    """All advice, the serious first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # means and medians of cameras that saw nobody
        given = [
            *_coverage(survey), *_amount(survey), *_size(survey), *_blur(survey), *_light(survey), *_fit(survey),
            *_parts(survey), *_framing(survey), *_motion(survey),
        ]  # fmt: skip
    return _merged(given)


def trained(survey: Survey) -> npt.NDArray[np.bool_]:
    """(T, C) pictures that training may use."""
    rows = np.array([s == "train" for s in survey.dataset.split]) & survey.dataset.usable
    cameras = np.isin(np.arange(survey.stored.shape[1]), survey.dataset.train_cameras)
    return np.asarray(survey.stored & rows[:, None] & cameras)


def gaps(survey: Survey) -> list[str]:
    """Names of the sides that hardly any training picture shows."""
    counted = trained(survey)
    shares, total = survey.directions.shares(counted), int(counted.sum())
    return [SECTORS[i] for i in range(8) if shares[i] < FEW_SHARE or shares[i] * total < FEW_PICTURES]


def _coverage(survey: Survey) -> list[Advice]:
    missing = gaps(survey)
    if not missing:
        return []
    sides = [name for name in missing if " " not in name or name.endswith("side")]
    named = sides or missing
    turn = "Let the person turn around slowly, all the way, in each kind of pose"
    if len(survey.dataset.cameras) > 1:
        turn += ", or put a camera there"
    return [Advice(
        "sides", "", len(missing) >= 3,
        f"Hardly anything is seen of the {_join(named)}",
        f"Under {FEW_SHARE:.0%} of the training pictures (or fewer than {FEW_PICTURES}) show the body from the "
        f"{_join(missing)}; the avatar has to guess what it looks like from there.", f"{turn}.",
    )]  # fmt: skip


def _amount(survey: Survey) -> list[Advice]:
    out = []
    count = int(trained(survey).sum())
    if count < FEW_ROWS:
        out.append(Advice(
            "few", "", count < FEW_ROWS // 3,
            f"Only {count} pictures to train on",
            f"With fewer than about {FEW_ROWS} an avatar learns its pictures by heart and looks wrong in other poses.",
            "Film for a minute or more, in many poses; leave out fewer frames (--every).",
        ))  # fmt: skip
    data = survey.dataset
    for c, name in enumerate(data.camera_names):
        share = float(survey.expected[:, c].mean())
        if share < FOUND:
            out.append(Advice(
                "lost", name, share < 0.5,
                f"{name} lost the person in {1 - share:.0%} of the frames",
                f"In these frames nobody was found, or not the whole trunk in 3D; they are not trained on. Up to "
                f"{1 - FOUND:.0%} is normal.",
                "Keep the whole person in the picture, before a calm background, with nothing in between.",
            ))  # fmt: skip
    return out


def _size(survey: Survey) -> list[Advice]:
    out = []
    for name, height, scale in zip(survey.dataset.camera_names, film_heights(survey), survey.scale, strict=True):
        if height < SMALL:
            out.append(Advice(
                "small", name, height < SMALL / 2,
                f"{name}: the person is only {height:.0f} pixels tall",
                f"Below {SMALL:.0f} px there is no detail in face, hands and cloth for the textures to learn.",
                "Film upright (portrait), closer, or at a higher resolution.",
            ))  # fmt: skip
        if scale > SHRUNK:
            out.append(Advice(
                "shrunk", name, False,
                f"{name}: stored at {1 / scale:.0%} of the film's resolution",
                f"The film holds {scale:.1f} pixels for each stored one; from {SHRUNK} on fine detail is lost.",
                f"Make the dataset again with --crop {_nice(survey.dataset.cameras[0].width * scale)} if you have the "
                "disk and the memory.",
            ))  # fmt: skip
    return out


def blurred(survey: Survey) -> npt.NDArray[np.bool_]:
    """(T, C) pictures that are less sharp than their camera's usual."""
    sharp = survey.figure("sharpness")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(sharp < BLURRED * np.nanmedian(sharp, 0))


def _blur(survey: Survey) -> list[Advice]:
    out = []
    for c, name in enumerate(survey.dataset.camera_names):
        share = float(blurred(survey)[:, c].sum() / max(survey.stored[:, c].sum(), 1))
        if share > MANY_BLURRED:
            out.append(Advice(
                "blurred", name, share > 3 * MANY_BLURRED,
                f"{name}: {share:.0%} of the pictures are blurred",
                f"Their fine detail is under {BLURRED:.0%} of this camera's usual; over {MANY_BLURRED:.0%} of such "
                "pictures soften the textures.",
                "Shorten the exposure (1/250 s or less) with more light, lock the focus, or move more slowly.",
            ))  # fmt: skip
    return out


def _light(survey: Survey) -> list[Advice]:
    out, names = [], survey.dataset.camera_names
    bright = survey.figure("brightness")
    for c, name in enumerate(names):
        low, high = np.nanpercentile(bright[:, c], (5, 95)) if np.isfinite(bright[:, c]).any() else (0, 0)
        if (high - low) / 2 > DRIFT:
            out.append(Advice(
                "exposure", name, (high - low) / 2 > 2 * DRIFT,
                f"{name}: the exposure wanders",
                f"The person's brightness changes by ±{(high - low) / 2:.0%} of the display range; over {DRIFT:.0%} it "
                "is painted into the textures as if it were cloth.",
                "Lock exposure and white balance (AE/AF lock on a phone); avoid lamps that flicker and walking through "
                "shadows.",
            ))  # fmt: skip
        blown = float(np.nanmean(survey.figure("blown")[:, c]))
        if blown > BLOWN:
            out.append(Advice(
                "burnt", name, False,
                f"{name}: {blown:.0%} of the person is burnt out",
                f"White skin and cloth carry no detail; over {BLOWN:.0%} shows.", "Expose darker, use soft light.",
            ))  # fmt: skip
    level = np.nanmedian(bright, 0)
    if len(names) > 1 and np.nanmax(level) - np.nanmin(level) > UNLIKE:
        light, dark = names[int(np.nanargmax(level))], names[int(np.nanargmin(level))]
        out.append(Advice(
            "unlike", "", False,
            f"{light} sees the person brighter than {dark}",
            f"Their middle brightness differs by {np.nanmax(level) - np.nanmin(level):.0%} of the display range; over "
            f"{UNLIKE:.0%} sides of the body come out in different tones.",
            "Give all cameras the same exposure and white balance; light the person evenly.",
        ))  # fmt: skip
    return out


def _fit(survey: Survey) -> list[Advice]:
    out = []
    if survey.making is not None:
        heights = film_heights(survey)
        for c, name in enumerate(survey.dataset.camera_names):
            errors = survey.making.reprojection[:, c, :25]
            wrong = float(np.mean(np.nanmedian(errors, 1) > FAR_OFF * heights[c]))
            if wrong > MANY_FAR_OFF:
                out.append(Advice(
                    "swapped", name, wrong > 0.4,
                    f"{name}: in {wrong:.0%} of the frames left was taken for right, or somebody else for "
                    "the person",
                    f"There, its joints lie over {FAR_OFF:.0%} of the person's height from the 3D pose; up to "
                    f"{MANY_FAR_OFF:.0%} is normal. Other cameras outvoted it: look at the pictures below.",
                    "Nobody else in view, an even light, less motion blur; the front of the body towards this camera.",
                ))  # fmt: skip
            error = float(np.nanmedian(errors))
            if error > ASTRAY * heights[c]:
                out.append(Advice(
                    "astray", name, error > 2 * ASTRAY * heights[c],
                    f"{name}: joints lie {error:.0f} px from where they were found",
                    f"That is {error / heights[c]:.1%} of the person's height in the film; over {ASTRAY:.0%} pictures "
                    "of different moments and cameras do not fit onto each other.",
                    "Calibrate again with the same zoom and focus, keep the cameras still, and let them start together "
                    "(clap once in view of all)." if len(heights) > 1 else
                    "Keep the camera still; tell the lens with --focal or a --calibration.",
                ))  # fmt: skip
    lengths = survey.lengths[survey.dataset.usable]
    spread = (np.nanpercentile(lengths, 84, 0) - np.nanpercentile(lengths, 16, 0)) / 2
    worst = float(np.nanmax(spread)) if np.isfinite(spread).any() else 0.0
    if worst > BONE_SPREAD:
        out.append(Advice(
            "bones", "", worst > 2 * BONE_SPREAD,
            f"Bones change their length by ±{worst * 100:.1f} cm",
            f"Real bones do not; over {BONE_SPREAD * 100:.0f} cm the 3D poses are uncertain.",
            "More cameras from other sides, tight clothes, and less motion blur help the pose model.",
        ))  # fmt: skip
    return out


def _parts(survey: Survey) -> list[Advice]:
    if survey.making is None:
        return []
    out = []
    seen = survey.expected[..., None] & np.isfinite(survey.making.detected)
    share = [
        float((survey.making.detected[..., i][seen[..., i]] > 0).mean()) if seen[..., i].any() else 0.0
        for i in range(3)
    ]
    for what, value, limit in (("hands", share[1], HANDS), ("face", share[2], FACE)):
        if value < limit:
            out.append(Advice(
                what, "", False,
                f"The {what} {'were' if what == 'hands' else 'was'} found in only {value:.0%} of the pictures",
                f"Below {limit:.0%} the avatar's {what} will hardly come alive.",
                "Film closer for a part of the time, hands open and away from the body, the face to the camera.",
            ))  # fmt: skip
    return out


def _framing(survey: Survey) -> list[Advice]:
    out = []
    inside = survey.inside
    for c, name in enumerate(survey.dataset.camera_names):
        cut = float(np.nanmean(survey.figure("touches")[:, c]))
        if cut > CUT_OFF:
            out.append(Advice(
                "cut", name, cut > 0.5,
                f"{name}: the person is cut off by the frame in {cut:.0%} of the pictures",
                f"What is outside the film cannot be learnt; over {CUT_OFF:.0%} is much.",
                "Step back, or turn the camera upright, until feet and raised hands stay in the picture.",
            ))  # fmt: skip
        share = float(np.nanmean(inside[:, c] < 0.85))
        if share > 0.15:
            out.append(Advice(
                "masks", name, share > 0.5,
                f"{name}: masks and skeleton disagree in {share:.0%} of the pictures",
                "There, more than 15 % of the body's joints lie outside the mask: a limb was cut away, or a pose is "
                "wrong.",
                "Film before a background of another colour than the clothes; or bring better masks with --masks.",
            ))  # fmt: skip
    return out


def _motion(survey: Survey) -> list[Advice]:
    rows = trained(survey).any(1)
    ranges = ranges_of_motion(survey.dataset.joints[rows], survey.dataset.confidence[rows])
    stiff = [i for i in range(len(MOVES)) if ranges[i] < STIFF]
    if not stiff:
        return []
    remedies = list(dict.fromkeys(MOVES[i][2] for i in stiff))
    return [Advice(
        "stiff", "", False,
        f"The {_join([MOVES[i][0] for i in stiff])} hardly move{'s' if len(stiff) == 1 else ''}",
        f"They pass through less than {STIFF:.0f}°; poses far from those filmed look wrong.",
        f"Move them through all they can do: {'; '.join(remedies)}.",
    )]  # fmt: skip


def height_sentence(survey: Survey) -> str:
    """How tall the person came out, measured as --height is applied, so that a wrong scale is noticed."""
    rows = survey.dataset.usable
    tall = body_height(survey.dataset.joints[rows], survey.dataset.confidence[rows])
    return f"By the bones' lengths the person is about {tall:.2f} m tall." if tall else ""


def _join(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _nice(pixels: float) -> int:
    return int(np.ceil(pixels / 256) * 256)
