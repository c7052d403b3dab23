# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the store and the host contradict each other: pools, thin ids, tables, devices, loops, leftovers in the state directory; and what
the host lacks to keep it from reading what guests write.

Invariant: only reads, and without locks, so the intermediate state of a running module may be reported. A pool that cannot be read is reported, and
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
from ..backup.keep import has_copy
from ..findings import DriftKind, Finding, of_pool
from ..growth.due import growth_due
from ..growth.policy import NO_POLICY
from ..image.seals import touched
from ..instance.link import path_of
from ..instance.views import content_of
from ..pool.create import spec_of
from ..pool.state import lost_volumes
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Operation, PoolRecord, Snapshot, Volume, VolumeState
from ..store.schema import VERSION
from ..volumes.instance_links import wrong_links
from ..volumes.missing_volumes import foreign_thin_ids

Devices = Mapping[str, Device]  # by UUID
Look = Callable[[Run, PoolRecord, Devices], Iterator[Finding]]
# Words of a pool's table: begin, length, target, two devices, block, low water mark, number of features.
_WITHOUT_FEATURES = 8


_GUARDS = {"udev": DriftKind.UDEV_RULE, "lvm": DriftKind.LVM_FILTER, "mdadm": DriftKind.MDADM_SETTING}


def drift(host: Run) -> list[Finding]:
    """Each difference."""
    devices = {device.uuid: device for device in host.dm.devices()}
    pools, volumes = host.store.all(PoolRecord), host.store.all(Volume)
    return [
        *(one for pool in pools for one in _readable(host, pool, devices, _of_pool)),
        *(one for pool in pools for one in _readable(host, pool, devices, _of_tables)),
        *(one for pool in pools for one in _readable(host, pool, devices, _of_growth)),
        *_of_snapshots(host, volumes, devices),
        *_of_devices(pools, volumes, devices),
        *_of_unfinished(volumes),
        *touched(host),
        *_of_instances(host),
        *_left_in_state_directory(host),
        *_of_copies(host, pools),
        *_of_guards(host, devices),
        *_of_environment(),
        *_of_program(host),
    ]


def _readable(host: Run, pool: PoolRecord, devices: Devices, look: Look) -> list[Finding]:
    try:
        return repeated_if_transient(host, lambda: list(look(host, pool, devices)), what="drift")
    except FlydError as error:
        text = f"the pool '{pool.name}' cannot be looked at: {error.msg}"
        return [Finding(DriftKind.POOL_UNREADABLE, of_pool(pool.name), text)]


def _of_pool(host: Run, pool: PoolRecord, devices: Devices) -> Iterator[Finding]:
    if pool.uuid not in devices:
        yield Finding(DriftKind.POOL_INACTIVE, of_pool(pool.name), f"the pool '{pool.name}' is not active")
        return
    now = status(host.dm, pool.name)
    # One ahead is a step that is being made or was interrupted; a pool that has failed reports no numbers.
    if not now.has_failed and now.transaction_id not in (pool.transaction_id, pool.transaction_id + 1):
        text = f"the pool '{pool.name}' is at transaction {now.transaction_id}, the store at {pool.transaction_id}"
        yield Finding(DriftKind.TRANSACTION_DIFFERS, of_pool(pool.name), text)
    if not now.has_failed and now.transaction_id == pool.transaction_id:
        yield from _of_thin_ids(host, pool)


def _of_thin_ids(host: Run, pool: PoolRecord) -> Iterator[Finding]:
    """Read from the metadata itself: no message to the pool."""
    for volume in lost_volumes(host, pool):
        text = f"the volume {volume.device_name} is lost: the pool '{pool.name}' has no thin id {volume.thin_id}"
        yield Finding(DriftKind.VOLUME_MISSING, volume.device_path, text)
    for thin_id in foreign_thin_ids(host, pool):
        text = f"the pool '{pool.name}' has thin id {thin_id}, which the store does not know; it is left alone"
        yield Finding(DriftKind.THIN_ID_UNKNOWN, of_pool(pool.name), text)


def _of_tables(host: Run, pool: PoolRecord, devices: Devices) -> Iterator[Finding]:
    """What the kernel maps, beside what the store would have mapped. Which devices the pool lies on is no part of it: loops have any number."""
    device = devices.get(pool.uuid)
    if device is None or not device.sectors:
        return
    wanted = spec_of(pool).table("-", "-")
    yield from _difference(device, _without_devices(host.dm.table(device.name)), wanted)
    for volume in host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value):
        mapped = devices.get(volume.uuid)
        if mapped is not None and mapped.sectors:
            table = ThinTable(device.number, volume.thin_id, volume.sectors).text()
            yield from _difference(mapped, host.dm.table(mapped.name), table)


def _of_growth(host: Run, pool: PoolRecord, devices: Devices) -> Iterator[Finding]:
    """A pool that is short, and has all that its policy lets it have."""
    if pool.policy == NO_POLICY or pool.uuid not in devices:
        return
    due = growth_due(host, pool, status(host.dm, pool.name))
    for stop in due.stops:
        text = f"the pool '{pool.name}' is short of room ({due.why}) and cannot grow: {stop.text}; {stop.remedy}, or remove what is not used"
        yield Finding(DriftKind.POOL_CANNOT_GROW, of_pool(pool.name), text)


def _without_devices(table: str) -> str:
    """A pool's table as it is written here: the kernel prints numbers of devices, and ``0`` for no features."""
    words = table.split()
    words[3:5] = ["-", "-"]
    return " ".join(words[:-1] if words[-1] == "0" and len(words) == _WITHOUT_FEATURES else words)


def _difference(device: Device, table: str, wanted: str) -> Iterator[Finding]:
    if table.split() != wanted.split():
        text = f"the device {device.name} has the table `{table}`, the store has `{wanted}`"
        yield Finding(DriftKind.TABLE_DIFFERS, device.path, text)


def _of_snapshots(host: Run, volumes: list[Volume], devices: Devices) -> Iterator[Finding]:
    mapped = {volume.ulid for volume in volumes if volume.uuid in devices}
    for found in host.store.all(Snapshot):
        if found.ulid not in mapped:
            yield Finding(DriftKind.SNAPSHOT_UNMAPPED, found.device, f"the snapshot {found.device} is not mapped")


def _of_instances(host: Run) -> Iterator[Finding]:
    for instance, content in wrong_links(host):
        path = path_of(instance.name)
        text = f"{path} does not point at {content.device}, as the store has it; the next run of any module makes it so"
        yield Finding(DriftKind.INSTANCE_LINK, path, text)
    for instance in host.store.all(Instance):
        if instance.target_id:
            text = f"the instance '{instance.name}' is not confirmed yet"
            yield Finding(DriftKind.INSTANCE_UNCONFIRMED, path_of(instance.name), text)
        elif content_of(host, *instance.shown) is None:
            text = f"the instance '{instance.name}' points at a snapshot that the store does not have: bind it again"
            yield Finding(DriftKind.INSTANCE_LINK, path_of(instance.name), text)


def _of_devices(pools: list[PoolRecord], volumes: list[Volume], devices: Devices) -> Iterator[Finding]:
    known = {volume.uuid for volume in volumes} | {pool.uuid for pool in pools}
    for device in devices.values():
        if device.uuid in known and device.suspended:
            text = f"the device {device.name} is suspended: its users wait"
            yield Finding(DriftKind.DEVICE_SUSPENDED, device.path, text)
        if device.uuid.startswith(OUR_PREFIX) and device.uuid not in known:
            text = f"the device {device.name} bears our mark ({device.uuid}) and is not in the store"
            yield Finding(DriftKind.DEVICE_UNKNOWN, device.path, text)


def _of_unfinished(volumes: list[Volume]) -> Iterator[Finding]:
    for volume in volumes:
        if volume.state is not VolumeState.LIVE:
            text = f"the volume {volume.device_name} (thin id {volume.thin_id}) is {volume.state.value}"
            yield Finding(DriftKind.VOLUME_UNFINISHED, volume.device_path, text)


def _of_copies(host: Run, pools: list[PoolRecord]) -> Iterator[Finding]:
    for pool in pools:
        if pool.formatted and not has_copy(host.settings, pool):
            text = f"the pool '{pool.name}' has no copy of the database; the next run that changes something writes one"
            yield Finding(DriftKind.DATABASE_COPY, of_pool(pool.name), text)


def _of_guards(host: Run, devices: Devices) -> Iterator[Finding]:
    ours = [device for device in devices.values() if device.uuid.startswith(OUR_PREFIX)]
    for lack in missing_guards(ours, root=host.dm.root):
        yield Finding(_GUARDS[lack.program], lack.subject, lack.text)


def _of_environment() -> Iterator[Finding]:
    """The environment that a boot and a download need; asked for by its files, none of which is run."""
    found = environment.complaint() or environment.damage()
    if found:
        yield Finding(DriftKind.ENVIRONMENT, environment.VENV, f"{found}; {environment.HINT}")


def _of_program(host: Run) -> Iterator[Finding]:
    """The program that a boot runs; asked for by its first lines."""
    found = host_program.complaint(VERSION, root=host.dm.root)
    if found:
        yield Finding(DriftKind.BOOT_PROGRAM, f"/{host_program.PATH}", f"{found}; {host_program.HINT}")


def _left_in_state_directory(host: Run) -> Iterator[Finding]:
    """Parts of downloads and mount points that no intent owns."""
    owned = {operation.ulid for operation in host.store.all(Operation)}
    for directory in ("spool", "mnt"):
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = sorted(os.listdir(host.settings.path(directory)))
        for name in names:
            if not any(name.startswith(ulid) for ulid in owned):
                path = host.settings.path(directory, name)
                yield Finding(DriftKind.FILE_ORPHANED, path, f"{path} belongs to no run")
