# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many blocks of an ext4 each inode of the tree takes, beside its place in the inode tables.

Invariant: an upper bound: an ext4 with blocks of 4096 bytes and inodes of 256 takes no more, whatever order it is written in.
Attribute blocks that ext4 shares between inodes are counted for each, because sharing depends on the kernel's cache.
Sources: ext4 disk layout, "Directory Entries", "Hash Tree Directories", "Extended Attributes", "Extent Tree"; fs/ext4/namei.c,
do_split. Compared with the kernel in tests/unit/_image/merge/test_footprint.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..tar.xattrs import Xattrs
from .inodes import Directory, File

BLOCK_BYTES = 4096
_IN_INODE_BYTES = 92  # of attributes behind the fields of an inode of 256 bytes, the magic number left out
_ENTRY_BYTES = 16
_END_BYTES = 4  # null entry behind the last one
# The part of a name that is a number on disk (fs/ext4/xattr.c, ext4_xattr_handler_map): what is left of the name is stored.
_PREFIXES = (b"user.", b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.", b"security.", b"system.")

_FRAGMENT_BLOCKS = 512  # the allocator hands out at least so many at once while a volume has room
_ALIGNED_FROM_BYTES = 15 * BLOCK_BYTES  # smaller files are packed (fs/ext4/mballoc.c, s_mb_stream_request)
_MOST_ALIGNED_BYTES = 8 << 20
SCATTER_BLOCK_BYTES = tuple((64 << 10) << order for order in range(8))  # 64 KiB to 8 MiB
_EXTENTS_IN_INODE = 4
_EXTENTS_PER_BLOCK = 340 // 2  # half full, as after a split

_DIRENT_BYTES = 8
_LEAF_BYTES = BLOCK_BYTES - 12  # without the checksum at its end
_DOTS_BYTES = 24  # "." and ".."
_ROOT_LEAVES = 500  # one block of the index points at so many leaves
_NODE_LEAVES = 250  # half of what a block of the second level takes
_FULLEST = 0.645  # of a leaf, on average over a directory
_FILL_OF_SHORTEST = 0.545
_FILL_PER_BYTE = 0.0025  # of an entry
_DEVIATIONS = 2.5  # times the root of the number of leaves, four times its standard deviation: it depends on a random seed of each file system


class Footprint:
    """Adds up the blocks of all inodes of a tree.

    ``scattered_bytes``: what lies between files in blocks of ``SCATTER_BLOCK_BYTES``, which a thin pool gives out whole. The allocator
    aligns a file to the power of two above its size, as far as there is room.
    """

    def __init__(self) -> None:
        self.scattered_bytes = [0] * len(SCATTER_BLOCK_BYTES)
        self._blocks = 0
        self._split_leaves = 0.0  # of hashed directories

    @property
    def blocks(self) -> int:
        """What all of them take at most."""
        return self._blocks + math.ceil(self._split_leaves + _DEVIATIONS * math.sqrt(self._split_leaves))

    def add_directory(self, directory: Directory) -> None:
        """Count a directory with the names in it."""
        self._blocks += xattr_blocks(directory.xattrs)
        names = directory.children
        most_bytes = _DOTS_BYTES + (_DIRENT_BYTES + 3) * len(names) + sum(map(len, names))
        if most_bytes <= _LEAF_BYTES:
            self._blocks += 1
            return
        entries_bytes = sum(map(_entry_bytes, names))
        if _DOTS_BYTES + entries_bytes <= _LEAF_BYTES:
            self._blocks += 1
            return
        leaves = leaves_of(len(names), entries_bytes)
        self._split_leaves += leaves
        self._blocks += 1 if leaves <= _ROOT_LEAVES else 2 + math.ceil(leaves / _NODE_LEAVES)

    def add_file(self, file: File) -> None:
        """Count the content of a file, its extents and its attributes."""
        self._blocks += content_blocks(file) + xattr_blocks(file.xattrs)
        if file.size > _ALIGNED_FROM_BYTES:
            self._scatter(file)

    def _scatter(self, file: File) -> None:
        stored = file.stored_bytes
        aligned_bytes = min(_MOST_ALIGNED_BYTES, 1 << (file.size - 1).bit_length())
        for row, block_bytes in enumerate(SCATTER_BLOCK_BYTES):
            if file.ranges is None:
                self.scattered_bytes[row] += -stored % min(block_bytes, aligned_bytes)
            else:
                self.scattered_bytes[row] += max(0, (_windows(file.ranges, block_bytes) + 1) * block_bytes - stored)

    def add_link(self, target: bytes) -> None:
        """Count a symbolic link: one of up to 59 bytes is kept in its inode."""
        self._blocks += len(target) > 59


def xattr_blocks(xattrs: Xattrs) -> int:
    """1 when the attributes do not all fit into the inode, otherwise 0."""
    if not xattrs:
        return 0
    stored = sum(_ENTRY_BYTES + _padded(_stored_name_bytes(name)) + _padded(len(value)) for name, value in xattrs)
    return int(stored + _END_BYTES > _IN_INODE_BYTES)


def _stored_name_bytes(name: bytes) -> int:
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), b"")
    return len(name) - len(prefix)


def _padded(count_bytes: int) -> int:
    return count_bytes + 3 & ~3


def content_blocks(file: File) -> int:
    """The blocks of a file's content without its holes, and those of its extent tree."""
    if file.ranges is None:
        blocks, runs = -(-file.size // BLOCK_BYTES), 1
    else:
        blocks, runs = _sparse_blocks(file.ranges)
    return blocks + _tree_blocks(runs + blocks // _FRAGMENT_BLOCKS)


def _sparse_blocks(ranges: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(blocks, runs of adjacent blocks) that ``ranges`` of bytes (offset, length), in ascending order, touch."""
    blocks = runs = 0
    behind = -1  # the first block after those counted
    for offset, length in ranges:
        if not length:
            continue
        first, end = offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)
        runs += first > behind
        first = max(first, behind)
        blocks += max(0, end - first)
        behind = max(behind, end)
    return blocks, runs


def _windows(ranges: Sequence[tuple[int, int]], block_bytes: int) -> int:
    """How many blocks of ``block_bytes`` of a sparse file hold something."""
    count, behind = 0, 0
    for offset, length in ranges:
        end = -(-(offset + length) // block_bytes)
        count += max(0, end - max(behind, offset // block_bytes)) if length else 0
        behind = max(behind, end)
    return count


def _tree_blocks(extents: int) -> int:
    """The blocks of an extent tree beyond the four extents that the inode holds."""
    blocks = 0
    while extents > _EXTENTS_IN_INODE:
        extents = -(-extents // _EXTENTS_PER_BLOCK)
        blocks += extents
    return blocks


def leaves_of(count: int, entries_bytes: int) -> float:
    """At most how many leaves a hashed directory of ``count`` entries has on average.

    A leaf that overflows is split into halves. Leaves of short names, all of which overflow at about the same time, are less full after
    such a wave than leaves of long ones; the factors bound what a simulation of do_split with random hashes gives.
    """
    fill = min(_FULLEST, _FILL_OF_SHORTEST + _FILL_PER_BYTE * entries_bytes / count)
    return max(2.0, entries_bytes / (_LEAF_BYTES * fill))


def _entry_bytes(name: bytes) -> int:
    return _padded(_DIRENT_BYTES + len(name))
