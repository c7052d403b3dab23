# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal of the snapshots, bases and archives of a key, of all its generations or of the one that is named by its SHA-256.

Invariant: every device is asked, and all of them are unmapped, before the first is removed, so a device in use stops a removal with
nothing removed. Once the intent is committed, the removal is carried on by whichever run comes next. What others still need (a base with
snapshots, an archive that two keys share) stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..._errors import BadInput, OutOfOrder
from ..._host.processes.crash import crash_point
from ..._names import printable
from ..diff import forgotten, image_view, without_base, without_snapshot
from ..fetch.download import forget_parts
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, Snapshot, State
from ..volumes.unmapping import require_removable, unmap_all
from ..volumes.volumes import used_bytes
from .advance import Arrow
from .placement import require_all_in_pool
from .remove_volumes import remove_bases, remove_snapshot, snapshots_of, volumes_of
from .seals import remove_archive
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
        """See ``_admit``."""
        _admit(host, _meant(host, self._key, self._sha256))

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether there is none."""
        return None if self._found(host) else _nothing(unknown_snapshot(host, self._key, self._name, self._sha256))

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
            for generation in _meant(host, self._key, self._sha256)
            for snapshot in snapshots_of(host, [generation])
            if snapshot.name == self._name
        ]


class RemoveBase(Arrow):
    """flyd_unpack, state absent: no generation of the key, or not the named one, has a base. ``force`` takes their snapshots along."""

    name = "remove base"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, *, force: bool, sha256: str = "") -> None:
        self._key = key
        self._force = force
        self._sha256 = sha256

    def admit(self, host: Run, image: Image) -> None:
        """See ``_admit``."""
        _admit(host, _meant(host, self._key, self._sha256))

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether there is none."""
        return None if self._found(host) else _nothing(unknown_generation(host, self._key, self._sha256))

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """Which devices would go."""
        found = self._found(host)
        snapshots = self._allowed(host, found)
        require_removable(host, volumes_of(host, snapshots, found))
        removed = [snapshot.device for snapshot in snapshots] + [generation.pool_device for generation in found]
        ids = [generation.id for generation in found]
        return without_base(image_view(host, image), ids), {"removed": removed, "freed_bytes": None}

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove the snapshots first, then the bases, one intent each."""
        found = self._found(host)
        before = used_bytes(host)
        remove_bases(host, found, self._allowed(host, found))
        log["freed_bytes"] = max(0, before - used_bytes(host))
        return host.store.image_or_new(self._key), {"removed": list(host.removed), "freed_bytes": log["freed_bytes"]}

    def _found(self, host: Run) -> list[Image]:
        return [generation for generation in _meant(host, self._key, self._sha256) if generation.base_ulid]

    def _allowed(self, host: Run, found: Iterable[Image]) -> list[Snapshot]:
        snapshots = snapshots_of(host, found)
        if snapshots and not self._force:
            raise OutOfOrder(
                f"the base of {self._key} has {len(snapshots)} snapshots: {', '.join(one.device for one in snapshots)}",
                hint="remove them first (flyd_snapshot, state: absent), or set force to remove them with their base",
            )
        return snapshots


class RemoveArchive(Arrow):
    """flyd_fetch, state absent: the key is forgotten, its archives and parts of them are gone. ``force`` takes its bases along.

    Of a generation that is named, the same, and no other one becomes current.
    """

    name = "remove archive"
    start = State.NEW
    end = State.NEW

    def __init__(self, key: str, *, force: bool, bucket: str = "", sha256: str = "") -> None:
        self._key = key
        self._sha256 = sha256
        self._force = force
        self._bucket = bucket

    def admit(self, host: Run, image: Image) -> None:
        """Refuse another bucket than the one that the image is from; see ``_admit`` for its pool."""
        _admit(host, _meant(host, self._key, self._sha256))
        for one in _meant(host, self._key, self._sha256) if self._sha256 else [image]:
            if self._bucket and one.bucket not in ("", self._bucket):
                raise BadInput(
                    f"bucket is {printable(self._bucket)}, but {self._key} was fetched from {one.bucket}; nothing was removed",
                    hint="name that bucket, or leave bucket out: a key has one image on this host, whatever bucket it came from",
                    bucket=one.bucket,
                )

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether the key, or the generation, is unknown."""
        is_known = _meant(host, self._key, self._sha256) or (not self._sha256 and host.store.downloads(self._key))
        return None if is_known else _nothing(unknown_generation(host, self._key, self._sha256))

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """Which devices and files would go."""
        unpacked = self._unpacked(host)
        snapshots = self._allowed(host, unpacked)
        require_removable(host, volumes_of(host, snapshots, unpacked))
        devices = [one.device for one in snapshots] + [one.pool_device for one in unpacked]
        gone = [generation.id for generation in _meant(host, self._key, self._sha256)]
        return forgotten(image_view(host, image), gone), {
            "removed": devices + self._archives(host),
            "freed_bytes": None,
        }

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Remove what no other key needs, then forget the key: the other way round, a killed run would leave files that no row names."""
        unpacked, before = self._unpacked(host), used_bytes(host)
        remove_bases(host, unpacked, self._allowed(host, unpacked))
        with host.store.transaction():  # a run for another key commits no row of these between the look and the deed
            archives = self._archives(host)
            log["freed_bytes"] = sum(os.stat(path).st_blocks * 512 for path in archives) + max(
                0, before - used_bytes(host)
            )
            for path in archives:
                remove_archive(host, os.path.basename(path))
                host.removed.append(path)
        if not self._sha256:
            forget_parts(host, self._key)
        crash_point("remove:deleted")
        with host.store.transaction():
            for generation in _meant(host, self._key, self._sha256):
                host.store.drop(generation)
        return host.store.image_or_new(self._key), {"removed": list(host.removed), "freed_bytes": log["freed_bytes"]}

    def _unpacked(self, host: Run) -> list[Image]:
        return [generation for generation in _meant(host, self._key, self._sha256) if generation.base_ulid]

    def _allowed(self, host: Run, unpacked: list[Image]) -> list[Snapshot]:
        if unpacked and not self._force:
            raise OutOfOrder(
                f"{self._key} is still unpacked as {', '.join(one.pool_device for one in unpacked)}",
                hint="remove its base first (flyd_unpack, state: absent), or set force to remove it with its snapshots; the role flyd.lite.deactivate does so",
            )
        return snapshots_of(host, unpacked)

    def _archives(self, host: Run) -> list[str]:
        gone = {one.id: one.digests for one in _meant(host, self._key, self._sha256)}
        stay = {one.digests for one in host.store.generations(self._key) if one.id not in gone}
        digests = {digest for one in gone.values() for digest in one} - {digest for one in stay for digest in one}
        digests -= host.store.digests_of_others(self._key)
        paths = [host.archive_path(digest) for digest in sorted(digests)]
        return [path for path in paths if os.path.exists(path)]


def _meant(host: Run, key: str, sha256: str) -> list[Image]:
    """The generations of ``key`` that a removal is of: all of them, or those with this digest."""
    return [generation for generation in host.store.generations(key) if sha256 in ("", generation.sha256)]


def _admit(host: Run, generations: Iterable[Image]) -> None:
    """Refuse a pool that is named and does not hold all that is to be removed."""
    if host.settings.names_pool:
        require_all_in_pool(host, generations, host.settings.pool.value)


def _nothing(warnings: list[str]) -> Facts:
    return {"removed": [], "freed_bytes": 0, "warnings": warnings}
