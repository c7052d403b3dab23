# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a pool's metadata from its file or device, without a program, a message to the pool, or a write.

Invariant: what is returned is one committed state. The kernel never overwrites what a committed superblock references, and writes the
superblock last; so a walk through the tree is good when the superblock was the same before and after it.
Source: the kernel's drivers/md/dm-thin-metadata.c, persistent-data/dm-btree-internal.h and dm-space-map-common.h.
"""

from __future__ import annotations

import struct
import time
from typing import Callable, NamedTuple, TypeVar

from ..._errors import Busy, DamagedPool
from ..._names import printable
from ..dm.table import METADATA_BLOCK_BYTES
from .btree import TornNode, entries_below, opened, read_block
from .health import REPAIR

T = TypeVar("T")

# struct thin_disk_superblock: csum, flags, blocknr, uuid, magic, version, time, trans_id, held_root; then the roots of the two
# space maps, data and metadata, 128 bytes each, which begin with the numbers of blocks, all and used; then data_mapping_root, device_details_root,
# data_block_size in sectors. (metadata_nr_blocks behind it stays what it was at first when the metadata grows.)
_HEAD = struct.Struct("<IIQ16sQIIQQ")
_BLOCKS = struct.Struct("<QQ")
_TAIL = struct.Struct("<QQI")
_SPACE_MAP_ROOT_BYTES = 128
_MAGIC, _MAGIC_AT, _MAGIC_END = 27022010, 32, 40
_NEEDS_CHECK = 1
_DETAILS = struct.Struct(
    "<QQ8x"
)  # struct disk_device_details: mapped_blocks, transaction_id, creation_time, snapshotted_time
_ATTEMPTS = 50
_PATIENCE_SECONDS = 20.0


class Superblock(NamedTuple):
    """The last committed state of a pool; its data counted in blocks of ``block_sectors``, its metadata in blocks of 4 KiB."""

    transaction_id: int
    needs_check: bool
    block_sectors: int
    data_blocks: int
    metadata_blocks: int
    metadata_used_blocks: int
    mapping_root: int
    details_root: int
    raw: bytes


def has_superblock(path: str) -> bool:
    """Whether the metadata of a thin pool begins here. Its checksum is the kernel's business."""
    return _is_superblock(first_block(path))


def first_block(path: str) -> bytes:
    """The first 4 KiB, fewer from a shorter file."""
    with opened(path) as fd:
        return read_block(fd, 0)


def read_superblock(path: str) -> Superblock:
    """What the superblock says; raises ``DamagedPool`` when there is none."""
    return _parse(first_block(path), path)


class VolumeDetails(NamedTuple):
    """What the pool records of a volume (struct disk_device_details): its blocks, and the pool's transaction at which it was made."""

    mapped_blocks: int
    transaction_id: int


def read_thin_ids(path: str) -> frozenset[int]:
    """The thin ids that the pool has, of a pool that is up as well. Errors as of ``read_committed``."""
    return frozenset(read_details(path))


def read_details(path: str) -> dict[int, VolumeDetails]:
    """By thin id, what the pool records of each volume. Errors as of ``read_committed``."""
    return read_committed(path, _details)


def read_committed(
    path: str, walk: Callable[[int, Superblock], T], *, patience_seconds: float = _PATIENCE_SECONDS
) -> T:
    """What ``walk`` finds from a descriptor and a superblock, once the superblock has not changed meanwhile.

    Raises ``DamagedPool`` for metadata that cannot be read, ``Busy`` when the pool changes faster than it is read.
    """
    until = time.monotonic() + patience_seconds
    with opened(path) as fd:
        for _attempt in range(_ATTEMPTS):
            before = _parse(read_block(fd, 0), path)
            torn = ""
            try:
                found = walk(fd, before)
            except TornNode as error:
                torn = str(error)
            if read_block(fd, 0) == before.raw:
                if torn:
                    raise DamagedPool(f"the metadata at {printable(path)} is damaged: {torn}", hint=REPAIR)
                return found
            if time.monotonic() >= until:
                break
    raise Busy(f"the pool at {printable(path)} changes faster than it can be read", hint="run again when it is at rest")


def _details(fd: int, start: Superblock) -> dict[int, VolumeDetails]:
    entries = entries_below(fd, start.details_root, start.metadata_blocks, value_bytes=_DETAILS.size)
    return {thin_id: VolumeDetails(*_DETAILS.unpack(value)) for thin_id, value in entries}


def _is_superblock(block: bytes) -> bool:
    return len(block) >= _MAGIC_END and bool(struct.unpack_from("<Q", block, _MAGIC_AT)[0] == _MAGIC)


def _parse(block: bytes, path: str) -> Superblock:
    if not _is_superblock(block) or len(block) < METADATA_BLOCK_BYTES:
        raise DamagedPool(f"{printable(path)} does not hold the metadata of a thin pool", hint=REPAIR)
    _csum, flags, _blocknr, _uuid, _magic, _version, _time, transaction_id, _held = _HEAD.unpack_from(block)
    tail = _TAIL.unpack_from(block, _HEAD.size + 2 * _SPACE_MAP_ROOT_BYTES)
    mapping_root, details_root, block_sectors = tail
    metadata_blocks, metadata_used_blocks = _BLOCKS.unpack_from(block, _HEAD.size + _SPACE_MAP_ROOT_BYTES)
    return Superblock(
        transaction_id=transaction_id,
        needs_check=bool(flags & _NEEDS_CHECK),
        block_sectors=block_sectors,
        data_blocks=_BLOCKS.unpack_from(block, _HEAD.size)[0],
        metadata_blocks=metadata_blocks,
        metadata_used_blocks=metadata_used_blocks,
        mapping_root=mapping_root,
        details_root=details_root,
        raw=block,
    )
