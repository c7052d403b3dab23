# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of its pool each base and each snapshot takes, and how much of that it shares.

Invariant: only reads, and the metadata of a pool once in a report. What cannot be read is left out: drift reports it.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._errors import FlydError
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.pool.mappings import read_shares
from ..outcome import Facts
from ..run import Run
from ..store.records import PoolRecord, Snapshot, Volume, VolumeState

UNKNOWN_BASE: Facts = {"base_own": None, "base_shared": None}
UNKNOWN_SNAPSHOT: Facts = {"used": None, "exclusive": None}


class Shared(NamedTuple):
    """By the ULID of a base, its bytes: snapshots do not count, and hidden bases do.

    By the ULID of a snapshot, what it maps, and what of that no other snapshot and no base maps, in bytes.
    """

    bases: dict[str, Facts]
    snapshots: dict[str, Facts]


def shared(host: Run, *, is_of_bases: bool, is_of_snapshots: bool) -> Shared:
    """What is asked for, of the pools that are up."""
    found = Shared({}, {})
    snapshots = {one.ulid for one in host.store.all(Snapshot)} if is_of_snapshots else set()
    for pool in host.store.all(PoolRecord, "formatted") if is_of_bases or snapshots else ():
        volumes = host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)
        bases = {one.thin_id: one.ulid for one in volumes if is_of_bases and one.kind != "snap"}
        has_snapshots = any(one.ulid in snapshots for one in volumes)
        every = {one.thin_id: one.ulid for one in volumes} if has_snapshots else {}
        if (bases or every) and host.dm.find(pool.uuid) is not None:
            _add(found, pool, bases, every, snapshots)
    return found


def _add(found: Shared, pool: PoolRecord, bases: dict[int, str], every: dict[int, str], snapshots: set[str]) -> None:
    try:
        among_bases, among_all = read_shares(pool.metadata, [bases, every])
    except FlydError:
        return
    block_bytes = pool.block_sectors * SECTOR_BYTES
    for thin_id, one in among_bases.items():
        found.bases[bases[thin_id]] = {
            "base_own": one.own_blocks * block_bytes,
            "base_shared": one.shared_blocks * block_bytes,
        }
    for thin_id, one in among_all.items():
        if every[thin_id] in snapshots:
            used = (one.own_blocks + one.shared_blocks) * block_bytes
            found.snapshots[every[thin_id]] = {"used": used, "exclusive": one.own_blocks * block_bytes}
