# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing some of many, evenly over all of them and over their cameras."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def spread(items: Sequence[T], most: int, group: Callable[[T], Hashable]) -> list[T]:
    """At most ``most`` of the items, in their order: of each group (a camera, say) its share, spread over the group.

    Views lie by row and then by camera, so that every n-th of all would be of one camera where the cameras divide n.
    The groups' choices are set off against each other, so that together they see more rows.
    """
    if len(items) <= most:
        return list(items)
    groups: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(group(item), []).append(i)
    chosen: list[int] = []
    passed = 0
    for number, own in enumerate(groups.values()):
        # Shares of whole items that add up to ``most``.
        share = (passed + len(own)) * most // len(items) - passed * most // len(items)
        phase = (number + 0.5) / len(groups)
        chosen += [own[int((k + phase) * len(own) / share)] for k in range(share)]
        passed += len(own)
    return [items[i] for i in sorted(chosen)]
