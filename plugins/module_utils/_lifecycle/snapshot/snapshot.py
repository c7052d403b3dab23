# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""unpacked → activated: a writable snapshot of the base is mapped for use.

Invariant: a name of an image has one snapshot; running again maps it again when it is not mapped (after a reboot) and never makes a
second one.
"""

from __future__ import annotations

import os

from ..._errors import CorruptStore
from ..._thin.dm.device import SECTOR_BYTES
from ..diff import activated, drive_of, image_facts, image_view, known_id, unpacked
from ..image.advance import Arrow
from ..image.placement import require_in_pool
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, PoolRecord, Snapshot, State, Volume
from ..store.store import utc_now
from .names import path_of
from .options import SnapshotOptions


class Activate(Arrow):
    """The arrow of flyd_snapshot."""

    name = "snapshot"
    start = State.UNPACKED
    end = State.ACTIVATED
    makes_volume = True

    def __init__(self, options: SnapshotOptions) -> None:
        self._asked = self._options = options  # as given, and with what a replaced snapshot had
        self.assumes_generation = "generation" in options.assume
        self.named_sha256 = options.sha256

    def admit(self, host: Run, image: Image) -> None:
        """Refuse another pool than the one that the image lies in."""
        require_in_pool(host, image, host.settings.pool.value)

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether the named snapshot is recorded and mapped, with the node as asked for."""
        snapshot = self._recorded(host, image)
        if snapshot is None or self._options.recreate:
            return None
        volume = _volume_of(host, snapshot)
        device = host.dm.find(volume.uuid)
        if device is None or not device.sectors or device.suspended or not os.path.exists(device.path):
            return None
        if (device.sectors, device.read_only) != (volume.sectors, snapshot.read_only) or self._differs(
            host, snapshot, volume
        ):
            return None
        return None if self._options.access.differs(device.path) else _facts(host, image, snapshot, volume)

    def view(self, host: Run, image: Image) -> Facts:
        """The image, and of the size and the node what was asked for."""
        view, access, snapshot = self._image_view(host, image), self._asked.access, self._recorded(host, image)
        if self._asked.size_bytes:
            view["size"] = None if snapshot is None else _volume_of(host, snapshot).sectors * SECTOR_BYTES
        path = self._node(host, snapshot)
        return {**view, "node": None if path is None else access.found(path)} if access.asked() else view

    def _node(self, host: Run, snapshot: Snapshot | None) -> str | None:
        """The path of the snapshot's node, when it is there."""
        device = None if snapshot is None else host.dm.find(_volume_of(host, snapshot).uuid)
        return None if device is None or not os.path.exists(device.path) else device.path

    def _as_before(self, host: Run, snapshot: Snapshot) -> SnapshotOptions:
        """The options for a new snapshot in the place of this one."""
        from .recreate import as_before  # late, as below

        return as_before(snapshot, _volume_of(host, snapshot).sectors * SECTOR_BYTES, self._options)

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """The device is known when the snapshot exists and only has to be mapped."""
        snapshot, replaced = self._recorded(host, image), []
        if snapshot is not None and self._options.recreate:
            from .recreate import require_replaceable

            require_replaceable(host, snapshot)
            self._options = self._as_before(host, snapshot)
            replaced, snapshot = [snapshot.device], None
        if snapshot is not None:
            self._differs(host, snapshot, _volume_of(host, snapshot))
        else:
            self._foresee(host, image)
        facts = {**self._predicted_facts(host, image, snapshot), **({"removed": replaced} if replaced else {})}
        changes = activated(
            self._image_view(host, image),
            self._options.name.value,
            device=None if snapshot is None else snapshot.device,
            read_only=self._read_only(snapshot),
        )
        if self._asked.size_bytes:
            changes["size"] = facts["size"] or self._new_size(host, image)
        asked = self._asked.access.asked(self._node(host, snapshot))
        return {**changes, "node": asked} if asked else changes, facts

    def _new_size(self, host: Run, image: Image) -> int:
        """The size of a snapshot that is to be made, in bytes, as far as its base is known."""
        base = host.store.find(Volume, "ulid=?", image.base_ulid)
        pool = base and host.store.find(PoolRecord, "id=?", base.pool_id)
        if base is None or pool is None:
            return self._options.size_bytes
        from .make_snapshot import sectors_of_new

        return sectors_of_new(pool, base, self._options.size_bytes) * SECTOR_BYTES

    def _foresee(self, host: Run, image: Image) -> None:
        """Raise what the real run will find when it makes the snapshot, as far as the base is known."""
        from ..volumes.room import foresee_volume  # late, as below
        from .make_snapshot import sectors_of_new

        base = host.store.find(Volume, "ulid=?", image.base_ulid)
        pool = base and host.store.find(PoolRecord, "id=?", base.pool_id)
        if base is not None and pool is not None:
            sectors_of_new(pool, base, self._options.size_bytes)
        foresee_volume(host, pool_changes="pool" in self._options.assume, snapshots=1)

    def _predicted_facts(self, host: Run, image: Image, snapshot: Snapshot | None) -> Facts:
        if snapshot is not None:
            from .change import wanted_sectors

            volume = _volume_of(host, snapshot)
            after = volume._replace(sectors=wanted_sectors(host, volume, self._options))
            return _facts(host, image, snapshot._replace(read_only=self._read_only(snapshot)), after)
        return {
            **image_facts(image),
            "pool": host.settings.pool.value,
            "base_device": image.pool_device or None,
            "name": self._options.name.value,
            "read_only": bool(self._options.read_only),
            **dict.fromkeys(("device", "snap_device", "ulid", "size", "drive")),
            "path": path_of(self._options.key, self._options.name.value),
            "msg": "Image would be activated at a new device, of a snapshot named by a fresh ULID",
        }

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Make the snapshot if its name has none, map it, and set its node's owner and mode."""
        # Late: a run with nothing to do needs nothing of how volumes are made.
        from ..volumes.volumes import active_pool, map_thin
        from .make_snapshot import make_snapshot

        pool = active_pool(host, host.settings.pool.value)
        snapshot = self._recorded(host, image)
        if snapshot is not None and self._options.recreate:
            from .recreate import Replaced

            self._options = self._as_before(host, snapshot)
            image, snapshot = make_snapshot(
                host, pool, image, self._options, Replaced(host, str(self._options.key), snapshot)
            )
        elif snapshot is None:
            image, snapshot = make_snapshot(host, pool, image, self._options)
        elif image.state is not State.ACTIVATED:  # its base was lost and made again; the snapshot has outlived it
            image = image._replace(state=State.ACTIVATED, updated_at=utc_now())
            with host.store.transaction():
                host.store.put(image)
        volume = _volume_of(host, snapshot)
        if self._differs(host, snapshot, volume) or _is_mapped_otherwise(host, snapshot, volume):
            from .change import change

            snapshot, volume = change(host, snapshot, volume, self._options)
        device = map_thin(host, pool, volume, read_only=snapshot.read_only)
        self._options.access.apply(device.path)
        self._remember_access(host, snapshot, device.path)
        facts = _facts(host, image, snapshot, volume)
        if self._asked.recreate and host.removed:
            facts["removed"] = list(host.removed)
        log.update(device=snapshot.device, name=snapshot.name, size=facts["size"], message=facts["msg"])
        return image, facts

    def _image_view(self, host: Run, image: Image) -> Facts:
        """Of a generation that is only assumed, with the base that flyd_unpack would have made too."""
        view = image_view(host, image)
        return {**view, **unpacked(host.settings.pool.value)} if known_id(image) is None and image.id else view

    def _remember_access(self, host: Run, snapshot: Snapshot, path: str) -> None:
        """So that the node is the same after a reboot. What was not asked for stays as it was."""
        access = self._options.access
        mode = str(access.found(path).get("mode", ""))
        after = snapshot._replace(
            uid=snapshot.uid if access.uid < 0 else access.uid,
            gid=snapshot.gid if access.gid < 0 else access.gid,
            mode=int(mode, 8) if mode else snapshot.mode,
        )
        if after != snapshot:
            with host.store.transaction():
                host.store.put(after)

    def _recorded(self, host: Run, image: Image) -> Snapshot | None:
        return host.store.find(Snapshot, "image_id=? AND name=?", image.id, self._options.name.value)

    def _differs(self, host: Run, snapshot: Snapshot, volume: Volume) -> bool:
        """Whether another size or another way to map it is asked for than the snapshot has; raises ``BadInput`` for a smaller one."""
        if not self._options.size_bytes and self._options.read_only in (None, snapshot.read_only):
            return False
        from .change import differs, require_not_smaller  # late: most runs ask for neither

        require_not_smaller(host, snapshot, volume, self._options)
        return differs(host, snapshot, volume, self._options)

    def _read_only(self, snapshot: Snapshot | None) -> bool:
        """How the snapshot is mapped afterwards."""
        if snapshot is not None and self._options.read_only is None:
            return snapshot.read_only
        return bool(self._options.read_only)


def _is_mapped_otherwise(host: Run, snapshot: Snapshot, volume: Volume) -> bool:
    """Whether the device does not refuse writes as recorded: a run was killed that was to change it."""
    device = host.dm.find(volume.uuid)
    return device is not None and device.sectors > 0 and device.read_only != snapshot.read_only


def _volume_of(host: Run, snapshot: Snapshot) -> Volume:
    volume = host.store.find(Volume, "ulid=?", snapshot.ulid)
    if volume is None:
        raise CorruptStore(
            f"the store lists the snapshot {snapshot.ulid} but no volume for it",
            hint="restore flyd.db (below state_dir) from a backup",
        )
    return volume


def _facts(host: Run, image: Image, snapshot: Snapshot, volume: Volume) -> Facts:
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    return {
        **image_facts(image),
        "pool": pool and pool.name,
        "base_device": image.pool_device or None,
        "name": snapshot.name,
        "device": snapshot.device,
        "snap_device": snapshot.device,
        "path": path_of(image.object_key, snapshot.name),
        "ulid": snapshot.ulid,
        "size": volume.sectors * SECTOR_BYTES,
        "read_only": snapshot.read_only,
        "drive": drive_of(snapshot),
        "msg": f"SUCCESS: Image activated at device {snapshot.device}",
    }
