# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activate a recorded pool and map its recorded snapshots, as before a reboot.

Invariant: only what the store records is activated, as it was recorded. Nothing new is created, no base is mapped, and an image without
a snapshot gets none. The image's lock is held, so nothing that is mapped here is being removed elsewhere.
"""

from __future__ import annotations

from ..._errors import CorruptStore, FlydError, doing
from ..._host.processes.crash import crash_point
from ..._thin.dm.table import PoolStatus
from ..._thin.pool.backing import device_identity
from ..._thin.pool.thin_pool import activate, deactivate, require_sound, status
from ..run import Run
from ..snapshot.device_node import NodeAccess
from ..store.lock_names import image_lock
from ..store.records import Image, PoolRecord, RetiredImage, Snapshot, Volume, VolumeState
from ..volumes.instance_links import restore_links
from ..volumes.volumes import map_thin
from .create import spec_of
from .state import is_active, unmapped_snapshots


def bring_up(host: Run, pool: PoolRecord) -> PoolStatus:
    """Activate the pool if it is not, and see that it is the one that the store knows."""
    was_active = is_active(host, pool)
    if not was_active:
        require_same_disk(host, pool)
        activate(host.dm, host.runner, spec_of(pool), may_format=False)
    try:
        return status_of_known(host, pool)
    except CorruptStore:
        if not was_active:
            deactivate(host.dm, host.runner, spec_of(pool))
        raise


def require_same_disk(host: Run, pool: PoolRecord) -> None:
    """Raise ``CorruptStore`` when the data device is another disk than the one that the pool was made on.

    Only the metadata bears a mark: with data of others below it, the pool would come up and write over them. A device whose identity was
    not recorded is known from now on, except in a dry run.
    """
    found = "" if pool.is_loop else device_identity(pool.data, host.dm.sysfs)
    if found in ("", pool.data_identity):
        return
    if pool.data_identity:
        sql = f"UPDATE pools SET data_identity='' WHERE name='{pool.name}'"  # noqa: S608 - for an operator to run
        raise CorruptStore(
            f"the data device {pool.data} is another disk ({found}) than the pool '{pool.name}' was made on ({pool.data_identity})",
            hint="names of devices have changed places: bring the right disk back under this name. If all of its data was copied to "
            f'this disk on purpose: sqlite3 {host.settings.path("flyd.db")} "{sql}"; then run again',
        )
    if not host.dry_run:
        with host.store.transaction():
            host.store.put((host.store.pool(pool.name) or pool)._replace(data_identity=found))


def status_of_known(host: Run, pool: PoolRecord) -> PoolStatus:
    """The status of the pool, which is up; raises ``CorruptStore`` when it is not the one that it was. Writes nothing.

    Its transaction is one of those that the store had while the status was read, or one ahead by a step that is not yet recorded.
    """
    before = host.store.pool(pool.name) or pool
    now = status(host.dm, pool.name)
    after = host.store.pool(pool.name) or pool
    # One that has failed reports no numbers; require_healthy says so.
    if not now.has_failed and not before.transaction_id <= now.transaction_id <= after.transaction_id + 1:
        raise CorruptStore(
            f"the metadata at {after.metadata} is at transaction {now.transaction_id}, the store at {after.transaction_id}: this is not the pool it was",
            hint="the pool was recreated or exchanged, or flyd.db comes from a backup: restore the one that fits (state_dir). Nothing was changed",
        )
    return now


def map_again(host: Run, pool: PoolRecord) -> list[str]:
    """The devices of the snapshots that were not there and are now; in a dry run, of those that would be."""
    unmapped = [snapshot.device for snapshot in unmapped_snapshots(host, pool)]
    if not unmapped or host.dry_run:
        return unmapped
    with host.log.transition("restore", pool=pool.name) as log:
        restored = map_snapshots(host, pool)
        log["snapshots"] = len(restored)
    return restored


def map_snapshots(host: Run, pool: PoolRecord) -> list[str]:
    """Map the recorded snapshots of the pool, which is up, that are not mapped; their devices.

    One that cannot be mapped does not keep the others away: the first error is raised once all were tried. Raises ``DamagedPool`` at
    once for a pool that is not sound.
    """
    done: list[str] = []
    failed: list[FlydError] = []
    unmapped = unmapped_snapshots(host, pool)
    if unmapped:
        require_sound(status(host.dm, pool.name))
    for snapshot in unmapped:
        crash_point("restore:mapping")
        try:
            with doing(f"bringing back {snapshot.device}"), host.lock(image_lock(_key_of(host, snapshot))):
                done += map_snapshot(host, pool, snapshot.ulid)
        except FlydError as error:
            failed.append(error)
    if done:
        restore_links(host)
    if failed:
        raise failed[0]
    return done


def map_snapshot(host: Run, pool: PoolRecord, ulid: str) -> list[str]:
    """Under the lock of its image or pool: the device of the snapshot, none when ``ulid`` is no snapshot, or not any more."""
    snapshot = host.store.find(Snapshot, "ulid=?", ulid)
    volume = host.store.find(Volume, "ulid=? AND state=?", ulid, VolumeState.LIVE.value)
    if snapshot is None or volume is None:
        return []
    device = map_thin(host, pool, volume, read_only=snapshot.read_only)
    NodeAccess.recorded(snapshot.uid, snapshot.gid, snapshot.mode).apply(device.path)
    return [snapshot.device]


def _key_of(host: Run, snapshot: Snapshot) -> str:
    generations = (
        *host.store.all(Image, "id=?", snapshot.image_id),
        *host.store.all(RetiredImage, "id=?", snapshot.image_id),
    )
    return generations[0].object_key if generations else ""
