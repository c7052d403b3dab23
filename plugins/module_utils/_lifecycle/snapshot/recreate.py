# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A snapshot is replaced by a new one of the same name, with the content of the base.

Invariant: the new volume is complete before the old one goes, and one transaction records both changes: a run that fails or is killed
leaves the old snapshot or the new one under the name, never none.
"""

from __future__ import annotations

from ..image.bound import require_unbound
from ..image.remove_volumes import volumes_of
from ..run import Run
from ..store.records import Operation, OperationKind, PoolRecord, Snapshot, Volume, VolumeState
from ..volumes.unmapping import require_removable, unmap_all
from ..volumes.volumes import destroy_volume
from .device_node import NodeAccess
from .options import SnapshotOptions


def require_replaceable(host: Run, snapshot: Snapshot) -> None:
    """Raise ``Busy`` when the device is in use, ``OutOfOrder`` when an instance points at it. Writes nothing."""
    require_removable(host, volumes_of(host, [snapshot]))


def as_before(snapshot: Snapshot, volume_bytes: int, options: SnapshotOptions) -> SnapshotOptions:
    """``options``, with what they leave out as the old snapshot has it: size, read_only, and the owner, group and mode of the node."""
    asked, was = options.access, NodeAccess.recorded(snapshot.uid, snapshot.gid, snapshot.mode)
    access = NodeAccess(
        was.uid if asked.uid < 0 else asked.uid,
        was.gid if asked.gid < 0 else asked.gid,
        asked.mode or was.mode,
    )
    read_only = snapshot.read_only if options.read_only is None else options.read_only
    return options._replace(size_bytes=options.size_bytes or volume_bytes, read_only=read_only, access=access)


class Replaced:
    """The old snapshot, on its way out."""

    def __init__(self, host: Run, key: str, snapshot: Snapshot) -> None:
        self._host = host
        self._key = key
        self._snapshot = snapshot
        self._volumes = volumes_of(host, [snapshot])
        self._removals: list[tuple[Operation, Volume]] = []

    def unmap(self) -> None:
        """Unmap its device; raises ``Busy`` when it came into use meanwhile."""
        require_removable(self._host, self._volumes)
        unmap_all(self._host, self._volumes)

    def record(self) -> None:
        """In the caller's transaction: it is gone, and the removal of its volume is an open intent."""
        store = self._host.store
        require_unbound(self._host, [self._snapshot.ulid])
        for volume in self._volumes:
            operation = self._host.begin(OperationKind.REMOVE, self._key, volume_ulid=volume.ulid)
            store.put(operation)
            store.put(volume._replace(state=VolumeState.DELETING))
            self._removals.append((operation, volume))
        store.drop(self._snapshot)

    def destroy(self) -> None:
        """Delete its volume from the pool, after the transaction."""
        for operation, volume in self._removals:
            self._host.removed.append(volume.device_path)
            pool = self._host.store.find(PoolRecord, "id=?", volume.pool_id)
            if pool is not None:
                destroy_volume(self._host, pool, volume)
            with self._host.store.transaction():
                self._host.store.drop(operation)
