# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What turns the tree of an earlier base into that of a plan, once it is known which content is the same.

Invariant: applied to exactly the tree that the manifest describes, it gives exactly the tree of the plan. A file whose attributes cannot be
changed in place without losing some of them (capabilities, access control lists) is written again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from ..limits import Deadline
from ..merge.inodes import File, Inode
from ..merge.plan import HardLink, Plan
from ..tar.access import Access
from .manifest import Manifest, Rows
from .matching import NONE, Matching, Name, names_of


class Kept(NamedTuple):
    """A leaf that stays with other attributes: its row in the plan, one of its names, and whether more than its time changes."""

    row: int
    directory: int
    name: bytes
    is_more_than_time: bool


class Difference(NamedTuple):
    """Rows of the plan, unless said otherwise.

    ``gone_names`` are (directory of the earlier tree, name), ``gone_directories`` rows of the earlier tree. ``touched`` are the kept
    directories in which names change, ``changed`` those whose own attributes do.
    """

    new_directories: list[int]
    written: list[int]
    kept: list[Kept]
    links: list[HardLink]
    gone_names: list[Name]
    gone_directories: list[int]
    touched: set[int]
    changed: set[int]


def difference(
    old: Manifest, plan: Plan, matching: Matching, differing: Collection[int], deadline: Deadline
) -> Difference:
    """What is to be done; ``differing`` are those of ``matching.unsure`` whose content is not the same."""
    return _Differing(old, plan, matching, frozenset(differing), deadline).found()


class _Differing:
    def __init__(
        self, old: Manifest, plan: Plan, matching: Matching, differing: frozenset[int], deadline: Deadline
    ) -> None:
        self._old = old
        self._plan = plan
        self._matching = matching
        self._differing = differing
        self._deadline = deadline
        self._names = names_of(old)
        self._staying: set[Name] = set()  # names of the earlier tree
        self._accesses = {access: number for number, access in enumerate(old.accesses)}
        self._there = {row: new for new, row in enumerate(matching.directories) if row != NONE}
        self._made = Difference([], [], [], [], [], [], set(), set())

    def found(self) -> Difference:
        self._compare_directories()
        for row in range(len(self._plan.leaves)):
            self._deadline.spend()
            self._compare_leaf(row)
        self._find_gone()
        return self._made

    def _compare_directories(self) -> None:
        directories = self._plan.directories
        for row, there in enumerate(self._matching.directories):
            if there == NONE:
                self._made.new_directories.append(row)
                self._touch(directories.parents[row])
            elif not self._same_attributes(self._old.directories, there, directories.inodes[row]):
                self._made.changed.add(row)

    def _compare_leaf(self, row: int) -> None:
        leaves = self._plan.leaves
        there = self._matching.leaves[row]
        names = [(leaves.parents[row], leaves.names[row]), *self._matching.further_names.get(row, ())]
        if there == NONE or row in self._differing or not self._may_stay(leaves.inodes[row], there):
            self._made.written.append(row)
            self._touch(leaves.parents[row])
            self._link(names[1:], names[0])
            return
        staying = list(self._of_leaf(names, there))
        self._staying.update((self._matching.directories[directory], name) for directory, name in staying)
        if not self._same_attributes(self._old.leaves, there, leaves.inodes[row]):
            is_more = not self._same_access(self._old.leaves, there, leaves.inodes[row])
            self._made.kept.append(Kept(row, *staying[0], is_more))
        self._link([name for name in names if name not in staying], staying[0])

    def _of_leaf(self, names: list[Name], there: int) -> Iterator[Name]:
        """Those of ``names`` that the earlier tree has for its leaf ``there``."""
        for directory, name in names:
            parent = self._matching.directories[directory]
            if parent != NONE and self._names.get((parent, name), NONE) == there:
                yield directory, name

    def _may_stay(self, inode: Inode, there: int) -> bool:
        """Whether its attributes are right or can be made so in place: a new owner takes capabilities away, a new mode changes a list."""
        was = self._old.leaves.xattrs.get(there, ())
        if was != inode.xattrs:
            return False
        return not was or not isinstance(inode, File) or self._same_access(self._old.leaves, there, inode)

    def _same_access(self, rows: Rows, there: int, inode: Inode) -> bool:
        return rows.accesses[there] == self._number_of(inode.access)

    def _same_attributes(self, rows: Rows, there: int, inode: Inode) -> bool:
        return (
            rows.accesses[there] == self._number_of(inode.access)
            and rows.mtime_ns(there) == inode.mtime_ns
            and rows.xattrs.get(there, ()) == inode.xattrs
        )

    def _number_of(self, access: Access) -> int:
        return self._accesses.get(access, NONE)

    def _link(self, names: list[Name], first: Name) -> None:
        for directory, name in names:
            self._made.links.append(HardLink(directory, name, *first))
            self._touch(directory)

    def _touch(self, directory: int) -> None:
        if self._matching.directories[directory] != NONE:
            self._made.touched.add(directory)

    def _find_gone(self) -> None:
        made, parents = self._made, self._old.directories.parents
        for name in self._names:
            if name not in self._staying:
                made.gone_names.append(name)
                self._touch_old(name[0])
        for row in range(1, len(self._old.directories)):
            if row not in self._there:
                made.gone_directories.append(row)
                self._touch_old(parents[row])

    def _touch_old(self, directory: int) -> None:
        """Touch the directory of the plan that is the earlier tree's ``directory``, if it stays."""
        if directory in self._there:
            self._made.touched.add(self._there[directory])
