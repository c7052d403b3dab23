# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and unmap all devices of a removal before anything is removed: all of them, or none.

Invariant: until all devices of a removal are unmapped nothing is destroyed. Unmapping can be undone; a volume that is not mapped
cannot become busy. A run that is killed in between leaves unmapped snapshots, which flyd_pool maps again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Callable

from ..._errors import FlydError, ForeignDevice, OutOfOrder
from ..._host.processes.crash import crash_point
from ..._thin.dm.in_use import require_free
from ..._thin.dm.table import thin_id_of
from ..._thin.pool.health import require_writable
from ..image.bound import require_unbound
from ..pool.bring_up import map_snapshot, status_of_known
from ..run import Run
from ..store.records import PoolRecord, Volume
from .volumes import unmap


def require_removable(host: Run, volumes: Iterable[Volume]) -> None:
    """Raise what would stop the removal of any of ``volumes``, before one of them is removed. Writes nothing.

    ``OutOfOrder``: an instance points at one, or a pool is not active.
    ``DamagedPool``, ``NoSpace`` or ``CorruptStore``: a pool takes no changes, or is not the one it was.
    ``ForeignDevice``: a volume has a second device. ``Busy``: a device is in use; the message names all such devices and their users.
    """
    wanted = list(volumes)
    require_unbound(host, (volume.ulid for volume in wanted))
    for pool_id in dict.fromkeys(volume.pool_id for volume in wanted):
        in_pool = [volume for volume in wanted if volume.pool_id == pool_id]
        pool = host.store.find(PoolRecord, "id=?", pool_id)
        if pool is None or host.dm.find(pool.uuid) is None:
            raise OutOfOrder(f"the pool of {in_pool[0].device_name} is not active", hint="run flyd_pool first")
        require_writable(status_of_known(host, pool))
        _require_not_mapped_by_others(host, pool, in_pool)
    require_free(host.dm, [(volume.device_name, volume.uuid) for volume in wanted])


def unmap_all(host: Run, volumes: Iterable[Volume], *, then: Callable[[], object] = lambda: None) -> None:
    """Unmap all of ``volumes``, then do ``then``; when either fails, the snapshots are mapped again and the error is raised."""
    done: list[Volume] = []
    try:
        for volume in volumes:
            if unmap(host, volume):
                done.append(volume)
            crash_point("remove:unmapped")
        then()
    except FlydError as error:
        _map_again(host, done, error)
        raise


def require_pool_free(host: Run, pool: PoolRecord) -> None:
    """Raise ``Busy`` unless the pool's device and all that is mapped from it can be removed. Writes nothing."""
    volumes = host.store.all(Volume, "pool_id=?", pool.id)
    devices = [(volume.device_name, volume.uuid) for volume in volumes]
    device = host.dm.find(pool.uuid)
    on_top = [] if device is None else [one.name for one in host.dm.on_top_of(device)]
    pools = [] if device is None else [(device.name, pool.uuid)]
    require_free(host.dm, [*devices, *pools], ours={pool.name: on_top})


def take_down(host: Run, pool: PoolRecord) -> None:
    """Unmap all that is mapped from the pool, and remove its device; when one of them is busy, all is as it was before."""

    def remove_pool() -> None:
        device = host.dm.find(pool.uuid)
        if device is not None:
            host.dm.remove(device.name, pool.uuid)

    unmap_all(host, host.store.all(Volume, "pool_id=?", pool.id), then=remove_pool)


def _map_again(host: Run, unmapped: Sequence[Volume], error: FlydError) -> None:
    """After ``error``: what cannot be mapped now is mapped by the next flyd_pool, and ``error`` says so."""
    for volume in unmapped:
        pool = host.store.find(PoolRecord, "id=?", volume.pool_id)
        try:
            if pool is not None:
                map_snapshot(host, pool, volume.ulid)
        except (FlydError, OSError) as second:
            error.details["left_for_next_run"] = f"{volume.device_name} is not mapped: {second}"


def _require_not_mapped_by_others(host: Run, pool: PoolRecord, volumes: Sequence[Volume]) -> None:
    """The pool refuses to delete a volume that has a second device, under another name and UUID."""
    device = host.dm.find(pool.uuid)
    on_top = () if device is None else host.dm.on_top_of(device)
    ours = {volume.uuid for volume in host.store.all(Volume, "pool_id=?", pool.id)}
    by_id = {volume.thin_id: volume for volume in volumes}
    for other in on_top:
        if other.uuid in ours:
            continue
        volume = by_id.get(thin_id_of(host.dm.table(other.name)))
        if volume is not None:
            raise ForeignDevice(
                f"{volume.device_name} is also mapped as device {other.name}, which is not ours",
                hint=f"end what uses it and run `dmsetup remove {other.name}`, then run again; nothing was removed",
                device=other.name,
            )
