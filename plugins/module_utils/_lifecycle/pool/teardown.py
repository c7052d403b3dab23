# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a pool: its device, its loop devices, its files, and its row.

Invariant: only a pool of the store is removed, only when it is empty or on request, and never under a foreign device. An interrupted
teardown is finished before anything else is done with a pool of that name. It does not query the pool, so a failed one can be removed too.
"""

from __future__ import annotations

import contextlib
import glob
import os

from ..._errors import FlydError, ForeignDevice, OutOfOrder, doing
from ..._host.files.durable import remove_file, sync_directory
from ..._host.processes.crash import crash_point
from ..._names import ShortName
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.in_use import require_loops_free
from ..._thin.loop import find_all
from ..._thin.pool.metadata import has_superblock, read_superblock
from ..._thin.pool.repair import blank_superblock
from ..._thin.pool.thin_pool import deactivate
from ..attempts import attempted
from ..backup.keep import copies_beside
from ..backup.metadata_dumps import remove_dumps
from ..diff import no_pool, pool_view
from ..image.bound import require_unbound
from ..image.remove_volumes import image_without_base
from ..image.unknown import unknown_pool
from ..outcome import Facts, Outcome
from ..run import Run
from ..store.lock_names import pool_setup_lock
from ..store.records import Image, Operation, OperationKind, PoolRecord, RetiredImage, Snapshot, Volume
from ..volumes.hidden import HIDDEN
from ..volumes.manifests import remove_manifest
from ..volumes.missing_volumes import foreign_thin_ids
from ..volumes.recover import nothing_to_recover, recover
from ..volumes.unmapping import require_pool_free, take_down
from .create import spec_of
from .state import is_active

_MOST_SHOWN = 5
_KINDS_OF_A_POOL = "'pool', 'grow', 'repair', 'check', 'teardown'"


def remove_pool(host: Run, name: ShortName, *, force: bool) -> Outcome:
    """Tear the pool down, or find that there is none. ``force`` takes the images in it along."""
    with doing(f"removal of the pool '{name}'"):
        return attempted(host, lambda: _removed(host, name, force=force), transition="remove pool", pool=name.value)


def _removed(host: Run, name: ShortName, *, force: bool) -> Outcome:
    gone = no_pool(name.value)
    if host.store.pool(name.value) is None and nothing_to_recover(host):
        return Outcome(gone, gone, False, _nothing(host, name))
    with host.lock(pool_setup_lock(name.value)):
        pool = host.store.pool(name.value)
        if pool is None:
            recover(host)
            return Outcome(gone, gone, False, _nothing(host, name), tuple(host.settled))
        before = pool_view(pool, active=is_active(host, pool))
        recover(host)
        _require_empty(host, pool, force=force)
        _require_no_others(host, pool, force=force)
        require_unbound(host, _ulids_in(host, pool))
        require_pool_free(host, pool)
        _require_loops_free(host, pool)
        removed = [pool.device_path, *([pool.data, pool.metadata] if pool.is_loop else [])]
        freed_bytes = _allocated_bytes(pool)
        if not host.dry_run:
            with host.log.transition("remove pool", pool=pool.name, freed_bytes=freed_bytes):
                take_down(host, pool)
                finish_teardown(host, pool)
        facts = {"removed": removed, "freed_bytes": freed_bytes}
        return Outcome(before, gone, True, facts, tuple(host.settled))


def _nothing(host: Run, name: ShortName) -> Facts:
    return {"removed": [], "freed_bytes": 0, "warnings": unknown_pool(host, name.value)}


def finish_teardown(host: Run, pool: PoolRecord) -> None:
    """Carry a teardown through, from wherever an earlier one was interrupted. What lives in the pool goes with it, at once.

    From its intent on the pool counts as removed: nothing else is done with it any more.
    """
    if host.store.find(Operation, "kind=? AND subject=?", OperationKind.TEARDOWN.value, pool.name) is None:
        with host.store.transaction():
            require_unbound(host, _ulids_in(host, pool))
            host.store.put(host.begin(OperationKind.TEARDOWN, pool.name))
    host.removed.append(pool.device_path)
    crash_point("teardown:planned")
    deactivate(host.dm, host.runner, spec_of(pool))
    crash_point("teardown:deactivated")
    if pool.is_loop:
        for path in (pool.data, pool.metadata):
            remove_file(path)
            host.removed.append(path)
        for path in _repair_copies(pool.metadata):
            remove_file(path)
    else:
        _wipe(host, pool)
        for path in _repair_copies(host.settings.path("pools", pool.id, "metadata")):
            remove_file(path)
    for path in copies_beside(host.settings, pool):
        remove_file(path)
    remove_dumps(host.settings, pool.name)
    _remove_directory(host.settings.path("pools", pool.id))
    for volume in host.store.all(Volume, "pool_id=?", pool.id):
        remove_manifest(host, volume)
    crash_point("teardown:removed")
    with host.store.transaction():
        _forget(host, pool)


def _ulids_in(host: Run, pool: PoolRecord) -> list[str]:
    return [volume.ulid for volume in host.store.all(Volume, "pool_id=?", pool.id)]


def _wipe(host: Run, pool: PoolRecord) -> None:
    """Blank the metadata device, so that another pool can be made on it, unless what it holds by now is not this pool's.

    A device that is gone, or broken, or in use by now, does not keep the pool.
    """
    try:
        if not has_superblock(pool.metadata):
            return
        if read_superblock(pool.metadata).transaction_id in (pool.transaction_id, pool.transaction_id + 1):
            blank_superblock(pool.metadata)
    except FlydError as error:
        host.log.write("not blanked", device=pool.metadata, error_kind=error.kind.value, error=str(error))


def _forget(host: Run, pool: PoolRecord) -> None:
    """Inside a transaction: no row names the pool any more, and its images are back at their archives."""
    volumes = host.store.all(Volume, "pool_id=?", pool.id)
    for image in _images_in(host, volumes):
        host.store.put(image_without_base(host, image))
    for volume in volumes:
        for record in (Snapshot, Operation):
            column = "ulid" if record is Snapshot else "volume_ulid"
            for row in host.store.all(record, f"{column}=?", volume.ulid):
                host.store.drop(row)
        host.store.drop(volume)
    for operation in host.store.all(Operation, f"subject=? AND kind IN ({_KINDS_OF_A_POOL})", pool.name):
        host.store.drop(operation)
    host.store.drop(pool)


def _require_empty(host: Run, pool: PoolRecord, *, force: bool) -> None:
    volumes = host.store.all(Volume, "pool_id=? AND kind!=?", pool.id, HIDDEN)
    if volumes and not force:
        keys = sorted({image.object_key for image in _images_in(host, volumes)})
        raise OutOfOrder(
            f"the pool '{pool.name}' holds {len(volumes)} volumes, of {', '.join(keys)}",
            hint="remove the images first (role flyd.lite.deactivate), or set force to remove them with the pool",
        )


def _require_no_others(host: Run, pool: PoolRecord, *, force: bool) -> None:
    """Another program's volumes in the pool stop its end. ``force`` takes those that are not mapped: a store that came from a backup knows fewer."""
    device = host.dm.find(pool.uuid)
    ours = {volume.uuid for volume in host.store.all(Volume, "pool_id=?", pool.id)}
    mapped = [] if device is None else [one.name for one in host.dm.on_top_of(device) if one.uuid not in ours]
    if mapped:
        raise ForeignDevice(
            f"the pool '{pool.name}' is held by {', '.join(mapped)}, which are not ours",
            hint="they are left alone: remove those devices (`dmsetup remove`) if they are not needed, then run again",
        )
    foreign = [] if force else _foreign_thin_ids(host, pool)
    if foreign:
        raise OutOfOrder(
            f"the pool '{pool.name}' has thin ids that the store does not know: {', '.join(map(str, foreign[:_MOST_SHOWN]))}",
            hint="another program has made them, or the database comes from a backup; set force to remove them with the pool",
        )


def _foreign_thin_ids(host: Run, pool: PoolRecord) -> list[int]:
    """Those that the metadata tells; none when it cannot be read, for a pool that has failed must be removable."""
    try:
        return foreign_thin_ids(host, pool)
    except FlydError:
        return []


def _images_in(host: Run, volumes: list[Volume]) -> list[Image]:
    """The generations whose base or snapshots are among ``volumes``."""
    ulids = {volume.ulid for volume in volumes}
    with_snapshots = {one.image_id for one in host.store.all(Snapshot) if one.ulid in ulids}
    images = (*host.store.all(Image), *host.store.all(RetiredImage))
    return [image for image in images if image.base_ulid in ulids or image.id in with_snapshots]


def _require_loops_free(host: Run, pool: PoolRecord) -> None:
    """A loop of the pool that others have open would keep its file: the kernel detaches it only once they are gone."""
    loops = find_all(host.runner, [pool.data, pool.metadata], sysfs=host.dm.sysfs) if pool.is_loop else {}
    require_loops_free(host.dm, [loop.path for loop in loops.values()], pool.name)


def _allocated_bytes(pool: PoolRecord) -> int:
    """What the files of the pool take on the host's disk."""
    paths = [path for path in (pool.data, pool.metadata) if pool.is_loop and os.path.exists(path)]
    return sum(os.stat(path).st_blocks * SECTOR_BYTES for path in paths)


def _repair_copies(metadata: str) -> list[str]:
    return sorted(glob.glob(f"{glob.escape(metadata)}.before-repair-*"))


def _remove_directory(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path)
        sync_directory(os.path.dirname(path))
