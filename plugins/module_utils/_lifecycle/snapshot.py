# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""unpacked → activated: a writable snapshot of the base is mapped for use.

Invariant: a name of an image has one snapshot; running again maps it again when it is not mapped (after a reboot) and never makes a
second one.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .._errors import BadInput, CorruptStore
from .._names import ObjectKey, ShortName
from .._thin.device import SECTOR_BYTES
from .advance import Arrow
from .host import Host
from .node import NodeAccess
from .outcome import Facts
from .records import Image, Snapshot, State, Volume
from .store import utc_now
from .views import activated, image_view

DEFAULT_NAME = "default"


class SnapshotOptions(NamedTuple):
    """What flyd_snapshot was asked for; ``size_bytes`` 0 means as large as the base."""

    key: ObjectKey
    name: ShortName
    size_bytes: int
    read_only: bool
    access: NodeAccess


class Activate(Arrow):
    """The arrow of flyd_snapshot."""

    name = "snapshot"
    start = State.UNPACKED
    end = State.ACTIVATED

    def __init__(self, options: SnapshotOptions) -> None:
        self._options = options

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether the named snapshot is recorded and mapped, with the node as asked for."""
        snapshot = self._recorded(host, image)
        if snapshot is None:
            return None
        volume = _volume_of(host, snapshot)
        device = host.dm.find(volume.uuid)
        if device is None or not device.sectors or device.suspended or not os.path.exists(device.path):
            return None
        self._require_same(snapshot, volume)
        return None if self._options.access.differs(device.path) else _facts(image, snapshot, volume)

    def view(self, host: Host, image: Image) -> Facts:
        """The image, and of the node what was asked for."""
        view, access, snapshot = image_view(host, image), self._options.access, self._recorded(host, image)
        device = None if snapshot is None else host.dm.find(_volume_of(host, snapshot).uuid)
        node = None if device is None or not os.path.exists(device.path) else access.found(device.path)
        return {**view, "node": node} if access.asked() else view

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """The device is known when the snapshot exists and only has to be mapped."""
        snapshot = self._recorded(host, image)
        if snapshot is not None:
            self._require_same(snapshot, _volume_of(host, snapshot))
        else:
            from .pool_asked import refuse_sick  # late, as below

            refuse_sick(host)
        changes = activated(
            image_view(host, image),
            self._options.name.value,
            device=None if snapshot is None else snapshot.device,
            read_only=self._options.read_only,
        )
        asked = self._options.access.asked()
        return {**changes, "node": asked} if asked else changes, {
            "image_id": image.id or None,
            "device": snapshot.device if snapshot else None,
            "ulid": snapshot.ulid if snapshot else None,
        }

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Make the snapshot if its name has none, map it, and set its node's owner and mode."""
        # Late: a run with nothing to do needs nothing of how volumes are made.
        from .snapshot_making import make_snapshot
        from .volumes import active_pool, map_thin

        pool = active_pool(host, host.settings.pool.value)
        snapshot = self._recorded(host, image)
        if snapshot is None:
            image, snapshot = make_snapshot(host, pool, image, self._options)
        elif image.state is not State.ACTIVATED:  # its base was lost and made again; the snapshot has outlived it
            image = image._replace(state=State.ACTIVATED, updated_at=utc_now())
            with host.store.transaction():
                host.store.put(image)
        volume = _volume_of(host, snapshot)
        self._require_same(snapshot, volume)
        if volume.pool_id != pool.id:
            raise BadInput(
                f"the snapshot {snapshot.name} of {self._options.key} is not in the pool {pool.name}",
                hint="name the pool that holds it",
            )
        device = map_thin(host, pool, volume, read_only=snapshot.read_only)
        self._options.access.apply(device.path)
        self._remember_access(host, snapshot)
        log.update(device=snapshot.device, name=snapshot.name, bytes=volume.sectors * SECTOR_BYTES)
        return image, _facts(image, snapshot, volume)

    def _remember_access(self, host: Host, snapshot: Snapshot) -> None:
        """So that the node is the same after a reboot. What was not asked for stays as it was."""
        access = self._options.access
        after = snapshot._replace(
            uid=snapshot.uid if access.uid < 0 else access.uid,
            gid=snapshot.gid if access.gid < 0 else access.gid,
            mode=snapshot.mode if access.mode < 0 else access.mode,
        )
        if after != snapshot:
            with host.store.transaction():
                host.store.put(after)

    def _recorded(self, host: Host, image: Image) -> Snapshot | None:
        return host.store.find(Snapshot, "image_id=? AND name=?", image.id, self._options.name.value)

    def _require_same(self, snapshot: Snapshot, volume: Volume) -> None:
        size_bytes = volume.sectors * SECTOR_BYTES
        if snapshot.read_only != self._options.read_only or self._options.size_bytes > size_bytes:
            raise BadInput(
                f"the snapshot {snapshot.name} of {self._options.key} exists with read_only={snapshot.read_only} and {size_bytes} bytes",
                hint="an existing snapshot keeps its size and mode: choose another name, or remove this one first",
            )


def _volume_of(host: Host, snapshot: Snapshot) -> Volume:
    volume = host.store.find(Volume, "ulid=?", snapshot.ulid)
    if volume is None:
        raise CorruptStore(
            f"the store lists the snapshot {snapshot.ulid} but no volume for it", hint="restore flyd.db from a backup"
        )
    return volume


def _facts(image: Image, snapshot: Snapshot, volume: Volume) -> Facts:
    return {
        "image_id": image.id,
        "name": snapshot.name,
        "device": snapshot.device,
        "ulid": snapshot.ulid,
        "size": volume.sectors * SECTOR_BYTES,
        "read_only": snapshot.read_only,
        "drive": {
            "drive_id": "rootfs",
            "path_on_host": snapshot.device,
            "is_root_device": True,
            "is_read_only": snapshot.read_only,
        },
    }
