# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the pool each base takes alone, and how much together with other bases.

Invariant: only reads. What cannot be read is left out: drift reports it.
"""

from __future__ import annotations

from ..._errors import FlydError
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.pool.mappings import read_shares
from ..outcome import Facts
from ..run import Run
from ..store.records import PoolRecord, Volume, VolumeState

UNKNOWN: Facts = {"base_own": None, "base_shared": None}


def base_shares(host: Run) -> dict[str, Facts]:
    """By the ULID of a base in a pool that is up, its bytes; snapshots do not count."""
    found: dict[str, Facts] = {}
    for pool in host.store.all(PoolRecord, "formatted"):
        bases = host.store.all(Volume, "pool_id=? AND kind='base' AND state=?", pool.id, VolumeState.LIVE.value)
        if not bases or host.dm.find(pool.uuid) is None:
            continue
        try:
            shares = read_shares(pool.metadata, {base.thin_id for base in bases})
        except FlydError:
            continue
        block_bytes = pool.block_sectors * SECTOR_BYTES
        for base in bases:
            if base.thin_id in shares:
                own, shared = shares[base.thin_id]
                found[base.ulid] = {"base_own": own * block_bytes, "base_shared": shared * block_bytes}
    return found
