# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: snapshots, bases and archives of a key are removed, of all its generations.

Invariant: a device that somebody uses stops a removal before anything is written down; once the intent is committed, the removal is
carried on by whichever run comes next. What others still need (a base with snapshots, an archive that two keys share) stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from .._errors import OutOfOrder
from .._host.crash import crash_point
from .._host.files import remove_file
from .advance import Arrow
from .archives import state_without_base
from .host import Host
from .outcome import Facts
from .receipt import forget_parts
from .records import Image, OperationKind, PoolRecord, Snapshot, State, Volume, VolumeState
from .store import utc_now
from .views import forgotten, image_view, without_base, without_snapshot
from .volumes import destroy_volume, unmap, used_bytes


class RemoveSnapshot(Arrow):
    """flyd_snapshot, state absent: the snapshots of that name are gone, of every generation of the key."""

    name = "remove snapshot"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, snapshot_name: str) -> None:
        self._key = key
        self._name = snapshot_name

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether there is none."""
        return None if self._found(host) else {"removed": [], "freed_bytes": 0}

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """Which devices would go."""
        removed = [snapshot.device for _generation, snapshot in self._found(host)]
        return without_snapshot(image_view(host, image), self._name), {"removed": removed}

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove them, one intent each."""
        found = self._found(host)
        before = used_bytes(host)
        for generation, snapshot in found:
            remove_snapshot(host, generation, snapshot)
        log["bytes"] = max(0, before - used_bytes(host))
        removed = [snapshot.device for _generation, snapshot in found]
        return host.store.image_or_new(self._key), {"removed": removed, "freed_bytes": log["bytes"]}

    def _found(self, host: Host) -> list[tuple[Image, Snapshot]]:
        return [
            (generation, snapshot)
            for generation in host.store.generations(self._key)
            for snapshot in _snapshots(host, [generation])
            if snapshot.name == self._name
        ]


class RemoveBase(Arrow):
    """flyd_unpack, state absent: no generation of the key has a base. ``force`` takes their snapshots along."""

    name = "remove base"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, *, force: bool) -> None:
        self._key = key
        self._force = force

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether there is none."""
        return None if self._found(host) else {"removed": [], "freed_bytes": 0}

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """Which devices would go."""
        found = self._found(host)
        snapshots = self._allowed(host, found)
        removed = [snapshot.device for snapshot in snapshots] + [generation.pool_device for generation in found]
        return without_base(image_view(host, image)), {"removed": removed}

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove the snapshots first, then the bases, one intent each."""
        found = self._found(host)
        removed = [snapshot.device for snapshot in self._allowed(host, found)] + [one.pool_device for one in found]
        before = used_bytes(host)
        for generation in found:
            remove_base(host, generation)
        log["bytes"] = max(0, before - used_bytes(host))
        return host.store.image_or_new(self._key), {"removed": removed, "freed_bytes": log["bytes"]}

    def _found(self, host: Host) -> list[Image]:
        return [generation for generation in host.store.generations(self._key) if generation.base_ulid]

    def _allowed(self, host: Host, found: Iterable[Image]) -> list[Snapshot]:
        snapshots = _snapshots(host, found)
        if snapshots and not self._force:
            raise OutOfOrder(
                f"the base of {self._key} has {len(snapshots)} snapshots: {', '.join(one.device for one in snapshots)}",
                hint="remove them first (flyd_snapshot, state: absent), or set force to remove them with their base",
            )
        return snapshots


class RemoveArchive(Arrow):
    """flyd_fetch, state absent: the key is forgotten, its archives and parts of them are gone. ``force`` takes its bases along."""

    name = "remove archive"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, *, force: bool) -> None:
        self._key = key
        self._force = force

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether the key is unknown."""
        return (
            None
            if host.store.generations(self._key) or host.store.downloads(self._key)
            else {"removed": [], "freed_bytes": 0}
        )

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """Which devices and files would go."""
        return forgotten(), {"removed": self._devices(host) + self._archives(host)}

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove what no other key needs, then forget the key: the other way round, a killed run would leave files that nobody knows."""
        devices, before = self._devices(host), used_bytes(host)
        for generation in self._unpacked(host):
            remove_base(host, generation)
        with host.store.transaction():  # a run for another key commits no row of these between the look and the deed
            archives = self._archives(host)
            log["bytes"] = sum(os.stat(path).st_blocks * 512 for path in archives) + max(0, before - used_bytes(host))
            for path in archives:
                remove_file(path)
        forget_parts(host, self._key)
        crash_point("remove:deleted")
        with host.store.transaction():
            for generation in host.store.generations(self._key):
                host.store.drop(generation)
        return host.store.image_or_new(self._key), {"removed": devices + archives, "freed_bytes": log["bytes"]}

    def _unpacked(self, host: Host) -> list[Image]:
        return [generation for generation in host.store.generations(self._key) if generation.base_ulid]

    def _devices(self, host: Host) -> list[str]:
        unpacked = self._unpacked(host)
        if unpacked and not self._force:
            raise OutOfOrder(
                f"{self._key} is still unpacked as {', '.join(one.pool_device for one in unpacked)}",
                hint="remove its base first (flyd_unpack, state: absent), or set force to remove it with its snapshots; the role flyd.lite.deactivate does so",
            )
        return [one.device for one in _snapshots(host, unpacked)] + [one.pool_device for one in unpacked]

    def _archives(self, host: Host) -> list[str]:
        generations = host.store.generations(self._key)
        digests = {digest for one in generations for digest in one.digests} - host.store.digests_of_others(self._key)
        paths = [host.archive_path(digest) for digest in sorted(digests)]
        return [path for path in paths if os.path.exists(path)]


def remove_snapshot(host: Host, image: Image, snapshot: Snapshot) -> None:
    """Unmap and delete one snapshot; raises ``Busy`` that names who uses it, with nothing changed."""
    left = [one for one in _snapshots(host, [image]) if one.ulid != snapshot.ulid]
    _remove_volume(host, snapshot.ulid, _without(image, snapshot, left), snapshot)


def remove_base(host: Host, image: Image) -> None:
    """Delete the base of one generation, after its snapshots."""
    for snapshot in _snapshots(host, [image]):
        remove_snapshot(host, image, snapshot)
    _remove_volume(host, image.base_ulid, image_without_base(host, image), None)


def _remove_volume(host: Host, ulid: str, after: Image, snapshot: Snapshot | None) -> None:
    volume = host.store.find(Volume, "ulid=?", ulid)
    if volume is None:
        return
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    if pool is None or host.dm.find(pool.uuid) is None:
        raise OutOfOrder(f"the pool of {volume.device_name} is not active", hint="run flyd_pool first")
    unmap(host, volume)
    operation = host.begin(OperationKind.REMOVE, after.object_key, volume_ulid=ulid)
    with host.store.transaction():
        host.store.put(operation)
        if snapshot is not None:
            host.store.drop(snapshot)
        host.store.put(volume._replace(state=VolumeState.DELETING))
        host.store.put(after)
    crash_point("remove:planned")
    destroy_volume(host, pool, volume)
    with host.store.transaction():
        host.store.drop(operation)


def _snapshots(host: Host, generations: Iterable[Image]) -> list[Snapshot]:
    return [found for image in generations for found in host.store.all(Snapshot, "image_id=?", image.id)]


def _without(image: Image, snapshot: Snapshot, left: list[Snapshot]) -> Image:
    """``image`` once only the snapshots in ``left`` are there."""
    is_default = snapshot.device == image.snap_device
    return image._replace(
        state=State.ACTIVATED if left else min(image.state, State.UNPACKED, key=lambda state: state.rank),
        snap_device="" if is_default else image.snap_device,
        updated_at=utc_now(),
    )


def image_without_base(host: Host, image: Image) -> Image:
    """``image`` once it has neither base nor snapshots."""
    return image._replace(
        state=state_without_base(host, image),
        pool_device="",
        snap_device="",
        base_ulid="",
        config="{}",
        summary="{}",
        updated_at=utc_now(),
    )
