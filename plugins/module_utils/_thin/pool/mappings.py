# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which data blocks of a pool only some of its volumes have, read from its metadata without a message to the pool.

Invariant: the answer is of one committed state (metadata.py). What a guest has written since the pool's last commit, a second ago at most, is
not in it. Source: the kernel's drivers/md/dm-thin-metadata.c: the tree of mappings has by thin id a tree of its own, and that by block of the
volume ``data block << 24 | time``. Snapshots share nodes, so each is read once.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence

from .btree import TornNode, entries_below, read_node
from .metadata import Superblock, read_committed

_ROOT = struct.Struct("<Q")
_TIME_BITS = 24
# One block of the space map counts the uses of as many data blocks: 4 to a byte, in what its header of 16 bytes leaves of 4 KiB.
_DATA_BLOCKS_PER_METADATA_BLOCK = 4 * (4096 - 16)


def read_freed_blocks(path: str, groups: Sequence[Collection[int]]) -> list[int]:
    """How many data blocks the pool has back from each of ``groups`` of thin ids, when they are deleted in this order.

    A block that several groups share counts for the last of them, and one that a volume of no group has, for none. Errors as of
    ``read_committed``.
    """
    return read_committed(path, lambda fd, start: _freed(fd, start, groups))


def _freed(fd: int, start: Superblock, groups: Sequence[Collection[int]]) -> list[int]:
    seen = _Seen(fd, start)
    entries = entries_below(fd, start.mapping_root, start.metadata_blocks, value_bytes=_ROOT.size)
    roots = {thin_id: _ROOT.unpack(value)[0] for thin_id, value in entries}
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
