# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling: what runs that were cut off left behind is finished or undone before anything else is done.

Invariant: after it, every open intent belongs to a process that is alive, or to a pool that is not active yet; every live volume of the
store is in its pool; no base is suspended but by who is at work with it. Only what an intent or a row of the store names is touched.
"""

from __future__ import annotations

from .._errors import Busy, doing
from .._host.process import Identity, own_identity
from .host import Host
from .lock import dead_locks
from .records import Image, Operation, OperationKind, PoolRecord, RetiredImage, Volume, VolumeState

# Their own modules take these up again: flyd_pool goes on with a pool, flyd_fetch with the bytes that it has.
_TAKEN_UP_AGAIN = (
    OperationKind.POOL,
    OperationKind.GROW,
    OperationKind.REPAIR,
    OperationKind.CHECK,
    OperationKind.TEARDOWN,
    OperationKind.FETCH,
)


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
    from .lost import settle_lost  # late, as below: most runs have nothing to do and settle nothing

    for pool in host.store.all(PoolRecord, "formatted"):
        if host.dm.find(pool.uuid) is not None:
            settle_lost(host, pool)
    _resume_bases(host)


def _resume_bases(host: Host) -> None:
    """A base that somebody had mapped was suspended for a snapshot, and whoever did so was killed: let its users go on."""
    suspended = {device.uuid: device for device in host.dm.devices() if device.suspended}
    for image in (*host.store.all(Image), *host.store.all(RetiredImage)) if suspended else ():
        base = host.store.find(Volume, "ulid=?", image.base_ulid)
        if base is None or base.uuid not in suspended or _is_worked_on(host, image):
            continue
        if not host.dry_run:
            host.dm.resume(base.device_name)
        host.settled.append(
            f"{'would resume' if host.dry_run else 'resumed'} {base.device_name}, which was left suspended"
        )


def _is_worked_on(host: Host, image: Image) -> bool:
    """Whether another run holds the image's lock."""
    rows = host.store.rows("SELECT boot_id, pid, started FROM _busy WHERE name=?", f"image {image.object_key}")
    return any(Identity(*row).is_alive() and Identity(*row) != own_identity() for row in rows)


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
        from .volumes import destroy_volume

        destroy_volume(host, pool, volume)
    with host.store.transaction():
        host.store.drop(operation)
    host.settled.append(f"{did} {what}")
    host.log.write("settled", what=host.settled[-1], operation=operation.ulid)


def _active_pool_of(host: Host, volume: Volume) -> PoolRecord | None:
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    return pool if pool is not None and host.dm.find(pool.uuid) is not None else None
