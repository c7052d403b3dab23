# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A new snapshot: made of a base at rest, grown, mapped, recorded.

Invariant: the base is not mapped while it is snapshotted, or is suspended for that moment. A snapshot that a guest may have written
is never mounted on this host.
"""

from __future__ import annotations

import json

from ..._errors import BadInput, CorruptStore, doing
from ..._host.processes.command import Program
from ..._host.processes.crash import crash_point
from ..._names import exact_size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.filesystem import grow
from ..._thin.ext4.sizing import grown_bytes_for
from ..run import Run
from ..store.records import (
    Image,
    Operation,
    OperationKind,
    PoolRecord,
    Snapshot,
    State,
    Volume,
    VolumeState,
    shown_device,
)
from ..store.store import utc_now
from ..volumes.room import require_room
from ..volumes.volumes import at_rest, create_volume, map_thin, new_volume_ulid, undo_after, unmap
from .options import SnapshotOptions
from .recreate import Replaced


def make_snapshot(
    host: Run, pool: PoolRecord, image: Image, asked: SnapshotOptions, replaced: Replaced | None = None
) -> tuple[Image, Snapshot]:
    """A new snapshot of the base of ``image``, recorded and mapped; what was begun is undone when it fails.

    ``replaced`` is the snapshot that has the name so far, which goes once the new one is complete.
    """
    base = host.store.find(Volume, "ulid=? AND state=?", image.base_ulid, VolumeState.LIVE.value)
    if base is None or base.pool_id != pool.id:
        raise CorruptStore(
            f"the base volume of {asked.key} is not in the pool '{pool.name}'",
            hint="run flyd_unpack again, or give pool the name of the one that holds it",
        )
    sectors = sectors_of_new(pool, base, asked.size_bytes)
    require_room(host, pool, _grown_bytes(pool, image, base, sectors), what="the snapshot", snapshots=1)
    host.runner.require(Program.DMSETUP, *((Program.E2FSCK, Program.RESIZE2FS) if sectors > base.sectors else ()))
    operation = host.begin(OperationKind.SNAPSHOT, str(asked.key), volume_ulid=new_volume_ulid())
    try:
        with at_rest(host, base):
            volume = create_volume(host, pool, operation, kind="snap", sectors=sectors, origin=base)
        if sectors > base.sectors:
            _grow(host, pool, volume)
        map_thin(host, pool, volume, read_only=bool(asked.read_only))
        crash_point("snapshot:mapped")
        if replaced is not None:
            replaced.unmap()
    except BaseException as error:
        undo_after(host, pool, operation, error)
        raise
    recorded = _record(host, image, asked, volume, operation, replaced)
    if replaced is not None:
        crash_point("remove:planned")
        replaced.destroy()
    return recorded


def _record(
    host: Run,
    image: Image,
    asked: SnapshotOptions,
    volume: Volume,
    operation: Operation,
    replaced: Replaced | None,
) -> tuple[Image, Snapshot]:
    """Commit the new snapshot, with the end of the one that it replaces."""
    snapshot = Snapshot(volume.ulid, image.id, asked.name.value, volume.device_path, bool(asked.read_only), utc_now())
    others = [one for one in host.store.all(Snapshot, "image_id=?", image.id) if one.name != snapshot.name]
    after = image._replace(state=State.ACTIVATED, snap_device=shown_device([*others, snapshot]), updated_at=utc_now())
    with host.store.transaction():
        if replaced is not None:
            replaced.record()
        host.store.put(volume._replace(state=VolumeState.LIVE))
        host.store.put(snapshot)
        host.store.put(after)
        host.store.drop(operation)
    return after, snapshot


def sectors_of_new(pool: PoolRecord, base: Volume, size_bytes: int) -> int:
    """The length of a new snapshot; raises ``BadInput`` for a size that is smaller than the base."""
    wanted = -(-size_bytes // (pool.block_sectors * SECTOR_BYTES)) * pool.block_sectors
    if size_bytes and wanted < base.sectors:
        raise BadInput(
            f"size: {exact_size_text(size_bytes)} is smaller than the base, which has {exact_size_text(base.sectors * SECTOR_BYTES)}",
            hint="a snapshot can be as large as its base or larger; leave size out for the same size",
        )
    return wanted or base.sectors


def _grown_bytes(pool: PoolRecord, image: Image, base: Volume, sectors: int) -> int:
    """What the file system takes of the pool when it grows to ``sectors``; nothing when it does not."""
    if sectors == base.sectors:
        return 0
    inodes = int(json.loads(image.summary).get("inodes", 0))
    return grown_bytes_for(
        base.sectors * SECTOR_BYTES, sectors * SECTOR_BYTES, inodes, pool.block_sectors * SECTOR_BYTES
    )


def _grow(host: Run, pool: PoolRecord, volume: Volume) -> None:
    """Let the file system fill a snapshot that is larger than its base; no guest has written it yet. Leaves it unmapped."""
    with doing(f"growing the file system on {volume.device_name}"):
        grow(host.runner, map_thin(host, pool, volume).path)
        unmap(host, volume)
