# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a pool has room for what is about to be made, for its data and for the metadata of it.

Invariant: only reads. What is refused names the option of flyd_pool that gives the room, with a value that suffices.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._errors import NoSpace
from ..._names import option_size, size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES, PoolStatus
from ..._thin.pool.geometry import METADATA_BYTES_PER_BLOCK, METADATA_BYTES_PER_SNAPSHOT
from ..._thin.pool.health import require_healthy, require_sound, status
from ..growth.due import Need, growth_due
from ..growth.policy import NO_POLICY
from ..pool.state import is_active, refuse_unfinished
from ..run import Run
from ..store.records import PoolRecord

_GIB = 1 << 30
_ROUND_BYTES = 64 << 20
_KERNEL_PERCENT = 10  # of metadata, which the kernel counts as used (dm-thin-metadata.c, __set_metadata_reserve)


class PoolTooSmall(NoSpace):
    """No room for ``need`` in a pool that may grow automatically."""

    def __init__(self, error: NoSpace, pool_name: str, need: Need) -> None:
        super().__init__(error.msg, hint=error.hint, retryable=error.retryable, **error.details)
        self.pool_name = pool_name
        self.need = need


class Room(NamedTuple):
    """What of a pool's data or metadata (``option`` sets its size) is given out and must stay free, in bytes."""

    option: str
    used_bytes: int
    total_bytes: int
    reserve_percent: int

    @property
    def free_bytes(self) -> int:
        """What may be taken beyond the reserve."""
        return max(0, self.total_bytes - self.used_bytes - self.total_bytes * self.reserve_percent // 100)

    def size_for(self, needed_bytes: int) -> str:
        """The size, as an option has it, with which ``needed_bytes`` more fit."""
        kept_percent = self.reserve_percent + (_KERNEL_PERCENT if self.option == "metadata_size" else 0)
        wanted = (self.used_bytes + needed_bytes) * 100 // max(1, 100 - kept_percent) + 1
        unit = _GIB if wanted > _GIB else _ROUND_BYTES
        return option_size(-(-wanted // unit) * unit)

    def require(self, needed_bytes: int, pool_name: str, what: str) -> None:
        """Raise ``NoSpace`` unless ``needed_bytes`` fit; ``what`` needs them."""
        if needed_bytes <= self.free_bytes:
            return
        kind = "" if self.option == "data_size" else " of metadata"
        raise NoSpace(
            f"the thin pool '{pool_name}' has {size_text(self.free_bytes)}{kind} free beyond its reserve of {self.reserve_percent} %; "
            f"{what} needs {size_text(needed_bytes)}",
            hint=f"set {self.option}: {self.size_for(needed_bytes)} on flyd_pool (role activate: activate_pool_{self.option}), "
            "or remove images or snapshots that are not used (state: absent)",
            needed_bytes=needed_bytes,
            free_bytes=self.free_bytes,
        )


def data_room(pool: PoolRecord, now: PoolStatus) -> Room:
    """The room for data in a pool that is up."""
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return Room(
        "data_size", now.used_data_blocks * block_bytes, now.total_data_blocks * block_bytes, pool.min_free_percent
    )


def metadata_room(pool: PoolRecord, now: PoolStatus) -> Room:
    """The room for metadata in a pool that is up."""
    used, total = now.used_metadata_blocks, now.total_metadata_blocks
    return Room("metadata_size", used * METADATA_BLOCK_BYTES, total * METADATA_BLOCK_BYTES, pool.min_free_percent)


def require_pool_health(pool: PoolRecord, now: PoolStatus) -> None:
    """``require_healthy`` whose hint names the size with which the reserve is free again."""
    try:
        require_healthy(now, pool.min_free_percent)
    except NoSpace as error:
        rooms = [room for room in (data_room(pool, now), metadata_room(pool, now)) if not room.free_bytes]
        if rooms:
            sizes = " and ".join(f"{room.option}: {room.size_for(0)}" for room in rooms)
            error.hint = (
                f"set {sizes} or more on flyd_pool, or remove images and snapshots that are not used (state: absent)"
            )
        raise


def require_room(host: Run, pool: PoolRecord, needed_bytes: int, *, what: str = "this", snapshots: int = 0) -> None:
    """Raise ``NoSpace`` unless the pool has room for ``needed_bytes`` of data, and for the metadata of them and of ``snapshots``.

    It is a ``PoolTooSmall`` where the pool has a policy.
    """
    need = _need(pool, needed_bytes, snapshots)
    try:
        _require(pool, status(host.dm, pool.name), need, what)
    except NoSpace as error:
        if pool.policy == NO_POLICY:
            raise
        raise PoolTooSmall(error, pool.name, need) from error


def _need(pool: PoolRecord, data_bytes: int, snapshots: int) -> Need:
    """With the metadata of it."""
    blocks = -(-data_bytes // (pool.block_sectors * SECTOR_BYTES))
    return Need(data_bytes, blocks * METADATA_BYTES_PER_BLOCK + snapshots * METADATA_BYTES_PER_SNAPSHOT)


def _require(pool: PoolRecord, now: PoolStatus, need: Need, what: str) -> None:
    require_pool_health(pool, now)
    data_room(pool, now).require(need.data_bytes, pool.name, what)
    metadata_room(pool, now).require(need.metadata_bytes, pool.name, what)


def foresee_volume(host: Run, *, pool_changes: bool, snapshots: int = 0) -> None:
    """In check mode, raise what the real run will find when it makes a volume: a pool that needs repair, or one without room.

    A pool that can grow automatically is judged as it would be then.

    ``pool_changes``: a simulated flyd_pool would have changed the pool, which may make room.
    """
    pool = host.store.pool(host.settings.pool.value)
    if pool is not None and pool.formatted and is_active(host, pool):
        refuse_unfinished(host, pool)
        now = status(host.dm, pool.name)
        require_sound(now)
        if not pool_changes:
            need = _need(pool, 0, snapshots)
            _require(pool, growth_due(host, pool, now, need).after(now), need, "a snapshot")
