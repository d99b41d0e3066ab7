# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked in a study: two results either side of the truth, in an order that nobody sees."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...neural_backend.interface.messages import BackendError
from ..dataset import Dataset, View
from ..files import write_text
from ..spread import spread

#: Files of a study's folder: the page for those who vote, and the key that they must not see.
PAGE, KEY = "study.html", "key.json"
_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One question. id: told on the page and in votes; left, right: names of results; view: the frame (the first, where
    it moves); quadrant: '' where that was not asked."""

    id: str
    left: str
    right: str
    row: int
    camera: str
    quadrant: str = ""


@dataclass(frozen=True)
class Study:
    """The key to a page: names of the results with their files, and the trials in the page's order."""

    results: dict[str, str]
    dataset: str
    seed: int
    trials: tuple[Trial, ...]

    def pairs(self) -> list[tuple[str, str]]:
        """Every two results that are compared, in the order of their names' list."""
        return list(itertools.combinations(self.results, 2))


def make_trials(
    results: Sequence[str],
    places: Sequence[tuple[View, str]],
    dataset: Dataset,
    most: int,
    seed: int,
    subject: bytes = b"",
) -> tuple[Trial, ...]:
    """Every pair of results at ``most`` places at most, spread evenly over them; each result is on the left in half of
    a pair's trials. Order and sides are drawn from the seed.

    places: views and their quadrant. subject: what is compared. The trials' ids say nothing, and are others in every
    study: votes of one must never count in another, nor a browser take one for the other.
    """
    rng = np.random.default_rng(seed)
    chosen = spread(places, most, lambda place: (place[1], place[0].camera))
    asked = []
    for first, second in itertools.combinations(results, 2):
        swaps = rng.permutation(np.arange(len(chosen)) % 2)
        for (view, quadrant), swap in zip(chosen, swaps, strict=True):
            left, right = (second, first) if swap else (first, second)
            asked.append((left, right, view, quadrant))
    told = repr((subject, dataset.path.resolve().name, seed, asked)).encode()
    ids = [hashlib.sha256(told + b"%d" % i).hexdigest()[:12] for i in range(len(asked))]
    order = rng.permutation(len(asked))
    return tuple(
        Trial(ids[i], asked[k][0], asked[k][1], asked[k][2].row, dataset.camera_names[asked[k][2].camera], asked[k][3])
        for i, k in enumerate(order)
    )


def write_key(folder: Path, study: Study) -> None:
    """Write the key beside the page. Raises OSError."""
    plain = {"version": _VERSION, **asdict(study)}
    write_text(folder / KEY, json.dumps(plain, indent=1) + "\n")


def read_key(folder: Path) -> Study:
    """Read what write_key wrote. Raises BackendError 'study-key' with a sentence."""
    path = folder / KEY
    try:
        plain: Any = json.loads(path.read_text("utf-8"))
        if plain["version"] != _VERSION:
            raise ValueError(f"its version is {plain['version']}")
        results = {str(k): str(v) for k, v in plain["results"].items()}
        trials = tuple(
            Trial(str(t["id"]), str(t["left"]), str(t["right"]), int(t["row"]), str(t["camera"]), str(t["quadrant"]))
            for t in plain["trials"]
        )
        if not all({t.left, t.right} <= results.keys() for t in trials):
            raise ValueError("a trial names an unknown result")
        return Study(results, str(plain["dataset"]), int(plain["seed"]), trials)
    except OSError as error:
        raise BackendError(
            "study-key", f"{folder} holds no {KEY}; give the folder that `neural-avatar compare` made."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackendError("study-key", f"{path} is damaged; make the study again.", str(error)) from error
