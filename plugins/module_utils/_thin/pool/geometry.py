# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compute the sizes of a pool that the operator leaves out, and refuse those that cannot work.

Invariant: a ``Geometry`` is one that the kernel accepts. Values that work but serve badly (the classic 1 MiB of metadata and a low
water mark above the pool's size) are taken as given, with a warning, so that the pool's table says what the operator wrote.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._errors import BadInput
from ..._names import exact_size_text
from ..dm.device import SECTOR_BYTES
from ..dm.table import MAX_BLOCK_SECTORS, METADATA_BLOCK_BYTES, MIN_BLOCK_SECTORS

MIB = 1 << 20
DEFAULT_BLOCK_BYTES = 64 << 10
METADATA_BYTES_PER_BLOCK = 48  # thin-provisioning.rst, "Setting up a fresh pool device"
METADATA_BYTES_PER_SNAPSHOT = (
    32 * METADATA_BLOCK_BYTES
)  # for the mappings that it does not share; 5 to 10 blocks were seen for few
MIN_METADATA_BYTES = 16 * MIB
_SNAPSHOTS = 1000  # for which there is metadata
_BLOCKS_PER_SNAPSHOT = 16  # of data: more snapshots that are written to have no room in a small pool
MAX_METADATA_BYTES = 255 * (1 << 14) * METADATA_BLOCK_BYTES  # dm-thin-metadata.h: more is not used
SMALLEST_METADATA_BYTES = 256 << 10  # less is full before the first file system is made
LOW_WATER_PERCENT = 10
_MANY_BLOCKS = 1 << 20  # from here on larger blocks keep the metadata in memory and small


class Geometry(NamedTuple):
    """The sizes of a pool: data in sectors of 512 bytes, metadata in bytes, blocks in sectors, the mark in blocks."""

    data_sectors: int
    metadata_bytes: int
    block_sectors: int
    low_water_blocks: int
    warnings: tuple[str, ...] = ()

    @property
    def data_bytes(self) -> int:
        """The size of the data device in bytes."""
        return self.data_sectors * SECTOR_BYTES

    @property
    def block_bytes(self) -> int:
        """The size of one block in bytes."""
        return self.block_sectors * SECTOR_BYTES

    @property
    def data_blocks(self) -> int:
        """How many blocks the pool can give out."""
        return self.data_sectors // self.block_sectors


def compute_geometry(
    data_bytes: int,
    metadata_bytes: int | None = None,
    block_bytes: int | None = None,
    low_water_blocks: int | None = None,
) -> Geometry:
    """The geometry of a pool for ``data_bytes`` of data; raises ``BadInput`` for what the kernel would refuse."""
    block = _default_block_bytes(data_bytes) if block_bytes is None else _checked_block_bytes(block_bytes)
    blocks = data_bytes // block
    if blocks < 1:
        raise BadInput(
            f"data_size: {exact_size_text(data_bytes)} is less than one block of {exact_size_text(block)}",
            hint="give a larger data_size or a smaller block_size",
        )
    warnings: list[str] = []
    return Geometry(
        data_sectors=blocks * block // SECTOR_BYTES,
        metadata_bytes=_metadata_bytes(metadata_bytes, blocks, warnings),
        block_sectors=block // SECTOR_BYTES,
        low_water_blocks=_low_water_blocks(low_water_blocks, blocks, warnings),
        warnings=tuple(warnings),
    )


def computed_metadata_bytes(blocks: int) -> int:
    """48 bytes for each block of data and 128 KiB for each of up to a thousand snapshots, at least 16 MiB, at most what the kernel uses.

    In whole metadata blocks. A snapshot that is written to takes at least one block of data for each region that it changes, so a small
    pool has room for fewer.
    """
    snapshots = min(_SNAPSHOTS, blocks // _BLOCKS_PER_SNAPSHOT)
    wanted = METADATA_BYTES_PER_BLOCK * blocks + METADATA_BYTES_PER_SNAPSHOT * snapshots
    wanted = max(MIN_METADATA_BYTES, wanted)
    whole = -(-wanted // METADATA_BLOCK_BYTES) * METADATA_BLOCK_BYTES
    return min(whole, MAX_METADATA_BYTES)


def _default_block_bytes(data_bytes: int) -> int:
    """64 KiB, where the first write to a shared block copies least; doubled for large pools up to 1 MiB."""
    block = DEFAULT_BLOCK_BYTES
    while block < MIB and data_bytes // block > _MANY_BLOCKS:
        block *= 2
    return block


def _checked_block_bytes(block_bytes: int) -> int:
    sectors, rest = divmod(block_bytes, SECTOR_BYTES)
    if rest or sectors % MIN_BLOCK_SECTORS or not MIN_BLOCK_SECTORS <= sectors <= MAX_BLOCK_SECTORS:
        raise BadInput(
            f"block_size: {exact_size_text(block_bytes)} is not a multiple of 64 KiB between 64 KiB and 1 GiB",
            hint="leave block_size out, or give 64K, 128K, 256K, 512K or 1M",
        )
    return block_bytes


def _metadata_bytes(given: int | None, blocks: int, warnings: list[str]) -> int:
    computed = computed_metadata_bytes(blocks)
    if given is None:
        return computed
    if given < SMALLEST_METADATA_BYTES or given % METADATA_BLOCK_BYTES:
        raise BadInput(
            f"metadata_size: {exact_size_text(given)} is not a multiple of 4 KiB of at least 256 KiB",
            hint=f"leave metadata_size out: {exact_size_text(computed)} are right for this pool",
        )
    if given < computed:
        warnings.append(
            f"metadata_size is {given} bytes, less than the {computed} bytes that this pool may need: full metadata stops the whole pool"
        )
    if given > MAX_METADATA_BYTES:
        warnings.append(f"metadata_size is {given} bytes; the kernel uses {MAX_METADATA_BYTES} bytes of them at most")
    return given


def _low_water_blocks(given: int | None, blocks: int, warnings: list[str]) -> int:
    if given is None:
        return max(1, blocks * LOW_WATER_PERCENT // 100) if blocks > 1 else 0
    if given < 0:
        raise BadInput(
            f"low_water_mark: {given} blocks is negative",
            hint="give low_water_mark a number of blocks below the pool's size, or leave it out",
        )
    if given >= blocks:
        # Not clamped: the table would then differ from what was asked for, and every run would find a difference.
        warnings.append(
            f"low_water_mark is {given} blocks, but the pool has {blocks}: the warning event comes at once and means nothing"
        )
    return given
