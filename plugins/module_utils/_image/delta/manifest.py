# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a base holds, without its bytes: every name with its attributes, and where in which layer the content of a file stood.

Invariant: a manifest describes a tree exactly as the plan did that it was made of; a directory stands before what is below it, and row 0
is the root. What is not in it (inode numbers, the order of directories) a fresh tree does not promise either.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Union

from ..extent import Extent
from ..merge.inodes import File, Inode, Special, Symlink
from ..merge.plan import Places, Plan
from ..tar.access import Access
from ..tar.sparse import Ranges
from ..tar.xattrs import Xattrs
from .layer_index import LayerIndex

FILE, SYMLINK, SPECIAL = range(3)
_NS_PER_SECOND = 1_000_000_000

Target = Union[bytes, "tuple[int, int]"]  # of a symbolic link; file type and device number of a special file


class Rows:
    """The columns that directories and leaves share. Times are split, as nanoseconds after 2262 do not fit 64 bits."""

    def __init__(self) -> None:
        self.parents = array("I")
        self.names: list[bytes] = []
        self.accesses = array("I")  # positions in Manifest.accesses
        self.seconds = array("q")
        self.nanoseconds = array("I")
        self.xattrs: dict[int, Xattrs] = {}

    def __len__(self) -> int:
        return len(self.names)

    def places(self) -> Places:
        """The same as places without inodes: enough to find a directory by its row."""
        return Places(self.parents, self.names)

    def add(self, parent: int, name: bytes, access: int, inode: Inode) -> int:
        """Append a row; returns its number."""
        row = len(self.names)
        self.parents.append(parent)
        self.names.append(name)
        self.accesses.append(access)
        seconds, nanoseconds = divmod(inode.mtime_ns, _NS_PER_SECOND)
        self.seconds.append(seconds)
        self.nanoseconds.append(nanoseconds)
        if inode.xattrs:
            self.xattrs[row] = inode.xattrs
        return row

    def mtime_ns(self, row: int) -> int:
        """The time of modification in nanoseconds since the epoch."""
        return self.seconds[row] * _NS_PER_SECOND + self.nanoseconds[row]


class Leaves(Rows):
    """Everything that is no directory. A file's content stood in the layer ``layers[row]`` from ``offsets[row]`` on."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds = array("B")
        self.sizes = array("Q")
        self.layers = array("I")  # positions in Manifest.layers
        self.offsets = array("Q")
        self.targets: dict[int, Target] = {}
        self.ranges: dict[int, Ranges] = {}


class Manifest:
    """The tree of a base. ``layers`` are the identities of the layers, each empty when nothing vouches for its bytes.

    ``indexes`` are those of the image's layers that have one, by identity.
    """

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.accesses: list[Access] = []
        self.directories = Rows()
        self.leaves = Leaves()
        self.link_parents = array("I")
        self.link_names: list[bytes] = []
        self.link_leaves = array("I")  # rows of leaves of which these are further names
        self.indexes: dict[str, LayerIndex] = {}

    @property
    def inodes(self) -> int:
        """How many inodes the tree has, the root among them."""
        return len(self.directories) + len(self.leaves)


class _Numbers(dict[Access, int]):
    """Gives each new access the next number."""

    def __missing__(self, access: Access) -> int:
        self[access] = len(self)
        return self[access]


def manifest_of(plan: Plan, identities: Mapping[Extent, str]) -> Manifest:
    """The manifest of a tree written by ``plan``; ``identities`` of the layers that it is written from."""
    made = Manifest()
    accesses = _Numbers()
    for parent, name, inode in zip(plan.directories.parents, plan.directories.names, plan.directories.inodes):
        made.directories.add(parent, name, accesses[inode.access], inode)
    layers: dict[Extent, int] = {}
    firsts = {(link.first_directory, link.first_name): -1 for link in plan.hard_links}
    for parent, name, inode in zip(plan.leaves.parents, plan.leaves.names, plan.leaves.inodes):
        row = made.leaves.add(parent, name, accesses[inode.access], inode)
        _add_content(made.leaves, row, inode, layers)
        if firsts and (parent, name) in firsts:
            firsts[parent, name] = row
    for link in plan.hard_links:
        made.link_parents.append(link.directory)
        made.link_names.append(link.name)
        made.link_leaves.append(firsts[link.first_directory, link.first_name])
    made.accesses = list(accesses)
    made.layers = [identities.get(source, "") for source in layers]
    return made


def _add_content(leaves: Leaves, row: int, inode: Inode, layers: dict[Extent, int]) -> None:
    if isinstance(inode, File):
        leaves.kinds.append(FILE)
        leaves.sizes.append(inode.size)
        leaves.layers.append(layers.setdefault(inode.source, len(layers)))
        leaves.offsets.append(inode.offset)
        if inode.ranges is not None:
            leaves.ranges[row] = inode.ranges
        return
    leaves.kinds.append(SYMLINK if isinstance(inode, Symlink) else SPECIAL)
    for column in (leaves.sizes, leaves.layers, leaves.offsets):
        column.append(0)
    if isinstance(inode, Symlink):
        leaves.targets[row] = inode.target
    elif isinstance(inode, Special):
        leaves.targets[row] = (inode.file_type, inode.device)
