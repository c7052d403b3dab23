# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the store and the host contradict each other: pools, thin ids, tables, devices, loops, leftovers in the state directory; and what
the host lacks to keep it from reading what guests write.

Invariant: only looked at, and without locks, so what a run is at work with right now may be told. A pool that cannot be read is told, and
does not hide the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Callable

from ..._errors import FlydError
from ..._host import environment, host_program
from ..._thin.dm.device import Device
from ..._thin.dm.device_mapper import OUR_PREFIX
from ..._thin.dm.table import ThinTable
from ..._thin.guards.missing import missing_guards
from ..._thin.pool.thin_pool import status
from ..attempts import repeated_if_transient
from ..image.seals import touched
from ..pool.create import spec_of
from ..pool.state import lost_volumes
from ..run import Host
from ..store.records import Operation, PoolRecord, Snapshot, Volume, VolumeState
from ..store.schema import VERSION
from ..volumes.missing_volumes import foreign_thin_ids

Devices = Mapping[str, Device]  # by UUID
Look = Callable[[Host, PoolRecord, Devices], Iterator[str]]
# Words of a pool's table: begin, length, target, two devices, block, low water mark, number of features.
_WITHOUT_FEATURES = 8


def drift(host: Host) -> list[str]:
    """Each contradiction as a sentence."""
    devices = {device.uuid: device for device in host.dm.devices()}
    pools, volumes = host.store.all(PoolRecord), host.store.all(Volume)
    return [
        *(line for pool in pools for line in _told(host, pool, devices, _of_pool)),
        *(line for pool in pools for line in _told(host, pool, devices, _of_tables)),
        *_of_snapshots(host, volumes, devices),
        *_of_devices(pools, volumes, devices),
        *(
            f"the volume {volume.device_name} (thin id {volume.thin_id}) is {volume.state.value}"
            for volume in volumes
            if volume.state is not VolumeState.LIVE
        ),
        *touched(host),
        *_left_in_state_directory(host),
        *missing_guards(
            [device for device in devices.values() if device.uuid.startswith(OUR_PREFIX)], root=host.dm.root
        ),
        *_of_environment(),
        *_of_program(host),
    ]


def _told(host: Host, pool: PoolRecord, devices: Devices, look: Look) -> list[str]:
    try:
        return repeated_if_transient(host, lambda: list(look(host, pool, devices)), what="drift")
    except FlydError as error:
        return [f"the pool '{pool.name}' cannot be looked at: {error.msg}"]


def _of_pool(host: Host, pool: PoolRecord, devices: Devices) -> Iterator[str]:
    if pool.uuid not in devices:
        yield f"the pool '{pool.name}' is not active"
        return
    now = status(host.dm, pool.name)
    # One ahead is a step that is being made or was cut off; a pool that has failed tells no numbers.
    if not now.has_failed and now.transaction_id not in (pool.transaction_id, pool.transaction_id + 1):
        yield f"the pool '{pool.name}' is at transaction {now.transaction_id}, the store at {pool.transaction_id}"
    if not now.has_failed and now.transaction_id == pool.transaction_id:
        yield from _of_thin_ids(host, pool)


def _of_thin_ids(host: Host, pool: PoolRecord) -> Iterator[str]:
    """Read from the metadata itself: no message to the pool."""
    for volume in lost_volumes(host, pool):
        yield f"the volume {volume.device_name} is lost: the pool '{pool.name}' has no thin id {volume.thin_id}"
    for thin_id in foreign_thin_ids(host, pool):
        yield f"the pool '{pool.name}' has thin id {thin_id}, which the store does not know; it is left alone"


def _of_tables(host: Host, pool: PoolRecord, devices: Devices) -> Iterator[str]:
    """What the kernel maps, beside what the store would have mapped. Which devices the pool lies on is no part of it: loops have any number."""
    device = devices.get(pool.uuid)
    if device is None or not device.sectors:
        return
    wanted = spec_of(pool).table("-", "-")
    yield from _difference(device.name, _without_devices(host.dm.table(device.name)), wanted)
    for volume in host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value):
        if volume.uuid in devices and devices[volume.uuid].sectors:
            table = ThinTable(device.number, volume.thin_id, volume.sectors).text()
            yield from _difference(volume.device_name, host.dm.table(devices[volume.uuid].name), table)


def _without_devices(table: str) -> str:
    """A pool's table as it is written here: the kernel prints numbers of devices, and ``0`` for no features."""
    words = table.split()
    words[3:5] = ["-", "-"]
    return " ".join(words[:-1] if words[-1] == "0" and len(words) == _WITHOUT_FEATURES else words)


def _difference(name: str, table: str, wanted: str) -> Iterator[str]:
    if table.split() != wanted.split():
        yield f"the device {name} has the table `{table}`, the store has `{wanted}`"


def _of_snapshots(host: Host, volumes: list[Volume], devices: Devices) -> Iterator[str]:
    mapped = {volume.ulid for volume in volumes if volume.uuid in devices}
    for found in host.store.all(Snapshot):
        if found.ulid not in mapped:
            yield f"the snapshot {found.device} is not mapped"


def _of_devices(pools: list[PoolRecord], volumes: list[Volume], devices: Devices) -> Iterator[str]:
    known = {volume.uuid for volume in volumes} | {pool.uuid for pool in pools}
    for device in devices.values():
        if device.uuid in known and device.suspended:
            yield f"the device {device.name} is suspended: its users wait"
        if device.uuid.startswith("FLYD-") and device.uuid not in known:
            yield f"the device {device.name} bears our mark ({device.uuid}) and is not in the store"


def _of_environment() -> Iterator[str]:
    """The environment that a boot and a download need; asked for by its files, none of which is run."""
    found = environment.complaint() or environment.damage()
    if found:
        yield f"{found}; {environment.HINT}"


def _of_program(host: Host) -> Iterator[str]:
    """The program that a boot runs; asked for by its first lines."""
    found = host_program.complaint(VERSION, root=host.dm.root)
    if found:
        yield f"{found}; {host_program.HINT}"


def _left_in_state_directory(host: Host) -> Iterator[str]:
    """Parts of downloads and mount points that no intent owns."""
    owned = {operation.ulid for operation in host.store.all(Operation)}
    for directory in ("spool", "mnt"):
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = sorted(os.listdir(host.settings.path(directory)))
        for name in names:
            if not any(name.startswith(ulid) for ulid in owned):
                yield f"{host.settings.path(directory, name)} belongs to no run"
