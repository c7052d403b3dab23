# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a pool has free, and how much it would have back without some of its volumes.

Invariant: only reads, and no message to the pool.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from ..._names import size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.pool.health import status
from ..._thin.pool.mappings import read_freed_blocks
from ..image.remove_volumes import snapshots_of, volumes_of
from ..pool.data_size import DataSize
from ..run import Run
from ..store.records import PoolRecord
from .choosing import Candidate


def would_free(host: Run, candidates: Sequence[Candidate]) -> dict[str, int]:
    """By the id of a generation, the bytes that its pool has back when these go in this order: an estimate, as guests go on writing.

    One that stays after all keeps the blocks that it shares with others, which are counted for the last of those. A pool that is not active gives
    nothing. Errors as of ``read_freed_blocks``.
    """
    freed: dict[str, int] = {}
    for pool in {one.pool.id: one.pool for one in candidates if one.pool is not None}.values():
        there = [one for one in candidates if one.pool is not None and one.pool.id == pool.id]
        groups = [
            [volume.thin_id for volume in volumes_of(host, snapshots_of(host, [one.image]), [one.image])]
            for one in there
        ]
        blocks = read_freed_blocks(pool.metadata, groups) if host.dm.find(pool.uuid) is not None else [0] * len(there)
        for one, count in zip(there, blocks):
            freed[one.image.id] = count * pool.block_sectors * SECTOR_BYTES
    return freed


def freed_with(pool: PoolRecord, gone: Sequence[int], thin_ids: Sequence[int]) -> int:
    """How many more bytes ``pool`` has back without ``thin_ids`` when those of ``gone`` have gone before. Errors as of ``read_freed_blocks``."""
    _before, blocks = read_freed_blocks(pool.metadata, [list(gone), list(thin_ids)])
    return blocks * pool.block_sectors * SECTOR_BYTES


def file_bytes(paths: Iterable[str]) -> int:
    """What these files take on their disk."""
    return sum(os.stat(path).st_blocks * SECTOR_BYTES for path in paths)


def missing_bytes(host: Run, pool: PoolRecord, wanted: DataSize) -> int:
    """How much less than ``wanted`` the pool has free; not above 0: enough. All of it, when it is not active."""
    total_bytes = pool.data_sectors * SECTOR_BYTES
    wanted_bytes = wanted.of(total_bytes)
    if host.dm.find(pool.uuid) is None:
        return wanted_bytes
    now = status(host.dm, pool.name)
    free_blocks = int(now.total_data_blocks - now.used_data_blocks)
    return wanted_bytes - free_blocks * pool.block_sectors * SECTOR_BYTES


def shortage_text(pool: PoolRecord, missing: int) -> str:
    """That a pool still has less free than it should."""
    return f"the pool '{pool.name}' still has {size_text(missing)} less free than min_free asks for, and nothing more can go"
