# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which data blocks of a pool only some of its volumes have, or several of them, read from its metadata without a message to the pool.

Invariant: the answer is of one committed state (metadata.py). What a guest has written since the pool's last commit, a second ago at most, is
not in it. Source: the kernel's drivers/md/dm-thin-metadata.c: the tree of mappings has by thin id a tree of its own, and that by block of the
volume ``data block << 24 | time``. Snapshots share nodes, so each is read once.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from .btree import Node, TornNode, entries_below, read_node
from .metadata import Superblock, read_committed

_ROOT = struct.Struct("<Q")
_TIME_BITS = 24
_SEVERAL = -1
_PATIENCE_OF_REPORT_SECONDS = 2.0
# One block of the space map counts the uses of as many data blocks: 4 to a byte, in what its header of 16 bytes leaves of 4 KiB.
_DATA_BLOCKS_PER_METADATA_BLOCK = 4 * (4096 - 16)


def read_freed_blocks(path: str, groups: Sequence[Collection[int]]) -> list[int]:
    """How many data blocks the pool has back from each of ``groups`` of thin ids, when they are deleted in this order.

    A block that several groups share counts for the last of them, and one that a volume of no group has, for none. Errors as of
    ``read_committed``.
    """
    return read_committed(path, lambda fd, start: _freed(fd, start, groups))


class Shares(NamedTuple):
    """How many data blocks a volume has alone, and how many together with another one of those that were asked for."""

    own_blocks: int
    shared_blocks: int


def read_shares(path: str, groups: Sequence[Collection[int]]) -> list[dict[int, Shares]]:
    """For each of ``groups`` of thin ids, the shares of those that the pool has; volumes outside of the group do not count.

    Nothing is read twice. Errors as of ``read_committed``, soon: a report waits.
    """
    return read_committed(
        path, lambda fd, start: _shares(fd, start, groups), patience_seconds=_PATIENCE_OF_REPORT_SECONDS
    )


def _shares(fd: int, start: Superblock, groups: Sequence[Collection[int]]) -> list[dict[int, Shares]]:
    leaves = _Leaves(fd, start)
    for thin_id, root in _roots(fd, start).items():
        if any(thin_id in group for group in groups):
            leaves.add(thin_id, root)
    return [_shares_within(leaves, group) for group in groups]


def _shares_within(leaves: _Leaves, group: Collection[int]) -> dict[int, Shares]:
    volumes = [one for one in leaves.volumes if one in group]
    found = [([one for one in users if one in group], mappings) for users, mappings in leaves.found.values()]
    used = [(users, mappings) for users, mappings in found if users]
    owners: dict[int, int] = {}  # by data block, _SEVERAL for one of several volumes
    for users, mappings in used:
        owner = users[0] if len(users) == 1 else _SEVERAL
        for mapping in mappings:
            block = mapping >> _TIME_BITS
            if owners.setdefault(block, owner) != owner:
                owners[block] = _SEVERAL
    own, shared = dict.fromkeys(volumes, 0), dict.fromkeys(volumes, 0)
    for users, mappings in used:
        several = sum(owners[mapping >> _TIME_BITS] == _SEVERAL for mapping in mappings)
        for thin_id in users:
            shared[thin_id] += several
            own[thin_id] += len(mappings) - several
    return {thin_id: Shares(own[thin_id], shared[thin_id]) for thin_id in volumes}


class _Leaves:
    """The leaf nodes of the trees of volumes: by their numbers, the volumes that have each, and its mappings."""

    def __init__(self, fd: int, start: Superblock) -> None:
        self._fd = fd
        self._metadata_blocks = start.metadata_blocks
        self._nodes: dict[int, Node] = {}
        self.volumes: list[int] = []
        self.found: dict[int, tuple[list[int], tuple[int, ...]]] = {}

    def add(self, thin_id: int, root: int) -> None:
        """Walk the tree at ``root``."""
        self.volumes.append(thin_id)
        seen: set[int] = set()
        left = [root]
        while left:
            number = left.pop()
            if number in seen:
                raise TornNode(f"node {number} is its own child")
            seen.add(number)
            if number not in self._nodes:
                self._nodes[number] = read_node(self._fd, number, self._metadata_blocks)
            node = self._nodes[number]
            if node.is_leaf:
                self.found.setdefault(number, ([], node.numbers()))[0].append(thin_id)
            else:
                left += node.numbers()


def _roots(fd: int, start: Superblock) -> dict[int, int]:
    """By thin id, the root of the tree of its mappings."""
    entries = entries_below(fd, start.mapping_root, start.metadata_blocks, value_bytes=_ROOT.size)
    return {thin_id: _ROOT.unpack(value)[0] for thin_id, value in entries}


def _freed(fd: int, start: Superblock, groups: Sequence[Collection[int]]) -> list[int]:
    seen = _Seen(fd, start)
    roots = _roots(fd, start)
    going = {thin_id for group in groups for thin_id in group}
    seen.add(root for thin_id, root in roots.items() if thin_id not in going)
    counts = [seen.add(roots[one] for one in group if one in roots) for group in reversed(groups)]
    return counts[::-1]


class _Seen:
    """The nodes and the data blocks that were come across."""

    def __init__(self, fd: int, start: Superblock) -> None:
        if start.data_blocks > start.metadata_blocks * _DATA_BLOCKS_PER_METADATA_BLOCK:
            raise TornNode(f"{start.data_blocks} blocks of data are more than the metadata can count")
        self._fd = fd
        self._metadata_blocks = start.metadata_blocks
        self._nodes: set[int] = set()
        self._data = bytearray(start.data_blocks)  # 1 for each that was seen

    def add(self, roots: Iterable[int]) -> int:
        """How many data blocks the trees at ``roots`` map that were not seen before."""
        fresh, left = 0, list(roots)
        while left:
            number = left.pop()
            if number in self._nodes:
                continue
            self._nodes.add(number)
            node = read_node(self._fd, number, self._metadata_blocks)
            if node.is_leaf:
                fresh += self._mark(node.numbers())
            else:
                left += node.numbers()
        return fresh

    def _mark(self, mappings: tuple[int, ...]) -> int:
        fresh, data = 0, self._data
        try:
            for mapping in mappings:
                block = mapping >> _TIME_BITS
                if not data[block]:
                    data[block] = 1
                    fresh += 1
        except IndexError:
            raise TornNode("a mapping leads behind the end of the data") from None
        return fresh
