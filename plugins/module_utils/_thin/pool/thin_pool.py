# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The thin pool: activation, health, and messages that create and delete volumes.

Invariant: metadata that holds a superblock is never formatted, a pool that should exist is never created again, and a device of
another owner with our pool's name stops us.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import Busy, CorruptStore, DamagedPool, FlydError, OutOfOrder
from ..._host.processes.command import Runner
from .. import loop
from ..dm.device_mapper import Device, DeviceMapper, IoctlFailed
from ..dm.holders import who_holds
from ..dm.table import PoolTable
from .backing import Backing, check_device, check_metadata, make_backing_file, metadata_is_blank
from .geometry import Geometry
from .health import REPAIR, is_low, pool_errors, require_healthy, require_sound, status
from .metadata import has_superblock
from .repair import thin_check

__all__ = [
    "Backing",
    "PoolSpec",
    "ThinPool",
    "activate",
    "allocate_files",
    "pool_errors",
    "check_files",
    "deactivate",
    "has_superblock",
    "is_low",
    "metadata_is_blank",
    "require_healthy",
    "require_sound",
    "status",
]


class PoolSpec(NamedTuple):
    """A pool as it is wanted; ``uuid`` is its device-mapper UUID, ``FLYD-<pool id>-pool``."""

    name: str
    uuid: str
    backing: Backing
    geometry: Geometry
    error_if_no_space: bool = True

    def table(self, metadata: str, data: str) -> str:
        """The table of the pool over these two devices."""
        return PoolTable(
            metadata_device=metadata,
            data_device=data,
            data_sectors=self.geometry.data_sectors,
            block_sectors=self.geometry.block_sectors,
            low_water_blocks=self.geometry.low_water_blocks,
            error_if_no_space=self.error_if_no_space,
        ).text()


def allocate_files(runner: Runner, spec: PoolSpec) -> tuple[str, ...]:
    """Make the backing files that are missing; returns their paths. Right ones that exist are kept, others refused."""
    return tuple(path for path, size_bytes in _sizes(spec) if make_backing_file(runner, path, size_bytes))


def activate(dm: DeviceMapper, runner: Runner, spec: PoolSpec, *, may_format: bool) -> Device:
    """The pool's device, made if it is not there. ``may_format`` allows blank metadata to become a new pool.

    Raises ``Unsupported`` without the target, ``ForeignDevice`` when the device's name is taken by others, ``DamagedPool`` when the metadata is not
    what it should be: the kernel reads of it only what it needs, so thin_check reads all of it first, for the machine may have lost its
    power. A pool that is up is resumed if it was left suspended, and is not looked at further.
    """
    there = dm.find(spec.uuid)
    if there is not None and there.sectors:
        return _resumed(dm, there, spec)
    dm.require_target("thin-pool")
    check_files(runner, spec, may_format=may_format)
    with _backing_devices(runner, spec, dm.sysfs) as (metadata, data):
        try:
            return dm.create(spec.name, spec.uuid, spec.table(metadata, data))
        except IoctlFailed as error:
            if error.number != errno.EBUSY:
                raise
            raise _in_use(spec, (metadata, data), dm.sysfs) from None


def deactivate(dm: DeviceMapper, runner: Runner, spec: PoolSpec) -> bool:
    """Remove the pool's device and detach its loops; says whether there was anything to do. What is on disk stays."""
    there = dm.find(spec.uuid)
    changed = dm.remove(there.name) if there is not None else False
    if spec.backing.is_loop:
        changed = loop.detach_all(runner, [spec.backing.data, spec.backing.metadata], sysfs=dm.sysfs) or changed
    return changed


def _in_use(spec: PoolSpec, paths: tuple[str, ...], sysfs: str) -> Busy:
    numbers = [os.stat(path).st_rdev for path in paths]
    holders = [name for number in numbers for name in who_holds(os.major(number), os.minor(number), sysfs=sysfs)]
    return Busy(
        f"the data or metadata device of pool '{spec.name}' is in use: it is held by {', '.join(holders) or 'another pool'}",
        hint="unmount it or end what uses it, or give other devices",
    )


def _resumed(dm: DeviceMapper, device: Device, spec: PoolSpec) -> Device:
    if device.name != spec.name:
        raise CorruptStore(
            f"the pool '{spec.name}' is mapped under the name {device.name}",
            hint=f"another program has renamed it: run `dmsetup rename {device.name} '{spec.name}'`",
        )
    return dm.running(device)


def check_files(runner: Runner, spec: PoolSpec, *, may_format: bool) -> None:
    """Refuse files and devices that cannot be this pool's, and metadata that is damaged, before anything is attached. Writes nothing."""
    for path, size_bytes in _sizes(spec):
        if spec.backing.is_loop:
            loop.check_backing_file(path, size_bytes)
        else:
            check_device(runner, path, size_bytes, is_new=may_format)
    check_metadata(spec.backing.metadata, may_format=may_format)
    if not may_format:
        thin_check(runner, spec.backing.metadata)


@contextlib.contextmanager
def _backing_devices(runner: Runner, spec: PoolSpec, sysfs: str) -> Iterator[tuple[str, str]]:
    """Metadata and data device. Loops that were attached for it are detached again when the block fails."""
    paths = [spec.backing.metadata, spec.backing.data]
    if not spec.backing.is_loop:
        yield paths[0], paths[1]
        return
    before = loop.find_all(runner, paths, sysfs=sysfs)
    loops = loop.attach_all(runner, paths, there=before, sysfs=sysfs)
    try:
        yield loops[paths[0]].path, loops[paths[1]].path
    except BaseException:
        with contextlib.suppress(FlydError):  # the first error is the one to report
            loop.detach_all(runner, [path for path in paths if path not in before], sysfs=sysfs)
        raise


def _sizes(spec: PoolSpec) -> tuple[tuple[str, int], tuple[str, int]]:
    """Paths and their sizes in bytes, the metadata first."""
    return (
        (spec.backing.metadata, spec.geometry.metadata_bytes),
        (spec.backing.data, spec.geometry.data_bytes),
    )


class ThinPool:
    """An active pool that takes messages. A thin id is a number up to 2^24-1, allocated by the caller beforehand."""

    def __init__(self, dm: DeviceMapper, name: str) -> None:
        self.dm = dm
        self.name = name

    def create_thin(self, thin_id: int) -> None:
        """Make an empty volume; ``CorruptStore`` with ``errno`` EEXIST when the pool has that id."""
        self._create(f"create_thin {thin_id}", thin_id)

    def create_snap(self, thin_id: int, origin_id: int) -> None:
        """Make a snapshot; the origin must be unmapped or suspended. Errors as in ``create_thin``, and ENODATA for no origin."""
        self._create(f"create_snap {thin_id} {origin_id}", thin_id)

    def delete(self, thin_id: int) -> bool:
        """Forget a volume and free its blocks; ``False`` when the pool has no such id."""
        try:
            self._message(f"delete {thin_id}")
        except IoctlFailed as error:
            if error.number == errno.ENODATA:
                return False
            if error.number == errno.EBUSY:
                raise OutOfOrder(
                    f"thin id {thin_id} of pool '{self.name}' is mapped",
                    hint="remove its device first (`dmsetup remove`)",
                    errno="EBUSY",
                    thin_id=thin_id,
                ) from None
            raise
        return True

    def set_transaction_id(self, old: int, new: int) -> None:
        """Compare and swap the pool's transaction id; ``CorruptStore`` when it is not ``old``."""
        try:
            self._message(f"set_transaction_id {old} {new}")
        except IoctlFailed as error:
            if error.number != errno.EINVAL:
                raise
            raise CorruptStore(
                f"the transaction id of pool '{self.name}' is not {old}",
                hint="another program has changed the pool, or the database belongs to another one: see flyd_info",
                errno="EINVAL",
            ) from None

    def reserve_metadata_snap(self) -> None:
        """Keep the metadata as it is now for readers, until it is released."""
        self._message("reserve_metadata_snap")

    def release_metadata_snap(self) -> None:
        """Give back what was kept for readers."""
        self._message("release_metadata_snap")

    def _create(self, text: str, thin_id: int) -> None:
        try:
            self._message(text)
        except IoctlFailed as error:
            problem = {
                errno.EEXIST: f"thin id {thin_id} exists in pool '{self.name}' already",
                errno.ENODATA: f"the origin of `{text}` does not exist in pool '{self.name}'",
            }.get(error.number)
            if problem is None:
                raise
            raise CorruptStore(
                problem,
                hint="the database and the pool disagree: see flyd_info; the database may come from a backup",
                errno=errno.errorcode[error.number],
                thin_id=thin_id,
            ) from None

    def _message(self, text: str) -> None:
        try:
            self.dm.message(self.name, text)
        except IoctlFailed as error:
            if error.number != errno.EOPNOTSUPP:
                raise
            raise DamagedPool(
                f"pool '{self.name}' refuses `{text}`: it is read-only or has failed", hint=REPAIR, errno="EOPNOTSUPP"
            ) from None
