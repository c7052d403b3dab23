# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of a removal: snapshots, then bases, one intent each, after all of them were asked.

Invariant: the intent, and the rows without what is removed, are committed before the pool deletes anything; from then on it counts as
removed, whatever happens to the run.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..._errors import OutOfOrder
from ..._host.processes.crash import crash_point
from ..run import Run
from ..store.records import Image, OperationKind, PoolRecord, Snapshot, State, Volume, VolumeState, shown_device
from ..store.store import utc_now
from ..volumes.unmapping import require_removable, unmap_all
from ..volumes.volumes import destroy_volume
from .archives import state_without_base
from .bound import require_unbound


def remove_bases(host: Run, generations: Iterable[Image], snapshots: Iterable[Snapshot]) -> None:
    """The bases of ``generations`` and all their ``snapshots``, these first, one intent each; all are asked before the first goes."""
    generations, snapshots = list(generations), list(snapshots)
    volumes = volumes_of(host, snapshots, generations)
    require_removable(host, volumes)
    unmap_all(host, volumes)
    by_id = {generation.id: generation for generation in generations}
    for snapshot in snapshots:
        remove_snapshot(host, by_id[snapshot.image_id], snapshot)
    for generation in generations:
        _remove_volume(host, generation.base_ulid, image_without_base(host, generation), None)


def remove_snapshot(host: Run, image: Image, snapshot: Snapshot) -> None:
    """Delete one snapshot of ``image`` or of what an earlier removal has left of it; it was asked before (``require_removable``)."""
    now = next(one for one in host.store.generations(image.object_key) if one.id == image.id)
    left = [one for one in snapshots_of(host, [now]) if one.ulid != snapshot.ulid]
    _remove_volume(host, snapshot.ulid, _without(now, snapshot, left), snapshot)


def _remove_volume(host: Run, ulid: str, after: Image, snapshot: Snapshot | None) -> None:
    volume = host.store.find(Volume, "ulid=?", ulid)
    if volume is None:
        return
    pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
    if pool is None or host.dm.find(pool.uuid) is None:
        raise OutOfOrder(f"the pool of {volume.device_name} is not active", hint="run flyd_pool first")
    operation = host.begin(OperationKind.REMOVE, after.object_key, volume_ulid=ulid)
    with host.store.transaction():
        require_unbound(host, [ulid])
        host.store.put(operation)
        if snapshot is not None:
            host.store.drop(snapshot)
        host.store.put(volume._replace(state=VolumeState.DELETING))
        host.store.put(after)
    host.removed.append(volume.device_path)
    crash_point("remove:planned")
    destroy_volume(host, pool, volume)
    with host.store.transaction():
        host.store.drop(operation)


def volumes_of(host: Run, snapshots: Iterable[Snapshot], bases: Iterable[Image] = ()) -> list[Volume]:
    """The volumes of ``snapshots``, then those of the bases of ``bases``."""
    ulids = [snapshot.ulid for snapshot in snapshots] + [image.base_ulid for image in bases]
    return [volume for ulid in ulids for volume in host.store.all(Volume, "ulid=?", ulid)]


def snapshots_of(host: Run, generations: Iterable[Image]) -> list[Snapshot]:
    return [found for image in generations for found in host.store.all(Snapshot, "image_id=?", image.id)]


def _without(image: Image, snapshot: Snapshot, left: list[Snapshot]) -> Image:
    """``image`` once only the snapshots in ``left`` are there."""
    return image._replace(
        state=State.ACTIVATED if left else min(image.state, State.UNPACKED, key=lambda state: state.rank),
        snap_device=shown_device(left) if snapshot.device == image.snap_device else image.snap_device,
        updated_at=utc_now(),
    )


def image_without_base(host: Run, image: Image) -> Image:
    """``image`` once it has neither base nor snapshots."""
    return image._replace(
        state=state_without_base(host, image),
        pool_device="",
        snap_device="",
        base_ulid="",
        config="{}",
        summary="{}",
        made_with="{}",
        updated_at=utc_now(),
    )
