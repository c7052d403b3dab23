# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensure that the thin pool exists, belongs to the store, and is active and healthy, with its snapshots mapped.

Invariant: the pool's transaction id begins at a random number that was committed before the pool existed, and store and metadata
increment it together, so a pool that was recreated, replaced or restored alone is detected. Metadata that holds a superblock is
never overwritten.
"""

from __future__ import annotations

from ..._errors import Busy, doing
from ..._host import host_program
from ..._names import ObjectKey
from ..._thin.dm.table import PoolStatus
from ..._thin.guards.udev_rule import missing_rule
from ..._thin.pool.health import require_healthy, status
from ..attempts import attempted
from ..diff import pool_view
from ..growth.policy import NO_POLICY, may_grow
from ..image.placement import require_in_pool
from ..outcome import Outcome
from ..run import Run
from ..store.lock_names import pool_setup_lock
from ..store.records import PoolRecord
from ..store.schema import VERSION
from ..volumes.recover import nothing_to_recover
from .request import PoolRequest
from .state import (
    PoolOptions,
    growing,
    is_active,
    lost_volumes,
    pool_facts,
    refuse_unfinished,
    unmapped_snapshots,
    wanted_pool,
    with_restored,
)


def ensure_pool(host: Run, request: PoolRequest) -> Outcome:
    """Make the pool, or bring it back after a reboot, or find it there and healthy; warn where udev may read what guests write."""
    with doing(f"pool '{request.name}'"):
        outcome = attempted(host, lambda: _ensured(host, request), transition="pool", pool=request.name.value)
        return _with_warnings(host, request, outcome)


def _with_warnings(host: Run, request: PoolRequest, outcome: Outcome) -> Outcome:
    pool = host.store.pool(request.name.value)
    device = host.dm.find(pool.uuid) if pool is not None else None
    lacking = [
        *missing_rule([device] if device is not None else [], root=host.dm.root),
        *host_program.warnings(VERSION, root=host.dm.root),
        *(host_program.lack_of_growth(pool.name, root=host.dm.root) if pool and may_grow(pool.policy) else ()),
    ]
    if not lacking:
        return outcome
    return outcome._replace(facts={**outcome.facts, "warnings": [*outcome.facts.get("warnings", ()), *lacking]})


def _ensured(host: Run, request: PoolRequest) -> Outcome:
    if request.key:
        require_in_pool(host, host.store.image_or_new(ObjectKey(request.key).value), request.name.value)
    host.dm.require_target("thin-pool")
    pool = host.store.pool(request.name.value)
    if pool is not None:
        refuse_unfinished(host, pool)
    if pool is not None and pool.formatted and nothing_to_recover(host) and is_active(host, pool):
        options = request.resolve(host, pool)
        wanted = wanted_pool(pool, options)
        now = status(host.dm, pool.name)
        is_settled = now.transaction_id == pool.transaction_id and not growing(host, pool)
        if is_settled and pool == wanted and _is_whole(host, pool) and not _must_grow(host, pool, now):
            return _found(host, pool, options, now)
    # Late: a run that finds its pool there needs nothing of how pools are made.
    from .converge import converge

    with host.lock(pool_setup_lock(request.name.value)):
        return converge(host, request)


def _must_grow(host: Run, pool: PoolRecord, now: PoolStatus) -> bool:
    """Whether the pool is so full that it grows by its policy, and it can."""
    if pool.policy == NO_POLICY:
        return False
    from ..growth.due import growth_due  # late, as above

    return growth_due(host, pool, now).grows


def _is_whole(host: Run, pool: PoolRecord) -> bool:
    """Whether the pool has all its volumes, and its snapshots are mapped."""
    if unmapped_snapshots(host, pool):
        return False
    try:
        return not lost_volumes(host, pool)
    except Busy:  # others make volumes in it right now: it is well, and the next run looks again
        return True


def _found(host: Run, pool: PoolRecord, options: PoolOptions, now: PoolStatus) -> Outcome:
    require_healthy(now, pool.min_free_percent)
    view = pool_view(pool, active=True)
    return with_restored(Outcome(view, view, False, pool_facts(pool, options, now), tuple(host.settled)), [])
