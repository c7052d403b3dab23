# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot that exists becomes larger, or refuses writes, or takes them again.

Invariant: the store says first what is to be; a run that is killed before the device follows is completed by the next one, which compares them.
The file system is the guest's: it is never touched once a guest may have had the device.
"""

from __future__ import annotations

from ..._errors import BadInput
from ..._names import exact_size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.in_use import require_free
from ..run import Run
from ..store.records import PoolRecord, Snapshot, Volume
from ..volumes.volumes import unmap
from .options import SnapshotOptions


def wanted_sectors(host: Run, volume: Volume, options: SnapshotOptions) -> int:
    """The length that is asked for, in whole blocks of the pool; that of the volume when none is."""
    if not options.size_bytes:
        return volume.sectors
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    block_sectors = pool.block_sectors if pool else 1
    return -(-options.size_bytes // (block_sectors * SECTOR_BYTES)) * block_sectors


def require_not_smaller(host: Run, snapshot: Snapshot, volume: Volume, options: SnapshotOptions) -> None:
    """Raise ``BadInput`` for a size below that of the snapshot."""
    if wanted_sectors(host, volume, options) < volume.sectors:
        raise BadInput(
            f"the snapshot '{snapshot.name}' of {options.key} exists with size: {exact_size_text(volume.sectors * SECTOR_BYTES)}, "
            f"and size: {exact_size_text(options.size_bytes)} is requested",
            hint="a snapshot can grow, not shrink: leave size out, give another name, or remove it (state: absent)",
        )


def differs(host: Run, snapshot: Snapshot, volume: Volume, options: SnapshotOptions) -> bool:
    """Whether the snapshot is recorded other than it is asked for."""
    return wanted_sectors(host, volume, options) != volume.sectors or options.read_only not in (
        None,
        snapshot.read_only,
    )


def change(host: Run, snapshot: Snapshot, volume: Volume, options: SnapshotOptions) -> tuple[Snapshot, Volume]:
    """Record what is asked for, and unmap a device that is mapped the other way; raises ``Busy`` when that one is in use."""
    read_only = snapshot.read_only if options.read_only is None else options.read_only
    sectors = wanted_sectors(host, volume, options)
    device = host.dm.find(volume.uuid)
    is_other_way = device is not None and device.sectors > 0 and device.read_only != read_only
    if is_other_way:
        require_free(host.dm, [(volume.device_name, volume.uuid)])
    if sectors > volume.sectors:
        host.warnings.append(
            f"the snapshot '{snapshot.name}' of {options.key} has grown to {exact_size_text(sectors * SECTOR_BYTES)}; its file system is the guest's: "
            "grow it there (resize2fs), while it runs or at its next start"
        )
    after, volume_after = snapshot._replace(read_only=read_only), volume._replace(sectors=sectors)
    if (after, volume_after) != (snapshot, volume):
        with host.store.transaction():
            host.store.put(after)
            host.store.put(volume_after)
    if is_other_way:
        unmap(host, volume)
    return after, volume_after
