# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling: what runs that were cut off left behind is finished or undone before anything else is done.

Invariant: after it, every open intent belongs to a process that is alive, or to a pool that is not active yet. Only what an
intent or a row of the store names is touched.
"""

from __future__ import annotations

from .._errors import Busy, doing
from .._host.process import Identity
from .host import Host
from .lock import dead_locks
from .records import Operation, OperationKind, PoolRecord, Volume, VolumeState
from .volumes import destroy_volume

# Their own modules take these up again: flyd_pool goes on with a pool, flyd_fetch with the bytes that it has.
_TAKEN_UP_AGAIN = (OperationKind.POOL, OperationKind.TEARDOWN, OperationKind.FETCH)


def abandoned(host: Host) -> list[Operation]:
    """The open intents whose process is gone, and which any run may settle."""
    return [
        found
        for found in host.store.all(Operation)
        if found.kind not in _TAKEN_UP_AGAIN and not Identity(found.boot_id, found.pid, found.started).is_alive()
    ]


def is_tidy(host: Host) -> bool:
    """Whether no run that was cut off has left an intent or a lock behind."""
    return not abandoned(host) and not dead_locks(host.store)


def settle(host: Host) -> None:
    """Finish or undo every abandoned intent; says what it did in ``host.settled``. In a dry run it only says."""
    for operation in abandoned(host):
        with (
            host.lock("settling"),
            doing(f"settling the {operation.kind.value} of {operation.subject} that was cut off"),
        ):
            try:
                _settle_one(host, operation)
            except Busy as error:
                # Its device is still in use. The intent stays, and what is asked for now does not depend on it.
                host.settled.append(f"left the {operation.kind.value} of {operation.subject} for later: {error.msg}")


def _settle_one(host: Host, operation: Operation) -> None:
    if host.store.find(Operation, "ulid=?", operation.ulid) is None:
        return  # another process settled it while this one waited
    volume = host.store.find(Volume, "ulid=?", operation.volume_ulid)
    pool = None if volume is None else _active_pool_of(host, volume)
    if volume is not None and pool is None:
        return  # its pool comes back with flyd_pool; the intent waits for it
    do, did = ("finish", "finished") if operation.kind is OperationKind.REMOVE else ("undo", "undid")
    what = f"the {operation.kind.value} of {operation.subject}" + (f" ({volume.device_name})" if volume else "")
    if host.dry_run:
        host.settled.append(f"would {do} {what}")
        return
    if volume is not None and pool is not None and volume.state is not VolumeState.LIVE:
        destroy_volume(host, pool, volume)
    with host.store.transaction():
        host.store.drop(operation)
    host.settled.append(f"{did} {what}")
    host.log.write("settled", what=host.settled[-1], operation=operation.ulid)


def _active_pool_of(host: Host, volume: Volume) -> PoolRecord | None:
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    return pool if pool is not None and host.dm.find(pool.uuid) is not None else None
