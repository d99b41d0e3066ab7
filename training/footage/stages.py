# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a run up to joints in space, each from the working folder's files to the next ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...neural_backend.interface.messages import BackendError
from ...neural_backend.interface.skeleton import FACE, JOINT_COUNT, LEFT_HAND
from . import calibrate
from .films import Film
from .keep import save_reconstruction
from .manifest import Manifest
from .masks import MaskOptions, make_masks
from .monocular import MonocularOptions, reconstruct_single
from .multiview import MultiviewOptions, reconstruct
from .placed import place_motion, project_motion
from .pose import PoseOptions, detect
from .progress import Voice
from .readers.people import Film as PoseFilm
from .readers.poses import read_poses
from .records import Detections, Motion, Reconstruction

if TYPE_CHECKING:
    from .pipeline import FootageOptions

#: Confidence from which on a joint counts as found.
FOUND = 0.5
#: The joints of body, hands and face.
PARTS = (slice(0, LEFT_HAND), slice(LEFT_HAND, FACE), slice(FACE, JOINT_COUNT))


@dataclass
class State:
    """What the stages of a run share."""

    options: FootageOptions
    manifest: Manifest
    films: list[Film]
    voice: Voice
    _detections: list[Detections] = field(default_factory=list)
    _placed: Reconstruction | None = None

    def detections(self) -> list[Detections]:
        """2D poses of every film: those that were given, else the pose model's, from the working folder."""
        if not self._detections:
            given = self.options.poses is not None
            self._detections = self._given() if given else [self._find(film) for film in self.films]
        return self._detections

    def placed(self) -> Reconstruction | None:
        """The motion that was given in 3D, in the cameras' world; None where poses are 2D."""
        self.detections()
        return self._placed

    def folder(self, stage: str, film: Film) -> Path:
        """Where a stage keeps the files of one film."""
        folder = self.manifest.stage_folder(stage) / film.name
        folder.mkdir(exist_ok=True)
        return folder

    def _find(self, film: Film) -> Detections:
        options = PoseOptions(person=self.options.person or 1, size=self.options.pose_size)
        return detect(film.selection, self.folder("pose", film), options, self.voice.progress(f"pose {film.name}"))

    def _given(self) -> list[Detections]:
        assert self.options.poses is not None
        films = [PoseFilm(f.name, f.source.width, f.source.height, f.source.times) for f in self.films]
        found = read_poses(self.options.poses, films, self.options.person, self.options.up)
        if isinstance(found, Motion):
            self._placed = place_motion(found, self.films, self.options.up)
            return [project_motion(self._placed, film, c) for c, film in enumerate(self.films)]
        return [_chosen(d, film) for d, film in zip(found, self.films, strict=True)]


def _chosen(found: Detections, film: Film) -> Detections:
    """The poses of the frames that are used."""
    rows = film.selection.indices
    world = None if found.world is None else found.world[rows]
    return replace(found, points=found.points[rows], confidence=found.confidence[rows], world=world,
                   times=film.selection.times)  # fmt: skip


def dataset_folder(manifest: Manifest) -> Path:
    """Where the dataset grows until it is whole."""
    return manifest.stage_folder("dataset") / "dataset"


def decode(state: State) -> None:
    """The films can be read and have frames, which opening them has shown; say what was found."""
    for film in state.films:
        chosen, whole = film.selection, film.source
        state.voice.progress(f"decode {film.name}")(len(chosen), len(chosen))
        used = f", {len(chosen)} used" if len(chosen) != len(whole) else ""
        state.voice.say(
            f"{film.name}: {whole.path.name}, {whole.width}x{whole.height}, {len(whole)} frames at {whole.fps:.4g} a "
            f"second{used}."
        )
        if film.camera is not None:
            note = calibrate.fit_camera(film.camera, whole.width, whole.height)[1]
            if note:
                state.voice.say(note)
        _pass_on(state, film)


def _pass_on(state: State, film: Film) -> None:
    for warning in film.selection.warnings:
        state.voice.say(warning)


def pose(state: State) -> None:
    """2D poses of every film."""
    for film, found in zip(state.films, state.detections(), strict=True):
        _pass_on(state, film)
        if not found.found.any():
            raise BackendError(
                "footage-nobody",
                f"Nobody is in the poses of {film.name} ({found.source}); leave the film out, or give poses of it.",
            )
        body, hands, face = (float((found.confidence[:, part] > FOUND).any(1).mean()) for part in PARTS)
        state.voice.say(
            f"{film.name}: the body was found in {body:.0%} of the frames, hands in {hands:.0%}, the face in "
            f"{face:.0%}."
        )


def masks(state: State) -> None:
    """The final mask of every frame."""
    options = state.options
    for film, found in zip(state.films, state.detections(), strict=True):
        segmentation = state.folder("pose", film) if options.poses is None else None
        choice = MaskOptions(options.masks, segmentation, options.grabcut, options.deeplab, options.pose_size)
        progress = state.voice.progress(f"masks {film.name}")
        make_masks(film.selection, found, state.folder("masks", film), choice, progress)


def space(state: State) -> None:
    """Joints and cameras in the world."""
    found, options, progress = state.detections(), state.options, state.voice.progress("3D")
    placed = state.placed()
    if placed is not None:
        result = placed
        progress(1, 1)
    elif len(state.films) > 1:
        cameras = [film.camera for film in state.films if film.camera is not None]
        choice = MultiviewOptions(synchronise=options.sync, refine=options.refine, cutoff=options.cutoff, up=options.up)
        result = reconstruct(found, cameras, choice, progress)
    else:
        single = MonocularOptions(options.height, options.focal or None, options.cutoff, options.up)
        camera = state.films[0].camera
        if options.lift is not None:
            from .lift import load_lift, reconstruct_lifted

            result = reconstruct_lifted(found[0], camera, load_lift(options.lift), single, progress)
        else:
            result = reconstruct_single(found[0], camera, single, progress)
    for note in result.notes:
        state.voice.say(note)
    named = [replace(camera, name=film.name) for camera, film in zip(result.cameras, state.films, strict=True)]
    save_reconstruction(state.manifest.stage_folder("3d"), replace(result, cameras=tuple(named)))
