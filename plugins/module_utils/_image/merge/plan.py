# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What will be written: the merged tree, laid out for the writer and for the computation of the volume's size.

Invariant: every path is in the plan once; a directory stands before what is below it; a name is only ever used together with
the number of the directory it is in, so the writer has nothing to resolve.
"""

from __future__ import annotations

import enum
from array import array
from collections.abc import Iterable
from typing import NamedTuple

from ..limits import Deadline
from ..refusal import malformed
from .footprint import Footprint
from .inodes import Directory, File, Inode, Special, Symlink
from .tree import Tree


class DeviceNodes(enum.Enum):
    """What to do with the character and block devices of an image; FIFOs are no devices."""

    CREATE = "create"
    SKIP = "skip"
    REFUSE = "refuse"


class HardLink(NamedTuple):
    """One more name: (directory, name) of an inode that is written as (first_directory, first_name)."""

    directory: int
    name: bytes
    first_directory: int
    first_name: bytes


class Places:
    """Inodes and where they go: three columns, since a million rows of objects would cost more than the tree."""

    def __init__(self, parents: Iterable[int] = (), names: Iterable[bytes] = (), inodes: Iterable[Inode] = ()) -> None:
        self.parents = array("I", parents)
        self.names = list(names)
        self.inodes = list(inodes)

    def add(self, parent: int, name: bytes, inode: Inode) -> int:
        """Append a row; returns its number."""
        self.parents.append(parent)
        self.names.append(name)
        self.inodes.append(inode)
        return len(self.names) - 1

    def __len__(self) -> int:
        return len(self.names)


class Plan:
    """The merged tree.

    ``directories`` are in preorder, row 0 the root (parent 0, no name); ``leaves`` all other inodes, each once, files in the
    order of the archive. ``content_bytes`` is what files hold without their holes, ``logical_bytes`` with them.
    ``volume_blocks`` are the blocks of 4096 bytes that contents, directories, long links and attributes take on ext4 at most
    (``footprint``), without the file system's own (inode tables, journal, bitmaps); ``scattered_bytes`` what scattering
    adds to that in pools of each size of block (``footprint.SCATTER_BLOCK_BYTES``).
    """

    def __init__(self) -> None:
        self.directories = Places()
        self.leaves = Places()
        self.hard_links: list[HardLink] = []
        self.content_bytes = 0
        self.logical_bytes = 0
        self.volume_blocks = 0
        self.scattered_bytes: tuple[int, ...] = ()
        self.devices = 0
        self.skipped_devices = 0
        self.depth = 0
        self.longest_name_bytes = 0

    @property
    def inodes(self) -> int:
        """Inodes to be made, the root among them."""
        return len(self.directories) + len(self.leaves)

    @property
    def entries(self) -> int:
        """Names to be made, without the root."""
        return self.inodes + len(self.hard_links) - 1


def make_plan(tree: Tree, device_nodes: DeviceNodes, deadline: Deadline) -> Plan:
    """The plan of ``tree``; raises ``Untrusted`` when it has devices that are to be refused."""
    plan, footprint = Plan(), Footprint()
    firsts: dict[Inode, tuple[int, bytes]] = {}
    plan.directories.add(0, b"", tree.root)
    waiting = [(0, 0, tree.root)]
    while waiting:
        number, depth, directory = waiting.pop()
        deadline.spend(1 + len(directory.children))
        plan.depth = max(plan.depth, depth)
        _measure_directory(plan, directory)
        footprint.add_directory(directory)
        below = []
        for name, inode in directory.children.items():
            if isinstance(inode, Directory):
                below.append((plan.directories.add(number, name, inode), depth + 1, inode))
            elif inode in firsts:
                plan.hard_links.append(HardLink(number, name, *firsts[inode]))
            elif _is_wanted(plan, name, inode, device_nodes):
                if inode in tree.names_of:
                    firsts[inode] = (number, name)
                plan.leaves.add(number, name, inode)
                _measure_leaf(plan, footprint, inode)
        waiting += reversed(below)
    plan.volume_blocks, plan.scattered_bytes = footprint.blocks, tuple(footprint.scattered_bytes)
    _sort_leaves(plan)
    return plan


def _is_wanted(plan: Plan, name: bytes, inode: Inode, device_nodes: DeviceNodes) -> bool:
    if not isinstance(inode, Special) or not inode.is_device:
        return True
    if device_nodes is DeviceNodes.REFUSE:
        raise malformed(
            "a device, and device_nodes is refuse",
            name,
            hint="set device_nodes to skip or create if the image is meant to have devices",
        )
    if device_nodes is DeviceNodes.SKIP:
        plan.skipped_devices += 1
        return False
    plan.devices += 1
    return True


def _measure_directory(plan: Plan, directory: Directory) -> None:
    if directory.children:
        longest_here = max(map(len, directory.children))
        plan.longest_name_bytes = max(plan.longest_name_bytes, longest_here)


def _measure_leaf(plan: Plan, footprint: Footprint, inode: Inode) -> None:
    if isinstance(inode, File):
        plan.content_bytes += inode.stored_bytes
        plan.logical_bytes += inode.size
        footprint.add_file(inode)
    elif isinstance(inode, Symlink):
        footprint.add_link(inode.target)


def _sort_leaves(plan: Plan) -> None:
    """Put files into the order in which they stand in the archive, so that a cold disk reads forward."""
    leaves = plan.leaves

    def position(row: int) -> int:
        inode = leaves.inodes[row]
        # One number each: a million tuples to sort by would cost more than the tree.
        return (inode.source.fd << 60) + inode.source.offset + inode.offset if isinstance(inode, File) else -1

    order = sorted(range(len(leaves)), key=position)
    plan.leaves = Places(
        (leaves.parents[row] for row in order),
        (leaves.names[row] for row in order),
        (leaves.inodes[row] for row in order),
    )
