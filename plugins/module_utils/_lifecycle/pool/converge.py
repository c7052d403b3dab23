# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, activate or grow a pool, or predict it in check mode: the work of flyd_pool, imported when there is some.

Invariant: as in ensure.py; the caller holds the lock of the pool's setup.
"""

from __future__ import annotations

from ..._errors import ForeignDevice
from ..._names import ShortName
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.pool.health import require_healthy, require_sound, status
from ..._thin.pool.thin_pool import check_files
from ..diff import NEW_ULID, no_pool, pool_view
from ..growth.due import growth_due
from ..outcome import Outcome
from ..run import Run
from ..store.lock_names import pool_lock
from ..store.records import PoolRecord
from ..volumes.recover import recover
from ..volumes.volumes import check_transaction
from .bring_up import bring_up, map_again, require_same_disk, status_of_known
from .create import foresee_pool, make_pool, new_record, spec_of
from .grow import ASKED, grow, settle_growth
from .request import PoolRequest
from .state import (
    PoolOptions,
    growing,
    is_active,
    pool_facts,
    predicted_facts,
    refuse_unfinished,
    wanted_pool,
    with_restored,
)


def converge(host: Run, request: PoolRequest) -> Outcome:
    """The pool as it is asked for, made, brought back or grown, with its snapshots; a dry run only says so."""
    pool, wanted = host.store.pool(request.name.value), None
    options = request.resolve(host, pool)
    if pool is not None:
        refuse_unfinished(host, pool)
        if pool.formatted:
            pool = settle_growth(host, pool)
        wanted = wanted_pool(pool, options)
        if pool.formatted and is_active(host, pool):
            recover(host)
            if host.dry_run:
                status_of_known(host, pool)
            else:  # exactly, and an unfinished step is acknowledged
                with host.lock(pool_lock(pool.name)):
                    check_transaction(host, pool)
            restored = map_again(host, pool)
            return with_restored(_adjusted(host, pool, wanted, options), restored)
    _refuse_foreign(host, options.name, pool)
    if host.dry_run:
        return _predicted(host, options, pool, wanted)
    before = pool_view(pool, active=False) if pool else no_pool(options.name.value)
    with host.log.transition("pool", pool=options.name.value) as log:
        pool = pool if pool is not None and pool.formatted else make_pool(host, options, pool)
        bring_up(host, pool)
        log.update(data_size=pool.data_sectors * SECTOR_BYTES, device=pool.device_path)
    recover(host)
    restored = map_again(host, pool)  # before all that may be refused: guests need them even in a pool that is full
    outcome = _adjusted(host, pool, wanted_pool(pool, options), options)
    return with_restored(outcome._replace(before=before, changed=True), restored)


def _adjusted(host: Run, pool: PoolRecord, wanted: PoolRecord, options: PoolOptions) -> Outcome:
    """The pool that is up, grown to what is asked for and what its policy makes of that, with what only the store has as it is asked for now."""
    asked = wanted._replace(transaction_id=pool.transaction_id, min_free_percent=options.min_free_percent)
    due = growth_due(host, asked, status(host.dm, pool.name))
    after = due.wanted
    changed = after != pool
    host.grown += [due.fact()] if due.grows else []
    if changed and not host.dry_run:
        if after != _with_recorded(pool, asked):
            after = grow(host, pool, after, why=due.why if due.grows else ASKED)
        with host.store.transaction():
            after = _with_recorded(host.store.pool(pool.name) or after, asked)
            host.store.put(after)
    now = status(host.dm, pool.name)
    if host.dry_run and after.data_sectors > pool.data_sectors:
        require_sound(now)  # it may be full now: that is what it grows for
    else:
        require_healthy(due.after(now) if host.dry_run else now, after.min_free_percent)
    facts = pool_facts(after, options, now)
    return Outcome(pool_view(pool, active=True), pool_view(after, active=True), changed, facts, tuple(host.settled))


def _with_recorded(pool: PoolRecord, asked: PoolRecord) -> PoolRecord:
    """With what only the store has, and no table, as it is asked for."""
    return pool._replace(min_free_percent=asked.min_free_percent, policy=asked.policy)


def _refuse_foreign(host: Run, name: ShortName, pool: PoolRecord | None) -> None:
    found = host.dm.by_name(name.value)
    if found is not None and (pool is None or found.uuid != pool.uuid):
        raise ForeignDevice(
            f"a device-mapper device named {found.name} exists and is not ours (UUID {found.uuid or 'none'})",
            hint=f"give the pool another name (name), or remove that device if it is not needed (`dmsetup remove {found.name}`)",
        )


def _predicted(host: Run, options: PoolOptions, pool: PoolRecord | None, wanted: PoolRecord | None) -> Outcome:
    after = wanted or new_record(host, options, NEW_ULID)
    if pool is not None and pool.formatted:
        require_same_disk(host, pool)
        if not growing(host, pool):  # else its files may have another size until that is settled
            check_files(host.runner, spec_of(pool), may_format=False)
    if pool is None:
        foresee_pool(host, after, adopt=options.adopt)
    recover(host, coming_up=after.id)
    outcome = Outcome(
        pool_view(pool, active=False) if pool else no_pool(options.name.value),
        pool_view(after, active=True),
        True,
        predicted_facts(after, pool, options),
        tuple(host.settled),
    )
    return with_restored(outcome, map_again(host, pool) if pool else [])
