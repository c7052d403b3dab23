# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin ids: made and deleted so that the pool and the store never disagree for longer than one step.

Invariant: each change of the pool's metadata is one step under the pool's lock: the volume's row says what is about to happen
(``planned``, ``deleting``), the pool gets the message, its transaction id goes up by one, and row and id are committed together. A run that
was interrupted inside a step leaves the pool at most one transaction ahead, and a row that says why.
"""

from __future__ import annotations

import contextlib
from typing import Callable

from ..._errors import CorruptStore, FlydError, NoSpace, OutOfOrder
from ..._host.processes.crash import crash_point
from ..._names import new_ulid
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.device_mapper import Device
from ..._thin.dm.table import PoolStatus
from ..._thin.pool.metadata import read_thin_ids
from ..._thin.pool.reserve import RESERVED_ID
from ..._thin.pool.thin_pool import ThinPool, require_healthy, status
from ..._thin.volume import discard, map_volume, unmap_volume
from ..pool.state import refuse_unfinished
from ..run import Run
from ..store.lock_names import pool_lock
from ..store.records import Operation, PoolRecord, Volume, VolumeState
from .manifests import remove_manifest
from .room import require_pool_health


def active_pool(host: Run, name: str) -> PoolRecord:
    """The pool of that name; raises ``OutOfOrder`` when it was never made, only half, or is not active."""
    pool = host.store.pool(name)
    if pool is not None:  # first: its device may be gone already, and flyd_pool is not the remedy then
        refuse_unfinished(host, pool)
    if pool is None or not pool.formatted or host.dm.find(pool.uuid) is None:
        problem = (
            "does not exist" if pool is None else "is not active on this host" if pool.formatted else "is half made"
        )
        raise _not_active(name, problem)
    return pool


def _not_active(name: str, problem: str) -> OutOfOrder:
    return OutOfOrder(
        f"the thin pool '{name}' {problem}", hint="run flyd_pool first; the role flyd.lite.activate does so"
    )


def create_volume(
    host: Run, pool: PoolRecord, operation: Operation, *, kind: str, sectors: int, origin: Volume | None = None
) -> Volume:
    """A new thin volume, or a snapshot of ``origin``; ``operation`` (already with its volume's ULID) is its intent.

    Raises ``NoSpace`` when the pool has less data or metadata free than must stay free, or 2^24 ids are taken; ``CorruptStore`` when
    the pool holds an id that the store does not know: that one is another program's, so its row goes at once, lest undoing the intent
    delete it; ``OutOfOrder`` when ``origin`` is being removed, or is gone: a removal says so in its row before it takes this lock, and begins after.
    """
    with host.lock(pool_lock(pool.name)):
        pool, now = _checked(host, pool)
        require_pool_health(pool, now)
        if origin is not None and host.store.find(Volume, "ulid=?", origin.ulid) != origin:
            raise OutOfOrder(f"{origin.device_name} is being removed", hint="run flyd_unpack again")
        volume = Volume(operation.volume_ulid, pool.id, _free_thin_id(host, pool), kind, sectors, VolumeState.PLANNED)
        with host.store.transaction():
            host.store.put(volume)
            host.store.put(operation)
        crash_point(f"{kind}:planned")
        thin = ThinPool(host.dm, pool.name)
        make = thin.create_thin if origin is None else lambda thin_id: thin.create_snap(thin_id, origin.thin_id)
        created = volume._replace(state=VolumeState.CREATED)
        try:
            _step(host, pool, lambda: make(volume.thin_id), lambda: host.store.put(created), label=kind)
        except CorruptStore as error:
            if error.details.get("errno") == "EEXIST":
                with host.store.transaction():
                    host.store.drop(volume)
            raise
    return created


def destroy_volume(host: Run, pool: PoolRecord, volume: Volume) -> None:
    """Unmap the volume and delete its thin id; what is gone already is no error. Ends with its row gone.

    What only it has is discarded first, so that a pool in files gives the host its room back: deleting a thin id does not do that.
    Nothing of it is touched in a pool of another time: there its thin id may be another volume's.
    """
    doomed = volume._replace(state=VolumeState.DELETING)
    with host.lock(pool_lock(pool.name)):
        check_transaction(host, pool)
        with host.store.transaction():
            host.store.put(doomed)
    unmap(host, volume)
    try:
        discard(host.runner, map_thin(host, pool, volume).path)
    except FlydError as error:  # a pool in trouble must still forget it, but the host does not get its room back
        if error.details.get("errno") != "ENODATA":  # it was never made
            facts = {"volume": volume.device_name, "error_kind": error.kind.value, "error": str(error)}
            host.log.write("not discarded", **facts)
    crash_point("delete:discarded")
    unmap(host, volume)
    with host.lock(pool_lock(pool.name)):
        pool = check_transaction(host, pool)
        remove_manifest(host, volume)
        thin = ThinPool(host.dm, pool.name)
        _step(host, pool, lambda: thin.delete(volume.thin_id), lambda: host.store.drop(doomed), label="delete")


def at_rest(host: Run, origin: Volume) -> contextlib.AbstractContextManager[None]:
    """Suspend a base that another program has mapped: the kernel wants that of an origin (thin-provisioning.rst, "Internal snapshots")."""
    found = host.dm.find(origin.uuid)
    return contextlib.nullcontext() if found is None else host.dm.suspended(found.name)


def map_thin(host: Run, pool: PoolRecord, volume: Volume, *, read_only: bool = False) -> Device:
    """The volume's device, mapped, running and with its node, whatever it was before."""
    pool_device = host.dm.find(pool.uuid)
    if pool_device is None:
        raise _not_active(pool.name, "is not active any more")
    return map_volume(
        host.dm,
        pool_device,
        name=volume.device_name,
        uuid=volume.uuid,
        thin_id=volume.thin_id,
        sectors=volume.sectors,
        read_only=read_only,
    )


def unmap(host: Run, volume: Volume) -> bool:
    """Unmap the volume's device, a half-made one too; says whether there was one. ``Busy`` names who holds it."""
    return unmap_volume(host.dm, volume.device_name, volume.uuid)


def new_volume_ulid() -> str:
    """The ULID of a volume that is about to be made."""
    return str(new_ulid())


def check_transaction(host: Run, pool: PoolRecord) -> PoolRecord:
    """Under the pool's lock: the pool and the store must be of one time; a step that was interrupted is acknowledged.

    Raises ``CorruptStore`` when the transaction ids differ by more than one unfinished step explains.
    """
    return _checked(host, pool)[0]


def _checked(host: Run, pool: PoolRecord) -> tuple[PoolRecord, PoolStatus]:
    pool = _reread(host, pool)
    now = status(host.dm, pool.name)
    actual = now.transaction_id
    if actual == pool.transaction_id:
        return pool, now
    if now.has_failed:
        require_healthy(now, 0)
    unfinished = host.store.all(Volume, "pool_id=? AND state IN ('planned', 'deleting')", pool.id)
    if actual != pool.transaction_id + 1 or not unfinished:
        raise CorruptStore(
            f"the thin pool '{pool.name}' is at transaction {actual}, the store at {pool.transaction_id}: they do not belong together",
            hint="the store comes from a backup, or another program has changed the pool: restore the flyd.db of state_dir that belongs to it",
        )
    pool = pool._replace(transaction_id=actual)
    with host.store.transaction():
        host.store.put(pool)
    return pool, now


def used_bytes(host: Run) -> int:
    """How much of their data space the pools that are up have given out."""
    return sum(
        status(host.dm, pool.name).used_data_blocks * pool.block_sectors * SECTOR_BYTES
        for pool in host.store.all(PoolRecord, "formatted")
        if host.dm.find(pool.uuid) is not None
    )


def _step(host: Run, pool: PoolRecord, effect: Callable[[], object], record: Callable[[], None], *, label: str) -> None:
    effect()
    crash_point(f"{label}:sent")
    after = pool._replace(transaction_id=pool.transaction_id + 1)
    ThinPool(host.dm, pool.name).set_transaction_id(pool.transaction_id, after.transaction_id)
    crash_point(f"{label}:numbered")
    with host.store.transaction():
        record()
        host.store.put(after)
    crash_point(f"{label}:recorded")


def _reread(host: Run, pool: PoolRecord) -> PoolRecord:
    found = host.store.find(PoolRecord, "id=?", pool.id)
    if found is None:
        raise OutOfOrder(f"the thin pool '{pool.name}' was removed meanwhile", hint="run flyd_pool first")
    return found


def _free_thin_id(host: Run, pool: PoolRecord) -> int:
    """The lowest id above all that are in use or in doubt, on either side, or a gap below them when there is none above."""
    taken = {int(row[0]) for row in host.store.rows("SELECT thin_id FROM volumes WHERE pool_id=?", pool.id)}
    taken |= read_thin_ids(pool.metadata)
    above = max(taken - {RESERVED_ID}, default=0) + 1
    if above < RESERVED_ID:
        return above
    gap = next((thin_id for thin_id in range(1, RESERVED_ID) if thin_id not in taken), None)
    if gap is None:
        raise NoSpace(
            f"the thin pool '{pool.name}' has no thin id left",
            hint="remove snapshots that are not used (flyd_snapshot, state: absent)",
        )
    return gap


def undo_after(host: Run, pool: PoolRecord, operation: Operation, error: BaseException) -> None:
    """Give back what ``operation`` has made, after ``error``; what cannot be given back now stays an open intent for the next run."""
    try:
        volume = host.store.find(Volume, "ulid=?", operation.volume_ulid)
        if volume is not None:
            destroy_volume(host, pool, volume)
        with host.store.transaction():
            host.store.drop(operation)
    except (FlydError, OSError) as second:
        if isinstance(error, FlydError):
            error.details["left_for_next_run"] = f"{operation.kind.value} {operation.ulid}: {second}"
