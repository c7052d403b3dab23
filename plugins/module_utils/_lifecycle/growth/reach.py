# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a pool can grow automatically now, and what stops it there.

Invariant: only reads. Discarded blocks of pool files on the host's file system count as used: guests may write there at any time.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ..._errors import FlydError
from ..._host.files.durable import DISK_RESERVE_BYTES, disk_of, file_errors
from ..._names import option_size, size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES
from ..._thin.pool.backing import device_bytes
from ..._thin.pool.geometry import MAX_METADATA_BYTES
from ..._thin.pool.reserve import RESERVED_BYTES
from ..run import Run
from ..store.records import PoolRecord
from .policy import Policy


class Stop(NamedTuple):
    """What stops a pool, as a sentence, and what to do about it. ``word`` is for programs."""

    word: str
    text: str
    remedy: str


class Reach(NamedTuple):
    """How large a part of a pool may become, in bytes; less than it has: it cannot grow."""

    size_bytes: int
    stop: Stop


class _Disk(NamedTuple):
    """A file system: its size, what is free of it, what stays free."""

    size_bytes: int
    free_bytes: int
    reserve_bytes: int

    @property
    def room_bytes(self) -> int:
        return self.free_bytes - self.reserve_bytes


def data_reach(host: Run, pool: PoolRecord, policy: Policy, taken_bytes: int = 0) -> Reach:
    """How large the data may become, beside metadata that takes ``taken_bytes`` more."""
    if policy.max_size is None:
        return Reach(0, Stop("policy", "it has no max_size", "set max_size on flyd_pool"))
    if not pool.is_loop:
        found = device_bytes(pool.data)
        usable = Reach(found - RESERVED_BYTES, _of_device(pool.data))
        return _at_most(usable, policy.max_size.of(found), policy)
    disk = _disk(host, pool.data, policy)
    beside = _beside(disk._replace(free_bytes=disk.free_bytes - taken_bytes), pool.data)
    return _at_most(beside, policy.max_size.of(disk.size_bytes), policy)


def metadata_reach(host: Run, pool: PoolRecord, policy: Policy) -> Reach:
    """How large the metadata may become; max_size is one of the data."""
    if policy.max_size is None:
        return data_reach(host, pool, policy)
    if pool.is_loop:
        found = _beside(_disk(host, pool.metadata, policy), pool.metadata)
    else:
        found = Reach(device_bytes(pool.metadata), _of_device(pool.metadata))
    if found.size_bytes > MAX_METADATA_BYTES:
        stop = Stop("kernel", "the kernel uses no more metadata", "move images to another pool")
        found = Reach(MAX_METADATA_BYTES, stop)
    return found._replace(size_bytes=found.size_bytes // METADATA_BLOCK_BYTES * METADATA_BLOCK_BYTES)


def can_grow_to(host: Run, pool: PoolRecord) -> int:
    """The size in bytes that the data can grow to automatically now: what it has, when it cannot, or what is below it cannot be looked at."""
    data_bytes = pool.data_sectors * SECTOR_BYTES
    try:
        reach = data_reach(host, pool, Policy.recorded(pool.policy))
    except FlydError:
        return data_bytes
    return max(data_bytes, reach.size_bytes)


def _at_most(found: Reach, most_bytes: int, policy: Policy) -> Reach:
    if found.size_bytes <= most_bytes or policy.max_size is None:
        return found
    text = f"it has reached its maximum, max_size: {policy.max_size.text()}"
    return Reach(most_bytes, Stop("maximum", text, "set a larger max_size on flyd_pool"))


def _of_device(path: str) -> Stop:
    return Stop("device", f"the device {path} has no more", "make the device larger")


def _beside(disk: _Disk, path: str) -> Reach:
    """What a file may become with the room that its file system has."""
    text = f"the file system of {path} has {size_text(max(0, disk.free_bytes))} free, and {size_text(disk.reserve_bytes)} stay free"
    remedy = f"make room on that file system, or set a smaller grow_reserve than {option_size(disk.reserve_bytes)} on flyd_pool"
    return Reach(device_bytes(path) + disk.room_bytes, Stop("host", text, remedy))


def _disk(host: Run, path: str, policy: Policy) -> _Disk:
    with file_errors("looking at the file system"):
        found, number = os.statvfs(path), disk_of(path)
    size_bytes = found.f_blocks * found.f_frsize
    reserve_bytes = max(policy.grow_reserve.of(size_bytes), DISK_RESERVE_BYTES)
    return _Disk(size_bytes, found.f_bavail * found.f_frsize - _holes_bytes(host, number), reserve_bytes)


def _holes_bytes(host: Run, disk: int) -> int:
    """What the files of the pools on that file system may yet take."""
    files = [path for pool in host.store.all(PoolRecord, "is_loop") for path in (pool.data, pool.metadata)]
    found = [os.stat(path) for path in files if os.path.exists(path)]
    return sum(max(0, one.st_size - one.st_blocks * SECTOR_BYTES) for one in found if one.st_dev == disk)
