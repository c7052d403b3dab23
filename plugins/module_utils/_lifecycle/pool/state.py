# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a requested pool with the store and the kernel: all that a run with nothing to do needs.

Invariant: only reads; what cannot be changed in a pool is refused here, before anything is made.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..._errors import BadInput, OutOfOrder
from ..._names import ShortName, exact_size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES, PoolStatus
from ..._thin.pool.geometry import Geometry, compute_geometry
from ..._thin.pool.metadata import read_thin_ids
from ..growth.policy import Policy
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.records import Operation, OperationKind, PoolRecord, Snapshot, Volume, VolumeState


class PoolOptions(NamedTuple):
    """The pool that is wanted. ``data`` and ``metadata`` are files or devices, empty for files in state_dir; None: as it is, or computed."""

    name: ShortName
    data: str
    metadata: str
    is_loop: bool
    data_bytes: int
    metadata_bytes: int | None
    block_bytes: int | None
    low_water_blocks: int | None
    error_if_no_space: bool
    min_free_percent: int
    policy: Policy
    adopt: bool = False  # take over the files or devices of an empty pool

    def geometry(self) -> Geometry:
        """The sizes of the pool's parts, with what was left out computed."""
        return compute_geometry(self.data_bytes, self.metadata_bytes, self.block_bytes, self.low_water_blocks)


def wanted_pool(pool: PoolRecord, options: PoolOptions) -> PoolRecord:
    """The pool as it is asked for; raises ``BadInput`` for what cannot be changed."""
    asked: tuple[tuple[str, object, object], ...] = (
        ("data_file or data_device", options.data or pool.data, pool.data),
        ("metadata_file or metadata_device", options.metadata or pool.metadata, pool.metadata),
    )
    if options.block_bytes is not None:
        asked += (
            ("block_size", exact_size_text(options.block_bytes), exact_size_text(pool.block_sectors * SECTOR_BYTES)),
        )
    for what, wanted, have in asked:
        if wanted != have:
            raise BadInput(
                f"the pool '{pool.name}' exists with {what}: {have}, and {wanted} is requested",
                hint=f"this cannot be changed in an existing pool: leave {what} out, or make a pool of another name (name)",
            )
    sized = _asked_size(pool, options)
    if options.low_water_blocks is not None:
        sized = sized._replace(low_water_blocks=options.geometry().low_water_blocks)
    return sized._replace(
        error_if_no_space=options.error_if_no_space,
        min_free_percent=options.min_free_percent,
        policy=options.policy.to_json(),
    )


def _asked_size(pool: PoolRecord, options: PoolOptions) -> PoolRecord:
    """``pool`` in the size that ``options`` ask for; raises ``BadInput`` when that is smaller than what it has.

    What a pool has grown to automatically is not asked for: there the size is the least that it must have.
    """
    block_bytes = pool.block_sectors * SECTOR_BYTES
    data_sectors = options.data_bytes // block_bytes * pool.block_sectors
    _refuse_less(
        pool, "data_size", data_sectors * SECTOR_BYTES, (pool.grown_from_sectors or pool.data_sectors) * SECTOR_BYTES
    )
    metadata_bytes = pool.metadata_bytes
    if options.metadata_bytes is not None:
        _refuse_less(
            pool, "metadata_size", options.metadata_bytes, pool.grown_from_metadata_bytes or pool.metadata_bytes
        )
        metadata_bytes = max(options.metadata_bytes, pool.metadata_bytes)
    if metadata_bytes > pool.metadata_bytes:
        pool = pool._replace(metadata_bytes=metadata_bytes, grown_from_metadata_bytes=0)
    if data_sectors <= pool.data_sectors:
        return pool
    wanted = compute_geometry(options.data_bytes, options.metadata_bytes, block_bytes, options.low_water_blocks)
    return pool._replace(
        data_sectors=wanted.data_sectors,
        metadata_bytes=max(wanted.metadata_bytes, pool.metadata_bytes),
        low_water_blocks=wanted.low_water_blocks,
        grown_from_sectors=0,
    )


def has_computed_mark(pool: PoolRecord) -> bool:
    """Whether low_water_mark is what is computed for the pool's size, so that it follows that."""
    return pool.low_water_blocks == _computed_mark(pool)


def with_data_sectors(pool: PoolRecord, data_sectors: int) -> PoolRecord:
    """``pool`` in another size of the data, with a mark that follows it if it was computed."""
    after = pool._replace(data_sectors=data_sectors)
    return after._replace(low_water_blocks=_computed_mark(after)) if has_computed_mark(pool) else after


def _computed_mark(pool: PoolRecord) -> int:
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return compute_geometry(pool.data_sectors * SECTOR_BYTES, None, block_bytes).low_water_blocks


def _refuse_less(pool: PoolRecord, what: str, asked_bytes: int, have_bytes: int) -> None:
    if asked_bytes < have_bytes:
        raise BadInput(
            f"the pool '{pool.name}' exists with {what}: {exact_size_text(have_bytes)}, and {exact_size_text(asked_bytes)} are requested",
            hint=f"a pool can grow, not shrink: leave {what} out or give at least {exact_size_text(have_bytes)}, or make a pool of another name (name)",
        )


def is_active(host: Run, pool: PoolRecord) -> bool:
    """Whether the pool's device is there, with its UUID, and not suspended."""
    device = host.dm.find(pool.uuid)
    return device is not None and device.sectors > 0 and not device.suspended


def unmapped_snapshots(host: Run, pool: PoolRecord) -> list[Snapshot]:
    """The snapshots that are recorded in the pool and not there for use. Writes nothing."""
    live = {one.ulid: one for one in host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)}
    recorded = [snapshot for snapshot in host.store.all(Snapshot) if snapshot.ulid in live]
    ready = {
        device.uuid
        for device in (host.dm.devices() if recorded else ())
        if device.sectors > 0 and not device.suspended and os.path.exists(device.path)
    }
    return [snapshot for snapshot in recorded if live[snapshot.ulid].uuid not in ready]


def lost_volumes(host: Run, pool: PoolRecord) -> list[Volume]:
    """What is live in the store and not in the pool. Certain only under the pool's lock."""
    there = read_thin_ids(pool.metadata)
    live = host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)
    return [volume for volume in live if volume.thin_id not in there]


def refuse_unfinished(host: Run, pool: PoolRecord) -> None:
    """Raise ``OutOfOrder`` for a pool whose removal or repair was interrupted."""
    if host.store.find(Operation, "kind=? AND subject=?", OperationKind.TEARDOWN.value, pool.name) is not None:
        raise OutOfOrder(
            f"the removal of the pool '{pool.name}' was interrupted",
            hint="finish it with flyd_pool, state: absent; then make the pool again",
        )
    if host.store.find(Operation, "kind IN ('repair', 'check') AND subject=?", pool.name) is not None:
        raise OutOfOrder(
            f"the pool '{pool.name}' is being repaired, or its repair was interrupted",
            hint="finish it with flyd_pool, state: repaired",
        )


def growing(host: Run, pool: PoolRecord) -> bool:
    """Whether a growth of the pool was interrupted."""
    return host.store.find(Operation, "kind=? AND subject=?", OperationKind.GROW.value, pool.name) is not None


def pool_facts(pool: PoolRecord, options: PoolOptions, now: PoolStatus) -> Facts:
    """What flyd_pool returns of a pool that is up."""
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return {
        "device": pool.device_path,
        "pool_id": pool.id,
        "data": {
            "path": pool.data,
            "size": now.total_data_blocks * block_bytes,
            "used": now.used_data_blocks * block_bytes,
        },
        "metadata": {
            "path": pool.metadata,
            "size": now.total_metadata_blocks * METADATA_BLOCK_BYTES,
            "used": now.used_metadata_blocks * METADATA_BLOCK_BYTES,
        },
        **_settings(pool),
        "transaction_id": now.transaction_id,
        "status": now.mode.value,
        "warnings": list(options.geometry().warnings),
    }


def predicted_facts(after: PoolRecord, pool: PoolRecord | None, options: PoolOptions) -> Facts:
    """The same of a pool that is not up, as far as it is known; None is what only the pool itself tells."""
    return {
        "device": after.device_path,
        "pool_id": pool and pool.id,
        **dict.fromkeys(("data", "metadata", "transaction_id", "status")),
        **_settings(after),
        "warnings": list(options.geometry().warnings),
    }


def _settings(pool: PoolRecord) -> Facts:
    return {
        "data_size": pool.data_sectors * SECTOR_BYTES,
        "block_size": pool.block_sectors * SECTOR_BYTES,
        "low_water_mark": pool.low_water_blocks,
        "error_if_no_space": pool.error_if_no_space,
        "min_free_percent": pool.min_free_percent,
        **Policy.recorded(pool.policy).facts(),
    }


def with_restored(outcome: Outcome, restored: list[str]) -> Outcome:
    """``outcome`` of a pool in which the devices of ``restored`` were mapped again."""
    return outcome._replace(
        before={**outcome.before, "unmapped": restored},
        after={**outcome.after, "unmapped": []},
        changed=outcome.changed or bool(restored),
        facts={**outcome.facts, "restored": restored},
    )
