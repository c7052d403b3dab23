# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grow a pool by its policy: before a run creates something in it, and when the host's service finds that it is short of space.

Invariant: growth happens under the lock of the pool's setup, by the same code as in flyd_pool, and after reading the pool again: of two concurrent
runs, only one grows it.
"""

from __future__ import annotations

from ..._errors import doing
from ..._thin.pool.health import status
from ..pool.grow import grow, settle_growth
from ..pool.state import growing, is_active, refuse_unfinished
from ..run import Run
from ..store.lock_names import pool_lock, pool_setup_lock
from ..volumes.room import PoolTooSmall
from ..volumes.volumes import check_transaction
from .due import NOTHING, Due, Need, growth_due
from .policy import NO_POLICY


def grow_if_needed(host: Run, name: str, need: Need = NOTHING) -> Due | None:
    """Let the pool grow if it is short, as far as it may; what is, or was, due. In a dry run it only says so.

    None for a pool that is not there, not active, or has no policy. A growth that was interrupted is settled first. What stops a pool that is
    short is logged.
    """
    pool = host.store.pool(name)
    if pool is None or pool.policy == NO_POLICY or not pool.formatted or not is_active(host, pool):
        return None
    due = growth_due(host, pool, status(host.dm, name), need)
    if not due.grows and not growing(host, pool):
        _tell(host, due)
        return due
    if host.dry_run:
        host.grown += [due.fact()] if due.grows else []
        return due
    with doing(f"growth of the pool '{name}' by its policy"), host.lock(pool_setup_lock(name)):
        return _grown(host, name, need)


def grow_for(host: Run, error: PoolTooSmall) -> None:
    """Let the pool grow for what it has no room for; raises ``error`` when it cannot, with what to do."""
    due = grow_if_needed(host, error.pool_name, error.need)
    if due is None or not due.grows:
        for stop in due.stops if due else ():
            error.hint = f"{stop.text}: {stop.remedy}, or remove images or snapshots that are not used (state: absent)"
        raise error


def _grown(host: Run, name: str, need: Need) -> Due | None:
    pool = host.store.pool(name)
    if pool is None or not is_active(host, pool):
        return None
    refuse_unfinished(host, pool)
    pool = settle_growth(host, pool)
    due = growth_due(host, pool, status(host.dm, name), need)
    if due.grows:
        with host.lock(pool_lock(name)):
            check_transaction(host, pool)
        grow(host, pool, due.wanted, why=due.why)
        host.grown.append(due.fact())
    _tell(host, due)
    return due


def _tell(host: Run, due: Due) -> None:
    if due.stops and not host.dry_run:
        text = "; ".join(stop.text for stop in due.stops)
        remedy = "; ".join(stop.remedy for stop in due.stops)
        host.log.write("cannot grow", pool=due.pool.name, why=due.why, text=text, remedy=remedy)
