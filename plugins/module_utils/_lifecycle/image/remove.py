# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the snapshots and bases of a key, of all its generations or of the one that is named by its SHA-256.

Invariant: all devices are checked, and then unmapped, before the first is removed, so a device in use stops a removal with
nothing removed. Once the intent is committed, the next run finishes an interrupted removal. A base with snapshots stays.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._errors import OutOfOrder
from ..diff import image_view, without_base, without_snapshot
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, Snapshot, State
from ..volumes.unmapping import require_removable, unmap_all
from ..volumes.volumes import used_bytes
from .advance import Arrow
from .placement import require_all_in_pool
from .remove_volumes import remove_bases, remove_snapshot, snapshots_of, volumes_of
from .unknown import unknown_generation, unknown_snapshot


class RemoveSnapshot(Arrow):
    """flyd_snapshot, state absent: the snapshots of that name are gone, of every generation of the key or of the named one."""

    name = "remove snapshot"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, snapshot_name: str, *, sha256: str = "") -> None:
        self._key = key
        self._name = snapshot_name
        self._sha256 = sha256

    def admit(self, host: Run, image: Image) -> None:
        """See ``require_named_pool``."""
        require_named_pool(host, generations_meant(host, self._key, self._sha256))

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether there is none."""
        return (
            None if self._found(host) else nothing_removed(unknown_snapshot(host, self._key, self._name, self._sha256))
        )

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """Which devices would go."""
        found = self._found(host)
        snapshots = [snapshot for _generation, snapshot in found]
        require_removable(host, volumes_of(host, snapshots))
        removed, ids = [snapshot.device for snapshot in snapshots], [generation.id for generation, _snapshot in found]
        return without_snapshot(image_view(host, image), self._name, ids), {"removed": removed, "freed_bytes": None}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove them, one intent each."""
        found = self._found(host)
        volumes = volumes_of(host, [snapshot for _generation, snapshot in found])
        require_removable(host, volumes)
        before = used_bytes(host)
        unmap_all(host, volumes)
        for generation, snapshot in found:
            remove_snapshot(host, generation, snapshot)
        log["freed_bytes"] = max(0, before - used_bytes(host))
        return host.store.image_or_new(self._key), {"removed": list(host.removed), "freed_bytes": log["freed_bytes"]}

    def _found(self, host: Run) -> list[tuple[Image, Snapshot]]:
        return [
            (generation, snapshot)
            for generation in generations_meant(host, self._key, self._sha256)
            for snapshot in snapshots_of(host, [generation])
            if snapshot.name == self._name
        ]


class RemoveBase(Arrow):
    """flyd_unpack, state absent: no generation of the key, or not the named one, has a base. ``force`` takes their snapshots along.

    ``image_id`` names one generation where several may have a digest.
    """

    name = "remove base"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, *, force: bool, sha256: str = "", image_id: str = "") -> None:
        self._key = key
        self._force = force
        self._sha256 = sha256
        self._image_id = image_id

    def admit(self, host: Run, image: Image) -> None:
        """See ``require_named_pool``."""
        require_named_pool(host, self._meant(host))

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether there is none."""
        return None if self._found(host) else nothing_removed(unknown_generation(host, self._key, self._sha256))

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """Which devices would go."""
        found = self._found(host)
        snapshots = self._allowed(host, found)
        require_removable(host, volumes_of(host, snapshots, found))
        removed = devices_of(snapshots, found)
        ids = [generation.id for generation in found]
        return without_base(image_view(host, image), ids), {"removed": removed, "freed_bytes": None}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove the snapshots first, then the bases, one intent each."""
        found = self._found(host)
        before = used_bytes(host)
        remove_bases(host, found, self._allowed(host, found))
        log["freed_bytes"] = max(0, before - used_bytes(host))
        return host.store.image_or_new(self._key), {"removed": list(host.removed), "freed_bytes": log["freed_bytes"]}

    def _meant(self, host: Run) -> list[Image]:
        return generations_meant(host, self._key, self._sha256, self._image_id)

    def _found(self, host: Run) -> list[Image]:
        return [generation for generation in self._meant(host) if generation.base_ulid]

    def _allowed(self, host: Run, found: Iterable[Image]) -> list[Snapshot]:
        snapshots = snapshots_of(host, found)
        if snapshots and not self._force:
            raise OutOfOrder(
                f"the base of {self._key} has {len(snapshots)} snapshots: {', '.join(one.device for one in snapshots)}",
                hint="remove them first (flyd_snapshot, state: absent), or set force to remove them with their base",
            )
        return snapshots


def generations_meant(host: Run, key: str, sha256: str, image_id: str = "") -> list[Image]:
    """The generations of ``key`` that a removal is of: all of them, or those with this digest, or with this id."""
    found = host.store.generations(key)
    return [one for one in found if sha256 in ("", one.sha256) and image_id in ("", one.id)]


def devices_of(snapshots: Iterable[Snapshot], bases: Iterable[Image] = ()) -> list[str]:
    """The paths of the snapshots' devices, then of the bases'."""
    return [one.device for one in snapshots] + [one.pool_device for one in bases if one.pool_device]


def require_named_pool(host: Run, generations: Iterable[Image]) -> None:
    """Refuse a pool that is named and does not hold all that is to be removed."""
    if host.settings.names_pool:
        require_all_in_pool(host, generations, host.settings.pool.value)


def nothing_removed(warnings: list[str]) -> Facts:
    """What a removal returns that finds nothing there."""
    return {"removed": [], "freed_bytes": 0, "warnings": warnings}
