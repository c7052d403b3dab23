# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin pool: made once, tied to the store, active and healthy ever after, and the snapshots in it are there for use.

Invariant: the pool's transaction id begins at a random number that was committed before the pool existed, and store and metadata
count it up together: a pool that was made anew, exchanged or restored alone is seen. Metadata that holds a superblock is
never written over.
"""

from __future__ import annotations

import dataclasses

from .._errors import BadInput, OutOfOrder, doing
from .._names import ShortName
from .._thin.device import SECTOR_BYTES
from .._thin.pool import require_healthy, require_sound, status
from .._thin.table import PoolStatus
from .bring_back import bring_up, is_active, map_snapshots, unmapped_snapshots
from .growth import asked_size, grow, growing, settle_growth
from .host import Host
from .outcome import Facts, Outcome
from .pool_making import PoolOptions, make_pool, new_record
from .records import Operation, OperationKind, PoolRecord
from .settle import is_tidy, settle
from .views import NEW_ULID, no_pool, pool_view
from .volumes import check_transaction, pool_lock, refuse_in_repair


def ensure_pool(host: Host, options: PoolOptions) -> Outcome:
    """Make the pool, or bring it back after a reboot, or find it there and healthy."""
    with doing(f"pool {options.name}"):
        host.dm.require_target("thin-pool")
        pool = host.store.pool(options.name.value)
        if pool is not None:
            refuse_unfinished(host, pool)
        if pool is not None and pool.formatted and is_tidy(host) and is_active(host, pool):
            wanted = _wanted(pool, options)
            now = status(host.dm, pool.name)
            is_settled = now.transaction_id == pool.transaction_id and not growing(host, pool)
            if is_settled and pool == wanted and not unmapped_snapshots(host, pool):
                return _found(host, pool, options, now)
        with host.lock(f"pool setup {options.name}"):
            return _ensure(host, options)


def _ensure(host: Host, options: PoolOptions) -> Outcome:
    pool, wanted = host.store.pool(options.name.value), None
    if pool is not None:
        refuse_unfinished(host, pool)
        if pool.formatted:
            pool = settle_growth(host, pool)
        wanted = _wanted(pool, options)
        if pool.formatted and is_active(host, pool):
            settle(host)
            if not host.dry_run:  # without the lock, another run's step would look like a pool of another time
                with host.lock(pool_lock(pool)):
                    check_transaction(host, pool)
            restored = _map_again(host, pool)
            return _with_restored(_adjusted(host, pool, wanted, options), restored)
    _refuse_foreign(host, options.name, pool)
    if host.dry_run:
        return _predicted(host, options, pool, wanted)
    before = pool_view(pool, active=False) if pool else no_pool(options.name.value)
    with host.log.transition("pool", pool=options.name.value) as log:
        pool = pool if pool is not None and pool.formatted else make_pool(host, options, pool)
        bring_up(host, pool)
        log.update(bytes=pool.data_sectors * SECTOR_BYTES, device=pool.device_path)
    settle(host)
    restored = _map_again(host, pool)  # before all that may be refused: guests need them even in a pool that is full
    outcome = _adjusted(host, pool, _wanted(pool, options), options)
    return _with_restored(dataclasses.replace(outcome, before=before, changed=True), restored)


def _map_again(host: Host, pool: PoolRecord) -> list[str]:
    """The devices of the snapshots that were not there and are now; in a dry run, of those that would be."""
    unmapped = [snapshot.device for snapshot in unmapped_snapshots(host, pool)]
    if not unmapped or host.dry_run:
        return unmapped
    with host.log.transition("restore", pool=pool.name) as log:
        restored = map_snapshots(host, pool)
        log["snapshots"] = len(restored)
    return restored


def _with_restored(outcome: Outcome, restored: list[str]) -> Outcome:
    return dataclasses.replace(
        outcome,
        before={**outcome.before, "unmapped": restored},
        after={**outcome.after, "unmapped": []},
        changed=outcome.changed or bool(restored),
        facts={**outcome.facts, "restored": restored},
    )


def _wanted(pool: PoolRecord, options: PoolOptions) -> PoolRecord:
    """The pool as it is asked for; raises ``BadInput`` for what cannot be changed."""
    asked: tuple[tuple[str, object, object], ...] = (
        ("data file or device", options.data or pool.data, pool.data),
        ("metadata file or device", options.metadata or pool.metadata, pool.metadata),
    )
    if options.block_bytes is not None:
        asked += (("block_size", options.block_bytes // SECTOR_BYTES, pool.block_sectors),)
    for what, wanted, have in asked:
        if wanted != have:
            raise BadInput(
                f"the pool {pool.name} exists with {what} {have}, asked was {wanted}",
                hint="this cannot be changed in an existing pool: ask for what it has, or make a pool of another name",
            )
    return dataclasses.replace(asked_size(pool, options), min_free_percent=options.min_free_percent)


def refuse_unfinished(host: Host, pool: PoolRecord) -> None:
    """Raise ``OutOfOrder`` for a pool whose removal or repair was cut off."""
    if host.store.find(Operation, "kind=? AND subject=?", OperationKind.TEARDOWN.value, pool.name) is not None:
        raise OutOfOrder(
            f"the removal of the pool {pool.name} was cut off half way",
            hint="finish it with flyd_pool, state: absent; then make the pool anew",
        )
    refuse_in_repair(host, pool)


def _adjusted(host: Host, pool: PoolRecord, wanted: PoolRecord, options: PoolOptions) -> Outcome:
    """The pool that is up, grown to what is asked for, and with the share that must stay free as it is asked for now."""
    after = dataclasses.replace(wanted, transaction_id=pool.transaction_id, min_free_percent=options.min_free_percent)
    changed = after != pool
    if changed and not host.dry_run:
        if after != dataclasses.replace(pool, min_free_percent=after.min_free_percent):
            after = grow(host, pool, after)
        with host.store.transaction():
            after = dataclasses.replace(host.store.pool(pool.name) or after, min_free_percent=options.min_free_percent)
            host.store.put(after)
    now = status(host.dm, pool.name)
    if host.dry_run and after.data_sectors > pool.data_sectors:
        require_sound(now)  # it may be full now: that is what it grows for
    else:
        require_healthy(now, after.min_free_percent)
    facts = _facts(after, options, now)
    return Outcome(pool_view(pool, active=True), pool_view(after, active=True), changed, facts, tuple(host.settled))


def _found(host: Host, pool: PoolRecord, options: PoolOptions, now: PoolStatus) -> Outcome:
    require_healthy(now, pool.min_free_percent)
    view = pool_view(pool, active=True)
    return _with_restored(Outcome(view, view, False, _facts(pool, options, now), tuple(host.settled)), [])


def _refuse_foreign(host: Host, name: ShortName, pool: PoolRecord | None) -> None:
    found = host.dm.by_name(name.value)
    if found is not None and (pool is None or found.uuid != pool.uuid):
        raise OutOfOrder(
            f"a device-mapper device named {found.name} exists and is not ours (UUID {found.uuid or 'none'})",
            hint="choose another name for the pool, or remove that device if nobody needs it",
        )


def _predicted(host: Host, options: PoolOptions, pool: PoolRecord | None, wanted: PoolRecord | None) -> Outcome:
    after = wanted or new_record(host, options, NEW_ULID)
    outcome = Outcome(
        pool_view(pool, active=False) if pool else no_pool(options.name.value),
        pool_view(after, active=True),
        True,
        {"device": after.device_path, "warnings": list(options.geometry().warnings)},
        tuple(host.settled),
    )
    return _with_restored(outcome, _map_again(host, pool) if pool else [])


def _facts(pool: PoolRecord, options: PoolOptions, now: PoolStatus) -> Facts:
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return {
        "device": pool.device_path,
        "pool_id": pool.id,
        "data": {
            "path": pool.data,
            "used_bytes": now.used_data_blocks * block_bytes,
            "total_bytes": now.total_data_blocks * block_bytes,
        },
        "metadata": {
            "path": pool.metadata,
            "used_bytes": now.used_metadata_blocks * 4096,
            "total_bytes": now.total_metadata_blocks * 4096,
        },
        "block_size": block_bytes,
        "transaction_id": now.transaction_id,
        "status": now.mode.value,
        "warnings": list(options.geometry().warnings),
    }
