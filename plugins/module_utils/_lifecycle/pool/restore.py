# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activate every pool and map the recorded snapshots at boot, without a play.

Invariant: a pool is activated as the next play's flyd_pool would do it, by the same code (bring_up.py).
"""

from __future__ import annotations

from ..._errors import FlydError, doing
from ..._thin.pool.thin_pool import require_sound
from ..attempts import attempted
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.lock_names import pool_setup_lock
from ..store.records import PoolRecord
from ..unexpected import as_flyd_error
from ..volumes.recover import recover
from .bring_up import bring_up, map_snapshots
from .grow import settle_growth
from .state import is_active, refuse_unfinished


def restore(host: Run) -> Outcome:
    """Bring back all pools and their snapshots; a pool in trouble does not keep the others down.

    Raises the first error once all has been tried.
    """
    done: list[str] = []
    failed: list[FlydError] = []
    for pool in host.store.all(PoolRecord, "formatted"):
        _try_pool(host, pool, done, failed)
    if failed:
        raise failed[0]
    facts: Facts = {"restored": done}
    return Outcome({}, {}, bool(done), facts, tuple(host.settled))


def _try_pool(host: Run, pool: PoolRecord, done: list[str], failed: list[FlydError]) -> None:
    try:
        with doing(f"bringing back the pool '{pool.name}'"):
            outcome = _attempted(host, pool)
            done += outcome.facts["restored"]
    except FlydError as error:
        host.log.failed(error, module="restore", subject=pool.name)
        failed.append(error)


def _attempted(host: Run, pool: PoolRecord) -> Outcome:
    try:
        return attempted(host, lambda: _restored(host, pool), transition="restore", pool=pool.name)
    except FlydError:
        raise
    except Exception as error:  # whatever it is must not keep the other pools down
        raise as_flyd_error(error, [host]) from error


def _restored(host: Run, pool: PoolRecord) -> Outcome:
    mapped: Facts = {"restored": _restore_pool(host, pool)}
    return Outcome({}, {}, bool(mapped["restored"]), mapped)


def _restore_pool(host: Run, pool: PoolRecord) -> list[str]:
    with host.lock(pool_setup_lock(pool.name)):
        now = host.store.find(PoolRecord, "id=?", pool.id)
        if now is None:
            return []  # it was torn down while this waited for the lock
        pool = now
        refuse_unfinished(host, pool)
        pool = settle_growth(host, pool)
        was_active = is_active(host, pool)
        with host.log.transition("restore", pool=pool.name) as log:
            require_sound(bring_up(host, pool))
            recover(host)
            mapped = map_snapshots(host, pool)
            log["snapshots"] = len(mapped)
    return [*([] if was_active else [pool.device_path]), *mapped]
