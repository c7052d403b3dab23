# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that block work in an unhealthy pool; each error has a remedy.

Invariant: nothing is created in a pool that is read-only, failed, in need of a check, or nearly full.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..._errors import DamagedPool, FlydError, NoSpace
from ..dm.device_mapper import DeviceMapper
from ..dm.table import PoolMode, PoolStatus

REPAIR = "repair it with flyd_pool, state: repaired, which runs only on request and keeps a copy of the metadata first"
_MAKE_ROOM = "remove images and snapshots that are not needed (state: absent), or let flyd_pool make the pool larger:"


def status(dm: DeviceMapper, name: str) -> PoolStatus:
    """What the kernel says of the pool now."""
    return PoolStatus.parse(dm.status(name))


def require_healthy(status: PoolStatus, min_free_percent: float) -> None:
    """Raise ``DamagedPool`` for a pool that needs repair, ``NoSpace`` for one with less than ``min_free_percent`` left."""
    require_sound(status)
    if status.mode is PoolMode.RO:
        raise _metadata_full(status)
    if status.mode is PoolMode.OUT_OF_DATA_SPACE:
        raise NoSpace("the pool is out of data space", hint=f"{_MAKE_ROOM} data_size", pool_mode=status.mode.value)
    _require_room("data", status.free_data_percent, min_free_percent)
    _require_room("metadata", status.free_metadata_percent, min_free_percent)


def require_sound(status: PoolStatus) -> None:
    """Raise ``DamagedPool`` for a pool that needs repair; one that is only full passes."""
    if status.mode in (PoolMode.FAIL, PoolMode.ERROR):
        raise DamagedPool(
            f"the pool has failed: the kernel says {status.mode.value}",
            hint=f"see `dmesg`; {REPAIR}",
            pool_mode=status.mode.value,
        )
    if status.needs_check:
        raise DamagedPool(
            "the pool's metadata is marked needs_check: a change of it went wrong",
            hint=REPAIR,
            pool_mode=status.mode.value,
        )
    if status.mode is PoolMode.RO and not _is_metadata_full(status):
        raise DamagedPool(
            "the pool is read-only: its metadata could not be written",
            hint=f"see `dmesg`; {REPAIR}",
            pool_mode=status.mode.value,
        )


def require_writable(status: PoolStatus) -> None:
    """Raise unless the pool takes messages, as it also does when it is out of data space: ``DamagedPool`` or ``NoSpace`` says why."""
    if status.mode not in (PoolMode.RW, PoolMode.OUT_OF_DATA_SPACE):
        require_sound(status)
        raise _metadata_full(status)


def is_low(status: PoolStatus, min_free_percent: float, low_water_blocks: int) -> bool:
    """Whether there is so little room that a warning is due: of data or metadata less than must stay free, or the mark is passed."""
    free_blocks = status.total_data_blocks - status.used_data_blocks
    free_percent = min(status.free_data_percent, status.free_metadata_percent)
    return free_percent < min_free_percent or free_blocks < low_water_blocks


@contextlib.contextmanager
def pool_errors(dm: DeviceMapper, name: str) -> Iterator[None]:
    """Report an error of the block as the pool's, when the pool is full or failed.

    A file system on a pool without room sees input/output errors only: the kernel's word for it is in the pool's status.
    """
    try:
        yield
    except FlydError as error:
        cause = _trouble(dm, name)
        if cause is None:
            raise
        cause.trail = list(error.trail)
        cause.details.setdefault("caused", error.msg)
        raise cause from error


def _trouble(dm: DeviceMapper, name: str) -> FlydError | None:
    try:
        require_healthy(status(dm, name), 0)
    except (NoSpace, DamagedPool) as trouble:
        return trouble
    except FlydError:  # a pool that cannot be asked explains nothing
        return None
    return None


def _is_metadata_full(status: PoolStatus) -> bool:
    """Full metadata shows as ``ro`` too (dm-thin.c, PM_OUT_OF_METADATA_SPACE)."""
    return status.total_metadata_blocks - status.used_metadata_blocks <= (status.metadata_low_water or 0)


def _metadata_full(status: PoolStatus) -> NoSpace:
    return NoSpace(
        "the pool is read-only because its metadata is full",
        hint=f"{_MAKE_ROOM} metadata_size",
        pool_mode=status.mode.value,
    )


def _require_room(what: str, free_percent: float, min_free_percent: float) -> None:
    if free_percent < min_free_percent:
        raise NoSpace(
            f"the pool has {free_percent:.1f} % of its {what} space left, less than the {min_free_percent:g} % of min_free_percent",
            hint=f"{_MAKE_ROOM} {what}_size, or lower min_free_percent",
            free_percent=round(free_percent, 1),
        )
