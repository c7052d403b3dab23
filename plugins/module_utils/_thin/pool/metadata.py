# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pool's metadata says of itself, read from its file or device: no program, no message to the pool, no write.

Invariant: what is returned is one committed state. The kernel never writes over what a committed superblock leads to, and writes the
superblock last; so a walk through the tree is good when the superblock was the same before and after it.
Source: the kernel's drivers/md/dm-thin-metadata.c, persistent-data/dm-btree-internal.h and dm-space-map-common.h.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import Busy, DamagedPool
from ..._host.files.durable import file_errors
from ..._names import printable
from ..dm.table import METADATA_BLOCK_BYTES
from .health import REPAIR

# struct thin_disk_superblock: csum, flags, blocknr, uuid, magic, version, time, trans_id, held_root; then the roots of the two
# space maps, data and metadata, 128 bytes each, which begin with the numbers of blocks, all and used; then data_mapping_root, device_details_root,
# data_block_size in sectors. (metadata_nr_blocks behind it stays what it was at first when the metadata grows.)
_HEAD = struct.Struct("<IIQ16sQIIQQ")
_BLOCKS = struct.Struct("<QQ")
_TAIL = struct.Struct("<QQI")
_SPACE_MAP_ROOT_BYTES = 128
_MAGIC, _MAGIC_AT, _MAGIC_END = 27022010, 32, 40
_NEEDS_CHECK = 1
# struct node_header: csum, flags, blocknr, nr_entries, max_entries, value_size, padding; then the keys, then the values
_NODE = struct.Struct("<IIQIIII")
_INTERNAL, _LEAF = 1, 2
_DETAILS = struct.Struct(
    "<QQ8x"
)  # struct disk_device_details: mapped_blocks, transaction_id, creation_time, snapshotted_time
_ATTEMPTS = 50


class Superblock(NamedTuple):
    """The last committed state of a pool; its data counted in blocks of ``block_sectors``, its metadata in blocks of 4 KiB."""

    transaction_id: int
    needs_check: bool
    block_sectors: int
    data_blocks: int
    metadata_blocks: int
    metadata_used_blocks: int
    details_root: int
    raw: bytes


class _Torn(Exception):
    """Invalid B-tree node: rewritten while it was read, or damaged."""


def has_superblock(path: str) -> bool:
    """Whether the metadata of a thin pool begins here. Its checksum is the kernel's business."""
    return _is_superblock(first_block(path))


def first_block(path: str) -> bytes:
    """The first 4 KiB, fewer from a shorter file."""
    with _open(path) as fd:
        return _block(fd, 0)


def read_superblock(path: str) -> Superblock:
    """What the superblock says; raises ``DamagedPool`` when there is none."""
    with _open(path) as fd:
        return _parse(_block(fd, 0), path)


class VolumeDetails(NamedTuple):
    """What the pool records of a volume (struct disk_device_details): its blocks, and the pool's transaction at which it was made."""

    mapped_blocks: int
    transaction_id: int


def read_thin_ids(path: str) -> frozenset[int]:
    """The thin ids that the pool has, of a pool that is up as well.

    Raises ``DamagedPool`` for metadata that cannot be read, ``Busy`` when the pool changes faster than it is read.
    """
    return frozenset(read_details(path))


def read_details(path: str) -> dict[int, VolumeDetails]:
    """By thin id, what the pool records of each volume. Raises as ``read_thin_ids`` does."""
    with _open(path) as fd:
        for _attempt in range(_ATTEMPTS):
            before = _parse(_block(fd, 0), path)
            found, torn = _walked(fd, before)
            if _block(fd, 0) != before.raw:
                continue
            if torn:
                raise DamagedPool(f"the metadata at {printable(path)} is damaged: {torn}", hint=REPAIR)
            return found
    raise Busy(f"the pool at {printable(path)} changes faster than it can be read", hint="run again when it is at rest")


def _walked(fd: int, start: Superblock) -> tuple[dict[int, VolumeDetails], str]:
    try:
        entries = _entries(fd, start.details_root, start.metadata_blocks, set())
        return {thin_id: VolumeDetails(*_DETAILS.unpack(value)) for thin_id, value in entries}, ""
    except (_Torn, struct.error) as error:
        return {}, str(error)


def _entries(fd: int, number: int, blocks: int, seen: set[int]) -> Iterator[tuple[int, bytes]]:
    """The keys of the B-tree below block ``number``, each with its value."""
    if number in seen or not 0 < number < blocks:
        raise _Torn(f"block {number} cannot be a node")
    seen.add(number)
    block = _block(fd, number)
    if len(block) < METADATA_BLOCK_BYTES:
        raise _Torn(f"block {number} is behind the end")
    _csum, flags, blocknr, entries, most, value_bytes, _padding = _NODE.unpack_from(block)
    if blocknr != number or flags not in (_INTERNAL, _LEAF) or entries > most:
        raise _Torn(f"block {number} is no node")
    if _NODE.size + most * (8 + value_bytes) > METADATA_BLOCK_BYTES or (flags == _INTERNAL and value_bytes != 8):
        raise _Torn(f"node {number} has impossible entries")
    if flags == _LEAF:
        keys, values = struct.unpack_from(f"<{entries}Q", block, _NODE.size), _NODE.size + 8 * most
        for place, key in enumerate(keys):
            begin = values + place * value_bytes
            yield key, block[begin : begin + value_bytes]
        return
    for child in struct.unpack_from(f"<{entries}Q", block, _NODE.size + 8 * most):
        yield from _entries(fd, child, blocks, seen)


def _is_superblock(block: bytes) -> bool:
    return len(block) >= _MAGIC_END and bool(struct.unpack_from("<Q", block, _MAGIC_AT)[0] == _MAGIC)


def _parse(block: bytes, path: str) -> Superblock:
    if not _is_superblock(block) or len(block) < METADATA_BLOCK_BYTES:
        raise DamagedPool(f"{printable(path)} does not hold the metadata of a thin pool", hint=REPAIR)
    _csum, flags, _blocknr, _uuid, _magic, _version, _time, transaction_id, _held = _HEAD.unpack_from(block)
    tail = _TAIL.unpack_from(block, _HEAD.size + 2 * _SPACE_MAP_ROOT_BYTES)
    _mapping_root, details_root, block_sectors = tail
    metadata_blocks, metadata_used_blocks = _BLOCKS.unpack_from(block, _HEAD.size + _SPACE_MAP_ROOT_BYTES)
    return Superblock(
        transaction_id=transaction_id,
        needs_check=bool(flags & _NEEDS_CHECK),
        block_sectors=block_sectors,
        data_blocks=_BLOCKS.unpack_from(block, _HEAD.size)[0],
        metadata_blocks=metadata_blocks,
        metadata_used_blocks=metadata_used_blocks,
        details_root=details_root,
        raw=block,
    )


@contextlib.contextmanager
def _open(path: str) -> Iterator[int]:
    """The descriptor; of a device past the page cache, which the pool's own writes do not go through."""
    with file_errors("reading the pool's metadata"):
        is_device = stat.S_ISBLK(os.stat(path).st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if is_device else 0))
        try:
            yield fd
        finally:
            os.close(fd)


def _block(fd: int, number: int) -> bytes:
    with mmap.mmap(-1, METADATA_BLOCK_BYTES) as aligned:  # O_DIRECT wants it so
        length = os.preadv(fd, [aligned], number * METADATA_BLOCK_BYTES)
        return aligned[:length]
