# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine had before it went down comes back: pools, and the snapshots that were activated.

Invariant: only what the store records is brought back, as it was recorded. Nothing new is made, no base is mapped, and an image that had
no snapshot gets none.
"""

from __future__ import annotations

import os

from .._errors import FlydError, doing
from .._thin.pool import require_sound
from .growth import settle_growth
from .host import Host
from .node import NodeAccess
from .outcome import Facts, Outcome
from .pool import bring_up, is_active, refuse_unfinished
from .records import PoolRecord, Snapshot, Volume, VolumeState
from .settle import settle
from .volumes import map_thin


def restore(host: Host) -> Outcome:
    """Bring back all pools and their snapshots; a pool in trouble does not keep the others down.

    Raises the first error once all has been tried.
    """
    done: list[str] = []
    failed: list[FlydError] = []
    for pool in host.store.all(PoolRecord, "formatted"):
        _try_pool(host, pool, done, failed)
    if failed:
        raise failed[0]
    facts: Facts = {"restored": done}
    return Outcome({}, {}, bool(done), facts, tuple(host.settled))


def _try_pool(host: Host, pool: PoolRecord, done: list[str], failed: list[FlydError]) -> None:
    try:
        with doing(f"bringing back the pool {pool.name}"):
            done += _restore_pool(host, pool)
    except FlydError as error:
        failed.append(error)


def map_snapshots(host: Host, pool: PoolRecord) -> list[str]:
    """Map the recorded snapshots of the pool that are not mapped; their devices."""
    done = []
    for snapshot in host.store.all(Snapshot):
        volume = host.store.find(Volume, "ulid=? AND pool_id=?", snapshot.ulid, pool.id)
        if volume is None or volume.state is not VolumeState.LIVE or _is_ready(host, volume):
            continue
        device = map_thin(host, pool, volume, read_only=snapshot.read_only)
        NodeAccess(snapshot.uid, snapshot.gid, snapshot.mode).apply(device.path)
        done.append(device.path)
    return done


def _restore_pool(host: Host, pool: PoolRecord) -> list[str]:
    with host.lock(f"pool setup {pool.name}"):
        refuse_unfinished(host, pool)
        pool = settle_growth(host, pool)
        was_active = is_active(host, pool)
        with host.log.transition("restore", pool=pool.name) as log:
            require_sound(bring_up(host, pool))
            settle(host)
            mapped = map_snapshots(host, pool)
            log["snapshots"] = len(mapped)
    return [*([] if was_active else [pool.device_path]), *mapped]


def _is_ready(host: Host, volume: Volume) -> bool:
    device = host.dm.find(volume.uuid)
    return device is not None and device.sectors > 0 and not device.suspended and os.path.exists(device.path)
