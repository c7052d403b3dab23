# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_prune: remove one generation after the other, and skip those that are busy or fail.

Invariant: each generation is removed by its own arrow, with the key's lock, its intents and its recovery; nothing is held between two of them.
Failures are reported at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._errors import FlydError, doing, error_from_json, error_to_json
from ..attempts import repeated_if_transient
from ..image.unknown import unknown_key, unknown_pool
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.records import PoolRecord
from ..volumes.recover import nothing_to_recover, recover
from .choosing import Candidate, choose
from .options import PruneOptions
from .removal import Forecast, Removal


def prune(host: Run, options: PruneOptions) -> Outcome:
    """Remove the generations that are not needed; raises, once all were tried, what has kept any of them."""
    with doing("pruning"):
        if not nothing_to_recover(host):
            recover(host)
        choice = repeated_if_transient(host, lambda: choose(host, options), what="choice")
        work = Forecast(host, options, choice) if host.dry_run else Removal(host, options, choice)
        keys = dict.fromkeys(candidate.image.object_key for candidate in choice.candidates)
        before = Removal.views(work, keys)
        for candidate in choice.candidates:
            work.take(candidate)
        for pool in _pools(host):
            work.take_hidden(pool)
        facts, changed = work.facts(), bool(work.gone or work.removed())
        if work.errors:
            host.reported = {**facts, "changed": changed}
            raise _combined(work.errors, len(choice.candidates))
        warnings = [*_unknown(host, options), *work.warnings(choice)]
        return Outcome(
            before,
            work.views(keys),
            changed,
            {**facts, **_counted(host, changed=changed), "warnings": warnings},
            tuple(host.settled),
        )


def _pools(host: Run) -> list[PoolRecord]:
    """The pools that are meant, and are up."""
    found = host.store.all(PoolRecord, "formatted")
    is_meant = [one for one in found if not host.settings.names_pool or one.name == host.settings.pool.value]
    return [pool for pool in is_meant if host.dm.find(pool.uuid) is not None]


def _unknown(host: Run, options: PruneOptions) -> list[str]:
    """That the key or the pool that is named is not known."""
    pool = host.settings.pool.value if host.settings.names_pool else ""
    unknown = unknown_pool(host, pool) if pool and host.store.pool(pool) is None else []
    return unknown + (unknown_key(host, options.key) if options.key else [])


def _counted(host: Run, *, changed: bool) -> Facts:
    repeated = host.retry.repeated
    attempts = 1 + repeated if repeated or (changed and not host.dry_run) else 0
    return {"attempts": attempts, "waited_seconds": round(host.retry.waited_seconds, 3)}


def _combined(errors: Sequence[tuple[Candidate, FlydError]], count: int) -> FlydError:
    """The one error, or the first one's kind with what each has said."""
    _candidate, first = errors[0]
    if len(errors) == 1:
        return first
    shown = "; ".join(f"{one.image.object_key} sha256:{one.image.sha256[:12]}: {error.msg}" for one, error in errors)
    return error_from_json(
        {
            **error_to_json(first),
            "msg": f"{len(errors)} of {count} generations could not be removed: {shown}",
            "retryable": all(error.retryable for _one, error in errors),
            "trail": [],
        }
    )
