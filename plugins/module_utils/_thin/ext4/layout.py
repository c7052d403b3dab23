# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocks that an ext4 takes for itself, as mke2fs lays them out with the features of ``filesystem.make_ext4``.

Invariant: for every size and number of inodes, ``Layout`` has the groups, inode tables and copies of the superblock that mke2fs
makes; ``lay_out`` returns None where mke2fs refuses.
Sources: ext4 disk layout, "Block Groups", "Sparse Super", "Meta Block Groups"; mke2fs(8); compared with mke2fs in
tests/unit/_thin/ext4/test_ext4_layout.py.
"""

from __future__ import annotations

from typing import NamedTuple

BLOCK_BYTES = 4096
INODE_BYTES = 256
_BITS = 8 * BLOCK_BYTES  # of a bitmap: so many blocks, and so many inodes, has a group at most
_DESCRIPTORS_PER_BLOCK = BLOCK_BYTES // 64  # 64bit
_POINTERS_PER_BLOCK = BLOCK_BYTES // 4
_INODES_PER_BLOCK = BLOCK_BYTES // INODE_BYTES
_MAX_GROWTH = 1024  # descriptors are reserved for so many times the size
_SMALLEST_LAST_GROUP = 50  # blocks beyond its own; a smaller last group is left out
_SMALLEST_GROUP = 256
_FIRST_INODES = 11
_FEW_BLOCKS = 8  # the resize inode, lost+found, and the journal's extents


class Layout(NamedTuple):
    """A file system of ``blocks`` (what is behind the last group is left out), in ``groups`` of ``group_blocks``."""

    blocks: int
    groups: int
    group_blocks: int
    table_blocks: int  # of one group
    copies: int  # of the superblock and the descriptors, the first among them
    descriptor_blocks: int
    reserved_blocks: int  # for descriptors of later groups, with each copy

    @property
    def group_inodes(self) -> int:
        """The inodes of one group, all that its table has room for."""
        return self.table_blocks * _INODES_PER_BLOCK

    @property
    def own_blocks(self) -> int:
        """What is taken before the first file is made, without the journal."""
        copy = 1 + self.descriptor_blocks + self.reserved_blocks
        return self.groups * (2 + self.table_blocks) + self.copies * copy + _FEW_BLOCKS

    @property
    def withheld_blocks(self) -> int:
        """What the kernel keeps back from files for its own needs (fs/ext4/super.c, ext4_set_resv_clusters)."""
        return min(self.blocks // 50, 4096)

    @property
    def written_blocks(self) -> int:
        """What mke2fs writes of ``own_blocks``: the backups of reserved descriptors are only set aside."""
        return self.own_blocks - (self.copies - 1) * self.reserved_blocks


def lay_out(blocks: int, inodes: int) -> Layout | None:
    """The layout of a file system for ``inodes`` on a device of ``blocks``; None when it is too small for them."""
    inodes = max(inodes, _FIRST_INODES)
    device_blocks, group_blocks = blocks, _BITS
    while blocks > 0:
        groups = -(-blocks // group_blocks)
        if -(-inodes // groups) > _BITS:  # more inodes than one bitmap has: smaller groups, so that there are more
            blocks, group_blocks = device_blocks, group_blocks - 8
            if group_blocks < _SMALLEST_GROUP:
                return None
            continue
        table_blocks = -(-inodes // (groups * _INODES_PER_BLOCK))
        descriptor_blocks = -(-groups // _DESCRIPTORS_PER_BLOCK)
        reserved_blocks = _reserved_blocks(blocks, group_blocks, descriptor_blocks)
        with_copy = 2 + table_blocks + 1 + descriptor_blocks + reserved_blocks
        overhead = with_copy if _has_copy(groups - 1) else 2 + table_blocks
        rest = blocks % group_blocks
        if with_copy > group_blocks or (groups == 1 and 0 < rest < overhead):
            return None
        if not 0 < rest < overhead + _SMALLEST_LAST_GROUP:
            copies = sum(map(_has_copy, range(groups)))
            return Layout(blocks, groups, group_blocks, table_blocks, copies, descriptor_blocks, reserved_blocks)
        blocks -= rest
    return None


def _reserved_blocks(blocks: int, group_blocks: int, descriptor_blocks: int) -> int:
    most_blocks = min(blocks * _MAX_GROWTH, (1 << 32) - 1)
    groups = -(-most_blocks // group_blocks)
    return min(-(-groups // _DESCRIPTORS_PER_BLOCK) - descriptor_blocks, _POINTERS_PER_BLOCK)


def _has_copy(group: int) -> bool:
    """sparse_super: groups 0 and 1, and the powers of 3, 5 and 7."""
    return group < 2 or any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
