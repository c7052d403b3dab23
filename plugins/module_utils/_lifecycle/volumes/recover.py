# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settling: what runs that were interrupted left behind is finished or undone before anything else is done.

Invariant: after it, every open intent belongs to a process that is alive, or to a pool that is not active or is in trouble, which is reported;
every live volume of the store is in its pool; no base and no pool is suspended but by who is at work with it; each part of a download in
the spool has its intent. Only what an intent or a row of the store names is touched, and in the spool what bears an intent's name. What
cannot be settled never stops what was asked for: that meets the same trouble itself, if it needs what is in trouble, and if not, it must
not suffer; nor must the ways out (a pool that grows, is repaired, is torn down).
"""

from __future__ import annotations

from typing import Callable

from ..._errors import FlydError
from ..._host.processes.process import Identity, own_identity
from ..._thin.dm.device import Device
from ..findings import RecoveryKind, of_pool
from ..instance.link import DIRECTORY
from ..instance.waiting import is_in_time, waits
from ..run import Run
from ..store.instance_record import Instance
from ..store.lock import dead_locks, is_dead
from ..store.lock_names import RECOVERY, image_lock, pool_setup_lock
from ..store.records import Image, Operation, OperationKind, PoolRecord, RetiredImage, Volume, VolumeState
from .instance_links import restore_links, wrong_links
from .manifests import DIRECTORY as MANIFESTS
from .manifests import sweep_manifests
from .orphaned_parts import ownerless_parts, remove_ownerless_parts

# Their own modules take these up again: flyd_pool resumes a pool, flyd_fetch with the bytes that it has.
_TAKEN_UP_AGAIN = (
    OperationKind.POOL,
    OperationKind.GROW,
    OperationKind.REPAIR,
    OperationKind.CHECK,
    OperationKind.TEARDOWN,
    OperationKind.FETCH,
)


def abandoned(host: Run) -> list[Operation]:
    """The open intents whose process is gone, or whose attempt of this run has failed, and which any run may settle.

    A bind that waits to be confirmed outlives its process, until its time has passed.
    """
    return [
        found
        for found in host.store.all(Operation)
        if found.kind not in _TAKEN_UP_AGAIN and (found.ulid in host.given_up or not _is_open(host, found))
    ]


def _is_open(host: Run, operation: Operation) -> bool:
    if operation.kind is OperationKind.BIND and waits(host, operation):
        return is_in_time(host, operation)
    return Identity(operation.boot_id, operation.pid, operation.started).is_alive()


def nothing_to_recover(host: Run) -> bool:
    """Whether no run that was interrupted has left an intent, a lock or a part of a download behind, and the names of instances are right."""
    return (
        not abandoned(host)
        and not dead_locks(host.store)
        and not ownerless_parts(host)
        and not any(True for _wrong in wrong_links(host))
    )


def recover(host: Run, *, coming_up: str = "") -> None:
    """Finish or undo every abandoned intent; says what it did, and what it could not do, in ``host.settled``.

    In a dry run it only says, of the pool with the id ``coming_up`` as if it were up.
    """
    _resume(host)  # first: what is undone below would wait for it
    for operation in abandoned(host):
        with host.lock(RECOVERY):
            try:
                _settle_one(host, operation, coming_up)
            except FlydError as error:
                _leave(host, operation.subject, f"the {operation.kind.value} of {operation.subject}", error)
    _sweep(host)
    _try(host, sweep_manifests, host.settings.path(MANIFESTS), "manifests of bases that are gone")
    _try(host, restore_links, DIRECTORY, "the names of instances")
    from .missing_volumes import settle_lost  # late, as below: most runs have nothing to do and settle nothing

    for pool in host.store.all(PoolRecord, "formatted"):
        if host.dm.find(pool.uuid) is not None:
            try:
                settle_lost(host, pool)
            except FlydError as error:
                _leave(host, of_pool(pool.name), f"what the pool '{pool.name}' may have lost", error)


def _sweep(host: Run) -> None:
    """Remove the parts of downloads that belong to no run."""
    left = ownerless_parts(host)
    if not left:
        return
    if host.dry_run:
        for path in left:
            host.report(RecoveryKind.FILE_REMOVED, path, f"would remove {path}, which belongs to no run")
        return
    try:
        removed = remove_ownerless_parts(host)
    except FlydError as error:
        _leave(host, host.settings.path("spool"), "parts of downloads that belong to no run", error)
        return
    for path in removed:
        host.report(RecoveryKind.FILE_REMOVED, path, f"removed {path}, which belongs to no run")


def _try(host: Run, work: Callable[[Run], object], subject: str, what: str) -> None:
    try:
        work(host)
    except FlydError as error:
        _leave(host, subject, what, error)


def _leave(host: Run, subject: str, what: str, error: FlydError) -> None:
    """Its intent or its rows stay; its device is in use, or its pool is in trouble."""
    facts = {"error_kind": error.kind.value, "error": str(error)}
    host.report(RecoveryKind.NOT_RECOVERED, subject, f"left {what} for later: {error.msg}", **facts)


def _resume(host: Run) -> None:
    """Let the users go on of what was suspended by a run that was killed: a base for its snapshot, a pool for its growth."""
    suspended = {device.uuid: device for device in host.dm.devices() if device.suspended}
    if not suspended:
        return
    locks = {pool.uuid: pool_setup_lock(pool.name) for pool in host.store.all(PoolRecord)}
    for image in (*host.store.all(Image), *host.store.all(RetiredImage)):
        if base := host.store.find(Volume, "ulid=?", image.base_ulid):
            locks[base.uuid] = image_lock(image.object_key)
    for uuid, device in suspended.items():
        if uuid in locks and device.sectors and not _is_worked_on(host, locks[uuid]):
            try:
                _resume_one(host, device)
            except FlydError as error:
                _leave(host, device.path, f"{device.name}, which is suspended,", error)


def _resume_one(host: Run, device: Device) -> None:
    if not host.dry_run:
        host.dm.resume(device.name)
    text = f"{'would resume' if host.dry_run else 'resumed'} {device.name}, which was left suspended"
    host.report(RecoveryKind.DEVICE_RESUMED, device.path, text)


def _is_worked_on(host: Run, lock: str) -> bool:
    """Whether another run holds that lock."""
    rows = host.store.rows("SELECT boot_id, pid, started FROM _busy WHERE name=?", lock)
    return any(not is_dead(Identity(*row)) and Identity(*row) != own_identity() for row in rows)


def _settle_one(host: Run, operation: Operation, coming_up: str) -> None:
    if host.store.find(Operation, "ulid=?", operation.ulid) is None:
        return  # another process settled it while this one waited
    if operation.kind is OperationKind.BIND:
        _undo_bind(host, operation)
        return
    volume = host.store.find(Volume, "ulid=?", operation.volume_ulid)
    pool = None if volume is None else _active_pool_of(host, volume)
    if volume is not None and pool is None and not (host.dry_run and volume.pool_id == coming_up):
        return  # its pool comes back with flyd_pool; the intent waits for it
    is_removal = operation.kind is OperationKind.REMOVE
    kind = RecoveryKind.OPERATION_FINISHED if is_removal else RecoveryKind.OPERATION_UNDONE
    do, did = ("finish", "finished") if is_removal else ("undo", "undid")
    what = f"the {operation.kind.value} of {operation.subject}" + (f" ({volume.device_name})" if volume else "")
    if host.dry_run:
        host.report(kind, operation.subject, f"would {do} {what}")
        return
    if volume is not None and pool is not None and volume.state is not VolumeState.LIVE:
        from .volumes import destroy_volume

        destroy_volume(host, pool, volume)
    with host.store.transaction():
        host.store.drop(operation)
    host.report(kind, operation.subject, f"{did} {what}", operation=operation.ulid)


def _undo_bind(host: Run, operation: Operation) -> None:
    """The name goes back to what was confirmed last; a rollback on request is completed."""
    instance = host.store.find(Instance, "name=?", operation.subject)
    is_rollback = instance is not None and not instance.target_id
    kind = RecoveryKind.OPERATION_FINISHED if is_rollback else RecoveryKind.OPERATION_UNDONE
    do, did = ("finish", "finished") if is_rollback else ("undo", "undid")
    what = f"the {'rollback' if is_rollback else 'bind'} of the instance '{operation.subject}'"
    if host.dry_run:
        host.report(kind, operation.subject, f"would {do} {what}")
        return
    from ..instance.back import return_to_current  # late, as above

    failure = return_to_current(host, operation)
    text = f"{did} {what}" + (f", but its guest was not switched: {failure}" if failure else "")
    if failure:
        host.warnings.append(text)
    host.report(kind, operation.subject, text, operation=operation.ulid)


def _active_pool_of(host: Run, volume: Volume) -> PoolRecord | None:
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    return pool if pool is not None and host.dm.find(pool.uuid) is not None else None
