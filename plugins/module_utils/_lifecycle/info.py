# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What flyd_info reports: the store beside what the kernel really has. Changes nothing."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any, Callable

from .._thin.device import SECTOR_BYTES
from .._thin.pool import is_low, status
from .host import Host
from .lost import foreign_thin_ids
from .outcome import Facts, Outcome
from .pool_asked import lost_volumes
from .progress import read as read_progress
from .receipt import progress_path
from .records import Image, Operation, PoolRecord, RetiredImage, Snapshot, Volume, VolumeState
from .settle import abandoned
from .views import pool_view


class Subject(str, enum.Enum):
    """What can be asked for."""

    IMAGES = "images"
    SNAPSHOTS = "snapshots"
    POOLS = "pools"
    TRANSITIONS = "transitions"
    DRIFT = "drift"


def inform(host: Host, what: frozenset[Subject]) -> Outcome:
    """The report on each of ``what``."""
    return Outcome({}, {}, False, {subject.value: _REPORTS[subject](host) for subject in Subject if subject in what})


def _images(host: Host) -> list[Facts]:
    return [_image(image) for image in host.store.all(Image)]


def _image(image: Image) -> Facts:
    facts: Facts = image._asdict()
    return {
        **facts,
        "state": image.state.value,
        "config": json.loads(image.config),
        "summary": json.loads(image.summary),
        "members": json.loads(image.members),
    }


def _snapshots(host: Host) -> list[Facts]:
    keys = {image.id: image.object_key for image in (*host.store.all(Image), *host.store.all(RetiredImage))}
    return [
        {
            **snapshot._asdict(),
            "object_key": keys.get(snapshot.image_id),
            "mapped": _mapped(host, snapshot.ulid),
        }
        for snapshot in host.store.all(Snapshot)
    ]


def _pools(host: Host) -> list[Facts]:
    return [_pool(host, pool) for pool in host.store.all(PoolRecord)]


def _pool(host: Host, pool: PoolRecord) -> Facts:
    active = host.dm.find(pool.uuid) is not None
    facts = {**pool_view(pool, active=active), "pool_id": pool.id, "transaction_id": pool.transaction_id}
    if active:
        now = status(host.dm, pool.name)
        facts["data_used_bytes"] = now.used_data_blocks * pool.block_sectors * SECTOR_BYTES
        facts["metadata_used_bytes"] = now.used_metadata_blocks * 4096
        facts["status"] = now.mode.value
        facts["needs_check"] = now.needs_check
        facts["held_metadata"] = now.held_metadata_root is not None
        facts["is_low"] = is_low(now, pool.min_free_percent, pool.low_water_blocks)
    return facts


def _transitions(host: Host) -> list[Facts]:
    """The open intents; ``abandoned`` ones are settled by the next run of any module."""
    gone = {operation.ulid for operation in abandoned(host)}
    return [
        {
            **operation._asdict(),
            "kind": operation.kind.value,
            "abandoned": operation.ulid in gone,
            "progress": read_progress(progress_path(host, operation)),
        }
        for operation in host.store.all(Operation)
    ]


def _drift(host: Host) -> list[str]:
    """Each contradiction between the store and the kernel, as a sentence."""
    pools, volumes = host.store.all(PoolRecord), host.store.all(Volume)
    known = {volume.uuid for volume in volumes} | {pool.uuid for pool in pools}
    return [
        *(line for pool in pools for line in _drift_of_pool(host, pool)),
        *(
            f"the snapshot {found.device} is not mapped"
            for found in host.store.all(Snapshot)
            if not _mapped(host, found.ulid)
        ),
        *(
            f"the device {device.name} bears our mark ({device.uuid}) and is not in the store"
            for device in host.dm.devices()
            if device.uuid.startswith("FLYD-") and device.uuid not in known
        ),
        *(
            f"the volume {volume.device_name} (thin id {volume.thin_id}) is {volume.state.value}"
            for volume in volumes
            if volume.state is not VolumeState.LIVE
        ),
    ]


def _drift_of_pool(host: Host, pool: PoolRecord) -> Iterator[str]:
    if host.dm.find(pool.uuid) is None:
        yield f"the pool {pool.name} is not active"
        return
    now = status(host.dm, pool.name)
    # One ahead is a step that is being made or was cut off; a pool that has failed tells no numbers.
    if now.total_data_blocks and now.transaction_id not in (pool.transaction_id, pool.transaction_id + 1):
        yield f"the pool {pool.name} is at transaction {now.transaction_id}, the store at {pool.transaction_id}"
    if now.total_data_blocks and now.transaction_id == pool.transaction_id:
        yield from _drift_of_thin_ids(host, pool)


def _drift_of_thin_ids(host: Host, pool: PoolRecord) -> Iterator[str]:
    """Read from the metadata itself: no message to the pool."""
    for volume in lost_volumes(host, pool):
        yield f"the volume {volume.device_name} is lost: the pool {pool.name} has no thin id {volume.thin_id}"
    for thin_id in foreign_thin_ids(host, pool):
        yield f"the pool {pool.name} has thin id {thin_id}, which the store does not know; it is left alone"


def _mapped(host: Host, ulid: str) -> bool:
    volume = host.store.find(Volume, "ulid=?", ulid)
    return volume is not None and host.dm.find(volume.uuid) is not None


_REPORTS: dict[Subject, Callable[[Host], Any]] = {
    Subject.IMAGES: _images,
    Subject.SNAPSHOTS: _snapshots,
    Subject.POOLS: _pools,
    Subject.TRANSITIONS: _transitions,
    Subject.DRIFT: _drift,
}
