# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that the store has but the pool does not: reported and removed from the store, so that the next transition creates them again.

Invariant: a volume is called lost only under the pool's lock, with store and pool at the same transaction: not because of a step that is
being made, and not because one of the two comes from a backup. A thin id that only the pool has is never deleted: no row proves it ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..._thin.pool.metadata import read_thin_ids
from ..._thin.pool.reserve import RESERVED_ID
from ..._thin.pool.thin_pool import status
from ..findings import RecoveryKind
from ..image.archives import state_without_base
from ..pool.state import lost_volumes
from ..run import Run
from ..store.lock_names import pool_lock
from ..store.records import (
    Image,
    Operation,
    PoolRecord,
    RetiredImage,
    Snapshot,
    State,
    Volume,
    VolumeState,
    shown_device,
)
from ..store.store import utc_now
from .manifests import remove_manifest
from .volumes import check_transaction, unmap


def settle_lost(host: Run, pool: PoolRecord) -> None:
    """Forget what the pool, which is up, does not have. Reads a few blocks of its metadata when all is well, and nothing else."""
    if not lost_volumes(host, pool):
        return
    with host.lock(pool_lock(pool.name)):
        if host.dry_run:
            if status(host.dm, pool.name).transaction_id == pool.transaction_id:
                for volume in lost_volumes(host, pool):
                    host.report(RecoveryKind.VOLUME_MISSING, volume.device_path, f"would forget {_words(volume)}")
            return
        check_transaction(host, pool)
        for volume in lost_volumes(host, pool):
            forget(host, volume, RecoveryKind.VOLUME_MISSING, f"forgot {_words(volume)}")


def foreign_thin_ids(host: Run, pool: PoolRecord) -> list[int]:
    """The thin ids that the pool has and no row of the store names."""
    there = read_thin_ids(pool.metadata)
    known = {int(row[0]) for row in host.store.rows("SELECT thin_id FROM volumes WHERE pool_id=?", pool.id)}
    return sorted(there - known - ({RESERVED_ID} if pool.has_reserved_start else set()))


def forget(host: Run, volume: Volume, why: RecoveryKind, text: str, *, removal: Operation | None = None) -> None:
    """Take the volume out of the store, and its image back to the state that is still true; report that with ``why`` and ``text``.

    With the intent ``removal`` its row stays until the pool has forgotten it too.
    """
    unmap(host, volume)
    remove_manifest(host, volume)
    with host.store.transaction():
        for changed in _without(host, volume):
            host.store.put(changed)
        for snapshot in host.store.all(Snapshot, "ulid=?", volume.ulid):
            host.store.drop(snapshot)
        if removal is None:
            host.store.drop(volume)
        else:
            host.store.put(volume._replace(state=VolumeState.DELETING))
            host.store.put(removal)
    host.report(why, volume.device_path, text)


def _without(host: Run, volume: Volume) -> Iterator[Image]:
    """The images as they are without the volume. Snapshots live on without their base: its blocks are theirs as well."""
    snapshot = host.store.find(Snapshot, "ulid=?", volume.ulid)
    for image in (*host.store.all(Image), *host.store.all(RetiredImage)):
        after = image
        if image.base_ulid == volume.ulid:
            state = state_without_base(host, image)
            after = image._replace(state=state, pool_device="", base_ulid="", config="{}", summary="{}", made_with="{}")
        if snapshot is not None and snapshot.image_id == image.id:
            others = [one for one in host.store.all(Snapshot, "image_id=?", image.id) if one.ulid != volume.ulid]
            state = image.state if others else min(image.state, State.UNPACKED, key=lambda state: state.rank)
            after = after._replace(state=state, snap_device=shown_device(others))
        if after != image:
            yield after._replace(updated_at=utc_now())


def _words(volume: Volume) -> str:
    return f"{volume.device_name}, which is lost: its pool has no thin id {volume.thin_id}"
