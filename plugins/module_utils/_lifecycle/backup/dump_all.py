# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump the metadata of every pool whose dump is due, and record which snapshots are in use: the work of flyd-backup.service."""

from __future__ import annotations

from ..._errors import FlydError, doing
from ..attempts import attempted
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.records import PoolRecord
from ..volumes.uses import record_uses
from .metadata_dumps import dump_metadata


def dump_all(host: Run) -> Outcome:
    """A pool in trouble does not keep the others from it; raises the first error once all has been tried."""
    record_uses(host)
    done: list[str] = []
    failed: list[FlydError] = []
    for pool in host.store.all(PoolRecord, "formatted"):
        _try_pool(host, pool, done, failed)
    if failed:
        raise failed[0]
    facts: Facts = {"dumps": done, "attempts": 1 + host.retry.repeated if done else 0}
    return Outcome({}, {}, bool(done), facts, tuple(host.settled))


def _try_pool(host: Run, pool: PoolRecord, done: list[str], failed: list[FlydError]) -> None:
    try:
        with doing(f"dump of the metadata of the pool '{pool.name}'"):
            done += attempted(host, lambda: _dumped(host, pool), transition="dump", pool=pool.name).facts["dumps"]
    except FlydError as error:
        host.log.failed(error, module="backup", subject=pool.name)
        failed.append(error)


def _dumped(host: Run, pool: PoolRecord) -> Outcome:
    path = dump_metadata(host, pool)
    return Outcome({}, {}, bool(path), {"dumps": [path] if path else []})
