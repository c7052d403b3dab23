# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which inodes of an earlier tree hold what a new plan wants, as far as names, layers and sizes tell.

Invariant: content is called the same only when it stood in a layer of the same digest at the same place, or when there is none. Same size
and same time are no proof: such files are to be compared. One inode of the earlier tree serves one of the new at most, so that
two files never become one.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from ..extent import Extent
from ..limits import Deadline
from ..merge.inodes import File, Inode, Special, Symlink
from ..merge.plan import Plan
from .manifest import FILE, Manifest

NONE = -1
Name = tuple[int, bytes]  # the row of a directory, and a name in it


class Matching(NamedTuple):
    """Rows of the earlier tree by rows of the plan, or ``NONE``: ``directories`` by path, ``leaves`` by content.

    ``further_names`` are those of leaves that have several, by row of the plan; ``unsure`` are the rows of leaves whose content must be
    compared.
    """

    directories: array[int]
    leaves: array[int]
    further_names: dict[int, list[Name]]
    unsure: list[int]


def match(old: Manifest, plan: Plan, identities: Mapping[Extent, str], deadline: Deadline) -> Matching:
    """Match ``plan`` with the tree ``old``."""
    directories = _directories(old, plan)
    further = _further_names(plan)
    content = _Content(old, identities)
    names = names_of(old)
    leaves = array("i", [NONE]) * len(plan.leaves)
    unsure: list[int] = []
    used = bytearray(len(old.leaves))
    columns = zip(plan.leaves.parents, plan.leaves.names, plan.leaves.inodes)
    for row, (parent, name, inode) in enumerate(columns):
        deadline.spend()
        for directory, each in ((parent, name), *further.get(row, ())):
            there = directories[directory]
            found = NONE if there == NONE else names.get((there, each), NONE)
            if found == NONE or used[found] or not content.may_be_same(inode, found):
                continue
            used[found] = 1
            leaves[row] = found
            if not content.is_same(inode, found):
                unsure.append(row)
            break
    return Matching(directories, leaves, further, unsure)


def names_of(old: Manifest) -> dict[Name, int]:
    """The leaf of each name of the earlier tree."""
    found = dict(zip(zip(old.leaves.parents, old.leaves.names), range(len(old.leaves))))
    found.update(zip(zip(old.link_parents, old.link_names), old.link_leaves))
    return found


def _directories(old: Manifest, plan: Plan) -> array[int]:
    there = dict(zip(zip(old.directories.parents, old.directories.names), range(len(old.directories))))
    found = array("i", [NONE]) * len(plan.directories)
    found[0] = 0
    for row in range(1, len(plan.directories)):
        parent = found[plan.directories.parents[row]]
        if parent != NONE:
            found[row] = there.get((parent, plan.directories.names[row]), NONE)
    return found


def _further_names(plan: Plan) -> dict[int, list[Name]]:
    if not plan.hard_links:
        return {}
    by_first: dict[Name, list[Name]] = {}
    for link in plan.hard_links:
        by_first.setdefault((link.first_directory, link.first_name), []).append((link.directory, link.name))
    rows = enumerate(zip(plan.leaves.parents, plan.leaves.names))
    return {row: by_first[name] for row, name in rows if name in by_first}


class _Content:
    """Compares what a plan wants with leaves of an earlier tree."""

    def __init__(self, old: Manifest, identities: Mapping[Extent, str]) -> None:
        self._old = old.leaves
        numbers = {identity: number for number, identity in enumerate(old.layers) if identity}
        self._layers = {extent: numbers.get(identity, NONE) for extent, identity in identities.items()}

    def may_be_same(self, inode: Inode, row: int) -> bool:
        """Whether the leaf ``row`` is of the same kind and size, or of the same target."""
        old = self._old
        if isinstance(inode, File):
            return old.kinds[row] == FILE and old.sizes[row] == inode.size and old.ranges.get(row) == inode.ranges
        if isinstance(inode, Symlink):
            return old.targets.get(row) == inode.target
        return isinstance(inode, Special) and old.targets.get(row) == (inode.file_type, inode.device)

    def is_same(self, inode: Inode, row: int) -> bool:
        """Whether the content of one that may be the same needs no comparison."""
        if not isinstance(inode, File) or not inode.stored_bytes:
            return True
        old = self._old
        return self._layers.get(inode.source, NONE) == old.layers[row] and old.offsets[row] == inode.offset
