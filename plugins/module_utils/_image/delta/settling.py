# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare new files with those of the same names in the layers that an earlier base was made of, as far as these are at hand.

Two archives are read from front to back, where reading the files of the base would be one open file and one place on the disk after another.

Invariant: a file is called the same only when all of its bytes were read on both sides, at the place in the earlier layer that the manifest names.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._errors import Untrusted
from ..extent import Extent
from ..limits import Deadline
from ..merge.inodes import File
from ..merge.plan import Plan
from .manifest import Manifest
from .matching import NONE, Matching

_WINDOW_BYTES = 1 << 20
_NEAR_BYTES = 64 << 10


def settled(
    plan: Plan, old: Manifest, matching: Matching, layers: Mapping[str, Extent], deadline: Deadline
) -> Matching:
    """``matching`` with those ``unsure`` leaves alone that are in none of ``layers``, by identity; one that differs matches nothing."""
    places = [layers.get(identity) if identity else None for identity in old.layers]
    if not any(places):
        return matching
    comparing = _Comparing(plan, old, matching, places, deadline)
    try:
        same = {row: comparing.is_same(row) for row in matching.unsure}
    except Untrusted:
        # An archive was cut meanwhile: the new one is verified later, and nothing of the earlier one is needed.
        return matching
    for row, is_same in same.items():
        if is_same is False:
            matching.leaves[row] = NONE
    return matching._replace(unsure=[row for row, is_same in same.items() if is_same is None])


class _Comparing:
    def __init__(
        self, plan: Plan, old: Manifest, matching: Matching, places: list[Extent | None], deadline: Deadline
    ) -> None:
        self._inodes = plan.leaves.inodes
        self._old = old.leaves
        self._there = matching.leaves
        self._theirs = [place and _Window(place) for place in places]
        self._ours: dict[Extent, _Window] = {}
        self._deadline = deadline

    def is_same(self, row: int) -> bool | None:
        """Whether the leaf ``row`` of the plan has the content of the leaf that it matches; None when that is not at hand."""
        inode, there = self._inodes[row], self._there[row]
        theirs = self._theirs[self._old.layers[there]]
        if theirs is None or not isinstance(inode, File) or inode.source.fd < 0:
            return None
        ours = self._ours.get(inode.source)
        if ours is None:
            ours = self._ours[inode.source] = _Window(inode.source)
        at, old_at, left = inode.offset, self._old.offsets[there], inode.stored_bytes
        while left:
            self._deadline.spend()
            count = min(left, _WINDOW_BYTES)
            piece = ours.read(at, count)
            if len(piece) < count or piece != theirs.read(old_at, count):
                return False
            at, old_at, left = at + count, old_at + count, left - count
        return True


class _Window:
    """Reads a layer many files at a time where they are asked for in their order, else one by one."""

    def __init__(self, layer: Extent) -> None:
        self._layer = layer
        self._begin = 0
        self._data = b""

    def read(self, at: int, count: int) -> bytes:
        """The ``count`` bytes from ``at`` on, fewer at the end of the layer."""
        first = at - self._begin
        if first < 0 or first + count > len(self._data):
            is_near = 0 <= first < len(self._data) + _NEAR_BYTES
            self._data = self._layer.read(at, max(count, _WINDOW_BYTES if is_near else 0))
            self._begin, first = at, 0
        return self._data[first : first + count]
