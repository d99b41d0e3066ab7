# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting the votes of a study: how often one result was preferred to another, and how sure that is."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...neural_backend.interface.messages import BackendError
from .trials import Study

#: Columns of votes.csv. seconds: from seeing the trial to the vote.
COLUMNS = ("voter", "trial", "vote", "seconds")
#: Answers: the left or the right result is nearer to the film, or neither.
ANSWERS = ("left", "right", "equal")
#: Columns of result.csv: the votes on a pair of results in one quadrant or in all, the share of the decided ones that
#: went to the first, and its 95 % interval.
RESULT_COLUMNS = ("quadrant", "first", "second", "for_first", "for_second", "equal", "voters", "share_first", "low",
                  "high")  # fmt: skip
#: Normal quantile of a 95 % interval.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Vote:
    """One answer of one voter."""

    voter: str
    trial: str
    answer: str
    seconds: float = math.nan


@dataclass(frozen=True)
class Preference:
    """Votes on one pair of results. first, second: their names; wins: votes for each; equal: for neither; voters: how
    many people."""

    first: str
    second: str
    wins: tuple[int, int]
    equal: int
    voters: int

    @property
    def share(self) -> float:
        """Share of the decided votes that went to the first; NaN without any."""
        decided = sum(self.wins)
        return self.wins[0] / decided if decided else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``share``."""
        return wilson(self.wins[0], sum(self.wins))

    @property
    def row(self) -> tuple[str | int, ...]:
        """All of it, by RESULT_COLUMNS without the quadrant."""
        numbers = ("" if math.isnan(x) else f"{x:.4f}" for x in (self.share, *self.interval))
        return self.first, self.second, *self.wins, self.equal, self.voters, *numbers


def wilson(wins: int, count: int, z: float = _Z) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share, wins of count; (0, 1) of nothing. Holds for few votes and for shares
    near 0 and 1, where the normal approximation fails."""
    if not count:
        return 0.0, 1.0
    share, square = wins / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def parse_votes(text: str, study: Study, where: str) -> list[Vote]:
    """Votes from the text of a votes.csv; of one voter's several answers to a trial the last one counts.

    Raises BackendError 'study-votes' that names ``where`` and the line, for anything but answers to this study.
    """
    known, votes = {trial.id for trial in study.trials}, {}
    for line, row in _rows(text, where):
        trial, answer, voter = (str(row[name] or "").strip() for name in ("trial", "vote", "voter"))
        if trial not in known:
            raise BackendError("study-votes", f"{where}, line {line}: trial {trial!r} belongs to another study.")
        if answer not in ANSWERS:
            raise BackendError(
                "study-votes", f"{where}, line {line}: {answer!r} is no answer; {', '.join(ANSWERS)} are."
            )
        try:
            seconds = float(row["seconds"] or "nan")
        except ValueError:
            seconds = math.nan
        votes[voter, trial] = Vote(voter, trial, answer, seconds)
    return list(votes.values())


def _rows(text: str, where: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a table of votes and the lines where they end. Raises BackendError 'study-votes'."""
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise BackendError(
                "study-votes", f"{where} is no table of votes; its first line must be {','.join(COLUMNS)}."
            )
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise BackendError("study-votes", f"{where}, line {reader.line_num}: {error}.") from error


def read_votes(paths: Sequence[Path], study: Study) -> tuple[list[Vote], int]:
    """Votes from several files, and how many of one file were replaced by another's of the same voter. Raises
    BackendError 'study-votes'."""
    votes: dict[tuple[str, str], Vote] = {}
    count = 0
    for path in paths:
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise BackendError("study-votes", f"{path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise BackendError("study-votes", f"{path} is no table of votes: it is not UTF-8 text.") from error
        some = parse_votes(text, study, str(path))
        # People who left their name out are told apart by the file they sent.
        count += len(some)
        votes |= {(vote.voter or f"in {path}", vote.trial): vote for vote in some}
    if not votes:
        raise BackendError("study-votes", f"There is not one vote in {', '.join(map(str, paths))}.")
    named = [Vote(voter, vote.trial, vote.answer, vote.seconds) for (voter, _), vote in votes.items()]
    return named, count - len(named)


def preferences(study: Study, votes: Sequence[Vote], quadrant: str | None = None) -> list[Preference]:
    """For each pair of results with votes on it; in one quadrant's trials alone, where that is given."""
    trials = {trial.id: trial for trial in study.trials if quadrant is None or trial.quadrant == quadrant}
    out = []
    for first, second in study.pairs():
        wins, equal, voters = {first: 0, second: 0}, 0, set()
        for vote in votes:
            trial = trials.get(vote.trial)
            if trial is None or {trial.left, trial.right} != {first, second}:
                continue
            voters.add(vote.voter)
            if vote.answer == "equal":
                equal += 1
            else:
                wins[trial.left if vote.answer == "left" else trial.right] += 1
        if voters:
            out.append(Preference(first, second, (wins[first], wins[second]), equal, len(voters)))
    return out


def told(preference: Preference) -> str:
    """A preference as a sentence."""
    first, second, wins = preference.first, preference.second, preference.wins
    people = f"{preference.voters} {'voter' if preference.voters == 1 else 'voters'}"
    equal = f", {preference.equal} saw no difference" if preference.equal else ""
    if not sum(wins):
        return f"{first} against {second}: no decided vote of {people}{equal}."
    low, high = preference.interval
    verdict = (
        f"{first} is preferred" if low > 0.5 else f"{second} is preferred" if high < 0.5 else "undecided: more votes"
    )
    return (
        f"{first} against {second}: {preference.share:.1%} for {first}, 95 % interval {low:.1%} to {high:.1%} "
        f"({wins[0]} : {wins[1]}, {people}{equal}); {verdict}."
    )
