# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Thin volumes: a number in the pool becomes a device, and goes back to being a number.

Invariant: a volume is mapped once, under the name and UUID that the caller recorded; what was written to it is on disk once
``flush`` returns.
"""

from __future__ import annotations

import errno
import fcntl
import os

from .._errors import CorruptStore
from .._host.files.durable import file_errors
from .._host.processes.command import Program, Runner
from .dm.device_mapper import Device, DeviceMapper, IoctlFailed
from .dm.table import ThinTable

_BLKFLSBUF = 0x1261  # linux/fs.h
_DISCARD_SECONDS = 60.0


def map_volume(
    dm: DeviceMapper, pool_device: Device, *, name: str, uuid: str, thin_id: int, sectors: int, read_only: bool = False
) -> Device:
    """The device of ``sectors`` (512 bytes) for ``thin_id``: made, or the one with that UUID, resumed if it was left suspended,
    and enlarged if it has less.

    Raises ``CorruptStore`` with ``errno`` ENODATA when the pool has no such id, ``ForeignDevice`` with EEXIST when others have the name.
    """
    table = ThinTable(pool_device.number, thin_id, sectors).text()
    there = dm.find(uuid)
    if there is not None and there.name == name and there.sectors:
        return dm.running(there) if there.sectors >= sectors else _enlarge(dm, there, table)
    try:
        return dm.create(name, uuid, table, read_only=read_only)
    except IoctlFailed as error:
        if error.number != errno.ENODATA:
            raise
        raise CorruptStore(
            f"pool '{pool_device.name}' has no thin id {thin_id}, which {name} needs",
            hint="the volume is lost: remove the image or snapshot and make it again (roles flyd.lite.deactivate and flyd.lite.activate)",
            errno="ENODATA",
            thin_id=thin_id,
        ) from None


def _enlarge(dm: DeviceMapper, device: Device, table: str) -> Device:
    """Let a device that is mapped, and perhaps in use, have the larger ``table``: its users wait for an instant."""
    dm.load(device.name, table, read_only=device.read_only)
    with dm.suspended(device.name):
        pass  # the resume puts the new table in the place of the old one
    return dm.by_name(device.name) or device


def unmap_volume(dm: DeviceMapper, name: str, uuid: str) -> bool:
    """Remove the device of a volume, not the volume; ``False`` when it is not mapped. One of that name with another UUID stays."""
    return dm.remove(name, uuid)


def discard(runner: Runner, path: str) -> None:
    """Give all blocks of the device back to the pool; the pool hands on the discard of those that no other volume has."""
    runner.run(Program.BLKDISCARD, path, timeout_seconds=_DISCARD_SECONDS)


def flush(path: str) -> None:
    """Bring everything written to a block device to the disks below, and forget what is cached of it.

    fsync(2) of the node ends with a flush, for which a thin pool commits its metadata; BLKFLSBUF then drops the clean pages.
    """
    with file_errors("flushing the volume"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            fcntl.ioctl(fd, _BLKFLSBUF, 0)
        finally:
            os.close(fd)
