# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of its pool each base and each snapshot takes, and how much of that it shares.

Invariant: only reads. What cannot be read is left out: drift reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._errors import FlydError
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.pool.mappings import Shares, read_shares
from ..outcome import Facts
from ..run import Run
from ..store.records import PoolRecord, Snapshot, Volume, VolumeState

UNKNOWN_BASE: Facts = {"base_own": None, "base_shared": None}
UNKNOWN_SNAPSHOT: Facts = {"used": None, "exclusive": None}


def base_shares(host: Run) -> dict[str, Facts]:
    """By the ULID of a base in a pool that is up, its bytes; snapshots do not count, and hidden bases do."""
    found: dict[str, Facts] = {}
    for pool in host.store.all(PoolRecord, "formatted"):
        bases = host.store.all(Volume, "pool_id=? AND kind!='snap' AND state=?", pool.id, VolumeState.LIVE.value)
        for ulid, shares, block_bytes in _shares(host, pool, bases):
            found[ulid] = {
                "base_own": shares.own_blocks * block_bytes,
                "base_shared": shares.shared_blocks * block_bytes,
            }
    return found


def snapshot_shares(host: Run) -> dict[str, Facts]:
    """By the ULID of a snapshot in a pool that is up: what it maps, and what of that no other snapshot and no base maps, in bytes."""
    snapshots = {one.ulid for one in host.store.all(Snapshot)}
    found: dict[str, Facts] = {}
    for pool in host.store.all(PoolRecord, "formatted"):
        volumes = host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)
        if not any(volume.ulid in snapshots for volume in volumes):
            continue
        for ulid, shares, block_bytes in _shares(host, pool, volumes):
            if ulid in snapshots:
                used = (shares.own_blocks + shares.shared_blocks) * block_bytes
                found[ulid] = {"used": used, "exclusive": shares.own_blocks * block_bytes}
    return found


def _shares(host: Run, pool: PoolRecord, volumes: Sequence[Volume]) -> Iterator[tuple[str, Shares, int]]:
    """The ULID, the shares and the bytes of a block of each of ``volumes`` that the pool has."""
    if not volumes or host.dm.find(pool.uuid) is None:
        return
    try:
        shares = read_shares(pool.metadata, {volume.thin_id for volume in volumes})
    except FlydError:
        return
    block_bytes = pool.block_sectors * SECTOR_BYTES
    for volume in volumes:
        if volume.thin_id in shares:
            yield volume.ulid, shares[volume.thin_id], block_bytes
