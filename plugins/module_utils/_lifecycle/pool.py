# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin pool: made once, tied to the store, active and healthy ever after, and the snapshots in it are there for use.

Invariant: the pool's transaction id begins at a random number that was committed before the pool existed, and store and metadata
count it up together: a pool that was made anew, exchanged or restored alone is seen. Metadata that holds a superblock is
never written over.
"""

from __future__ import annotations

from .._errors import Busy, doing
from .._thin.health import require_healthy, status
from .._thin.table import PoolStatus
from .host import Host
from .outcome import Outcome
from .pool_asked import (
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
from .records import PoolRecord
from .settle import is_tidy
from .views import pool_view


def ensure_pool(host: Host, options: PoolOptions) -> Outcome:
    """Make the pool, or bring it back after a reboot, or find it there and healthy."""
    with doing(f"pool {options.name}"):
        host.dm.require_target("thin-pool")
        pool = host.store.pool(options.name.value)
        if pool is not None:
            refuse_unfinished(host, pool)
        if pool is not None and pool.formatted and is_tidy(host) and is_active(host, pool):
            wanted = wanted_pool(pool, options)
            now = status(host.dm, pool.name)
            is_settled = now.transaction_id == pool.transaction_id and not growing(host, pool)
            if is_settled and pool == wanted and _is_whole(host, pool):
                return _found(host, pool, options, now)
        # Late: a run that finds its pool there needs nothing of how pools are made.
        from .pool_work import bring_about

        with host.lock(f"pool setup {options.name}"):
            return bring_about(host, options)


def _is_whole(host: Host, pool: PoolRecord) -> bool:
    """Whether the pool has all its volumes, and its snapshots are mapped."""
    if unmapped_snapshots(host, pool):
        return False
    try:
        return not lost_volumes(host, pool)
    except Busy:  # others make volumes in it right now: it is well, and the next run looks again
        return True


def _found(host: Host, pool: PoolRecord, options: PoolOptions, now: PoolStatus) -> Outcome:
    require_healthy(now, pool.min_free_percent)
    view = pool_view(pool, active=True)
    return with_restored(Outcome(view, view, False, pool_facts(pool, options, now), tuple(host.settled)), [])
