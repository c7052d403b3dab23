# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove a key, or one of its generations: its records, its archives, and on request its snapshots and bases.

Invariant: as in remove.py; and an archive that another generation needs, of this or another key, stays.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from ..._errors import BadInput, OutOfOrder
from ..._host.processes.crash import crash_point
from ..._names import printable
from ..diff import forgotten, image_view
from ..fetch.download import forget_parts
from ..outcome import Facts
from ..run import Run
from ..store.records import Image, RetiredImage, Snapshot, State
from ..volumes.unmapping import require_removable
from ..volumes.volumes import used_bytes
from .advance import Arrow
from .remove import devices_of, generations_meant, nothing_removed, require_named_pool
from .remove_volumes import remove_bases, snapshots_of, volumes_of
from .seals import remove_archive
from .unknown import unknown_generation


class RemoveArchive(Arrow):
    """flyd_fetch, state absent: the key is forgotten, its archives and parts of them are gone. ``force`` takes its bases along.

    Of a generation that is named, the same, and no other one becomes current. ``image_id`` names one where several may have a digest. In a
    dry run, the generations with the ids ``assumed_gone`` need nothing any more.
    """

    name = "remove archive"
    start = State.NEW
    end = State.NEW

    def __init__(
        self,
        key: str,
        *,
        force: bool,
        bucket: str = "",
        sha256: str = "",
        image_id: str = "",
        assumed_gone: Collection[str] = (),
    ) -> None:
        self._key = key
        self._sha256 = sha256
        self._image_id = image_id
        self._force = force
        self._bucket = bucket
        self._assumed_gone = assumed_gone

    def admit(self, host: Run, image: Image) -> None:
        """Refuse another bucket than the one that the image is from; see ``require_named_pool`` for its pool."""
        require_named_pool(host, self._meant(host))
        for one in self._meant(host) if self._is_of_one else [image]:
            if self._bucket and one.bucket not in ("", self._bucket):
                raise BadInput(
                    f"bucket is {printable(self._bucket)}, but {self._key} was fetched from {one.bucket}; nothing was removed",
                    hint="name that bucket, or leave bucket out: a key has one image on this host, whatever bucket it came from",
                    bucket=one.bucket,
                )

    def holds(self, host: Run, image: Image) -> Facts | None:
        """Whether the key, or the generation, is unknown."""
        is_known = self._meant(host) or (not self._is_of_one and host.store.downloads(self._key))
        return None if is_known else nothing_removed(unknown_generation(host, self._key, self._sha256))

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """Which devices and files would go."""
        unpacked = self._unpacked(host)
        snapshots = self._allowed(host, unpacked)
        require_removable(host, volumes_of(host, snapshots, unpacked))
        devices = devices_of(snapshots, unpacked)
        gone = [generation.id for generation in self._meant(host)]
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
        if not self._is_of_one:
            forget_parts(host, self._key)
        crash_point("remove:deleted")
        with host.store.transaction():
            for generation in self._meant(host):
                host.store.drop(generation)
        return host.store.image_or_new(self._key), {"removed": list(host.removed), "freed_bytes": log["freed_bytes"]}

    @property
    def _is_of_one(self) -> bool:
        return bool(self._sha256 or self._image_id)

    def _meant(self, host: Run) -> list[Image]:
        return generations_meant(host, self._key, self._sha256, self._image_id)

    def _unpacked(self, host: Run) -> list[Image]:
        """Those with a base, or with snapshots that have outlived it."""
        return [one for one in self._meant(host) if one.base_ulid or snapshots_of(host, [one])]

    def _allowed(self, host: Run, unpacked: list[Image]) -> list[Snapshot]:
        if unpacked and not self._force:
            devices = [one.pool_device for one in unpacked if one.pool_device] or devices_of(
                snapshots_of(host, unpacked)
            )
            raise OutOfOrder(
                f"{self._key} is still unpacked as {', '.join(devices)}",
                hint="remove its base first (flyd_unpack, state: absent), or set force to remove it with its snapshots; the role flyd.lite.deactivate does so",
            )
        return snapshots_of(host, unpacked)

    def _archives(self, host: Run) -> list[str]:
        """The files that only these generations are made of."""
        meant = self._meant(host)
        away = {*(one.id for one in meant), *self._assumed_gone}
        others = (one for one in (*host.store.all(Image), *host.store.all(RetiredImage)) if one.id not in away)
        digests = {digest for one in meant for digest in one.digests} - {
            one for other in others for one in other.digests
        }
        paths = [host.archive_path(digest) for digest in sorted(digests)]
        return [path for path in paths if os.path.exists(path)]
