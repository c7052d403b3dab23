# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large a volume for an image is, and what it takes of its pool.

Invariant: both are upper bounds: what the tree was counted to take fits, and leaves the free space that was asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..._errors import BadInput
from .layout import BLOCK_BYTES, lay_out

MIB = 1 << 20
_MIN_FREE_BYTES = 64 * MIB
_DEFAULT_FREE_BYTES = 1 << 30
_FREE_PERCENT = 25
_LEAST_FREE_BYTES = 8 * MIB  # what the allocator needs to work well, whatever was asked for
_SMALLEST_BYTES = 32 * MIB  # mke2fs wants the journal to be at most half of it
_MIN_ROOM_INODES = 4096
_GROUP_BYTES = 128 * MIB
_FLEXIBLE_GROUP = 16  # groups whose tables stand together
_PLACES = 4  # in each of them: both ends of the tables, the directories, the journal
_MOST_PROCESSORS = 16  # each packs small files in a place of its own


def inodes_with_room(inodes: int) -> int:
    """How many inodes a file system for ``inodes`` of an image gets: a quarter more, and at least 4096 more."""
    return inodes + max(_MIN_ROOM_INODES, inodes * _FREE_PERCENT // 100)


def journal_bytes_for(volume_bytes: int) -> int:
    """The journal's size: 8 MiB up to a volume of 2 GiB, 32 MiB up to 8 GiB, 64 MiB above."""
    if volume_bytes <= 2 << 30:
        return 8 * MIB
    return 32 * MIB if volume_bytes <= 8 << 30 else 64 * MIB


def default_free_bytes(tree_blocks: int) -> int:
    """What a guest finds free when nothing else is asked for: a quarter of the image, and at least 1 GiB, which a thin volume takes as it is used."""
    return max(_DEFAULT_FREE_BYTES, tree_blocks * BLOCK_BYTES * _FREE_PERCENT // 100)


def volume_bytes_for(tree_blocks: int, inodes: int, *, free_bytes: int | None = None, round_to_bytes: int = MIB) -> int:
    """The size of a volume whose ext4 holds an image and leaves ``free_bytes``; None: a quarter of it, at least 64 MiB.

    ``tree_blocks`` are the blocks of 4096 bytes that contents, directories, long links and attributes take; ``inodes`` counts
    everything in the tree. The result is a multiple of ``round_to_bytes``. Raises ``BadInput`` when no ext4 is large enough.
    """
    tree_bytes = tree_blocks * BLOCK_BYTES
    if free_bytes is None:
        free_bytes = max(_MIN_FREE_BYTES, tree_bytes * _FREE_PERCENT // 100)
    wanted_bytes = tree_bytes + max(_LEAST_FREE_BYTES, free_bytes)
    size_bytes = _rounded(max(_SMALLEST_BYTES, wanted_bytes), round_to_bytes)
    while size_bytes <= sys.maxsize:
        missing_bytes = wanted_bytes - room_bytes_in(size_bytes, inodes)
        if missing_bytes <= 0:
            return size_bytes
        size_bytes = _rounded(size_bytes + missing_bytes, round_to_bytes)
    raise BadInput("no ext4 has room for this image", hint="give a smaller size, or leave it out")


def room_bytes_in(volume_bytes: int, inodes: int) -> int:
    """What a tree of ``inodes`` may take of a volume; less than nothing when its own tables do not fit."""
    layout = lay_out(volume_bytes // BLOCK_BYTES, inodes_with_room(inodes))
    journal_blocks = journal_bytes_for(volume_bytes) // BLOCK_BYTES
    if layout is None:  # no file system that small has so many inodes: nearer to what their tables take alone
        return -max(MIB, volume_bytes // 64)
    return (layout.blocks - layout.own_blocks - layout.withheld_blocks - journal_blocks) * BLOCK_BYTES


def grown_bytes_for(old_bytes: int, new_bytes: int, inodes: int, block_bytes: int) -> int:
    """What a file system for ``inodes`` of an image takes of a thin pool at most when it grows: the tables of further groups."""
    layout = lay_out(old_bytes // BLOCK_BYTES, inodes_with_room(inodes))
    if layout is None:
        return new_bytes
    groups = -(-new_bytes // (layout.group_blocks * BLOCK_BYTES)) - layout.groups
    copy_blocks = 1 + layout.descriptor_blocks + layout.reserved_blocks
    own_bytes = max(1, groups) * (2 + layout.table_blocks + copy_blocks) * BLOCK_BYTES
    places = layout.copies + 2 + groups // _FLEXIBLE_GROUP * 2 + groups.bit_length()
    return min(new_bytes, own_bytes + places * block_bytes)


def inodes_when_grown(old_bytes: int, inodes: int, new_bytes: int) -> int:
    """How many inodes a file system for ``inodes`` in all has at least once it has grown: a further group has as many as the others."""
    layout = lay_out(old_bytes // BLOCK_BYTES, inodes)
    if layout is None or new_bytes <= old_bytes:
        return inodes
    whole_groups = new_bytes // (layout.group_blocks * BLOCK_BYTES)  # a last one that is short may be left out
    return max(inodes, whole_groups * layout.group_inodes)


def bytes_with_inodes(old_bytes: int, inodes: int, wanted_inodes: int) -> int:
    """How large it must grow to have ``wanted_inodes``; 0 when that is not known."""
    layout = lay_out(old_bytes // BLOCK_BYTES, inodes)
    if layout is None:
        return 0
    return -(-wanted_inodes // layout.group_inodes) * layout.group_blocks * BLOCK_BYTES


def _rounded(count_bytes: int, unit_bytes: int) -> int:
    return -(-count_bytes // unit_bytes) * unit_bytes


def written_bytes_for(
    tree_blocks: int,
    inodes: int,
    volume_bytes: int,
    block_bytes: int = 64 << 10,
    scattered_bytes: Sequence[int] = (),
) -> int:
    """What making and filling the file system takes of a thin pool with blocks of ``block_bytes``, at most.

    The pool gives out whole blocks, and ext4 puts what it writes in many places: its own tables, the copies of the superblock, the journal,
    the first free block of each group. ``scattered_bytes`` is what lies between files in pools with blocks of 64 KiB, 128 KiB and so on;
    for other sizes of blocks all of the volume is assumed.
    """
    layout = lay_out(volume_bytes // BLOCK_BYTES, inodes_with_room(inodes))
    row = block_bytes // (64 << 10)
    if layout is None or row & (row - 1) or row.bit_length() > max(1, len(scattered_bytes)):
        return volume_bytes
    between_bytes = scattered_bytes[row.bit_length() - 1] if scattered_bytes else 0
    flexible_groups = -(-layout.groups // _FLEXIBLE_GROUP)
    tree_groups = min(layout.groups, -(-(tree_blocks * BLOCK_BYTES + between_bytes) // _GROUP_BYTES) + 1)
    places = layout.copies + tree_groups + flexible_groups * (_PLACES + min(_MOST_PROCESSORS, os.cpu_count() or 1))
    own_bytes = layout.written_blocks * BLOCK_BYTES + journal_bytes_for(volume_bytes)
    return min(volume_bytes, tree_blocks * BLOCK_BYTES + between_bytes + own_bytes + places * block_bytes)
