# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The B-trees of a pool's metadata, node by node, read from its file or device.

Invariant: a node is used only when its header is valid: its number, its kind, its sizes. The caller verifies with the superblock
(metadata.py) that it still belongs to the tree. Source: the kernel's drivers/md/persistent-data/dm-btree-internal.h.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..._host.files.durable import file_errors
from ..dm.table import METADATA_BLOCK_BYTES

# struct node_header: csum, flags, blocknr, nr_entries, max_entries, value_size, padding; then the keys, then the values
_NODE = struct.Struct("<IIQIIII")
_INTERNAL, _LEAF = 1, 2
_NUMBER_BYTES = 8


class TornNode(Exception):
    """Invalid node: rewritten while it was read, or damaged."""


class Node(NamedTuple):
    """A node: its keys, and as many values of ``value_bytes`` each; those of an inner one are the blocks of its children."""

    is_leaf: bool
    keys: tuple[int, ...]
    values: bytes
    value_bytes: int

    def numbers(self) -> tuple[int, ...]:
        """The values as numbers; raises ``TornNode`` when they are something else."""
        if self.value_bytes != _NUMBER_BYTES:
            raise TornNode(f"a node has values of {self.value_bytes} bytes, which are no numbers")
        return struct.unpack(f"<{len(self.keys)}Q", self.values)


def entries_below(fd: int, root: int, blocks: int, *, value_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The keys of the tree at block ``root``, which shares no nodes, each with its value; the metadata has so many ``blocks``."""
    seen: set[int] = set()
    left = [root]
    while left:
        number = left.pop()
        if number in seen:
            raise TornNode(f"block {number} cannot be a node")
        seen.add(number)
        node = read_node(fd, number, blocks)
        if not node.is_leaf:
            left += reversed(node.numbers())
        elif node.value_bytes != value_bytes:
            raise TornNode(f"node {number} has values of {node.value_bytes} bytes, not {value_bytes}")
        else:
            for place, key in enumerate(node.keys):
                yield key, node.values[place * value_bytes : (place + 1) * value_bytes]


def read_node(fd: int, number: int, blocks: int) -> Node:
    """The node at block ``number``; raises ``TornNode`` for what cannot be one."""
    if not 0 < number < blocks:
        raise TornNode(f"block {number} cannot be a node")
    block = read_block(fd, number)
    if len(block) < METADATA_BLOCK_BYTES:
        raise TornNode(f"block {number} is behind the end")
    _csum, flags, blocknr, entries, most, value_bytes, _padding = _NODE.unpack_from(block)
    if blocknr != number or flags not in (_INTERNAL, _LEAF) or entries > most:
        raise TornNode(f"block {number} is no node")
    if _NODE.size + most * (_NUMBER_BYTES + value_bytes) > METADATA_BLOCK_BYTES:
        raise TornNode(f"node {number} has impossible entries")
    keys = struct.unpack_from(f"<{entries}Q", block, _NODE.size)
    values_at = _NODE.size + _NUMBER_BYTES * most
    return Node(flags == _LEAF, keys, block[values_at : values_at + entries * value_bytes], value_bytes)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """The descriptor; of a device past the page cache, which the pool's own writes do not go through."""
    with file_errors("reading the pool's metadata"):
        is_device = stat.S_ISBLK(os.stat(path).st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if is_device else 0))
        try:
            yield fd
        finally:
            os.close(fd)


def read_block(fd: int, number: int) -> bytes:
    """The 4 KiB at that place, fewer at the end."""
    with mmap.mmap(-1, METADATA_BLOCK_BYTES) as aligned:  # O_DIRECT wants it so
        length = os.preadv(fd, [aligned], number * METADATA_BLOCK_BYTES)
        return aligned[:length]
