# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a pool must grow, and to what size: one rule, for the host's service, for runs that make something, and for flyd_pool.

A part of a pool is short when it has as few blocks free as the mark at which the kernel raises its event, or less than min_free_percent of
them. The mark of the data is low_water_mark, that of the metadata a quarter of it, at most 4 MiB (dm-thin.c, calc_metadata_threshold).
Then it grows by one step, or by as much more as it takes not to be short; as far as it can.

Invariant: only reads.
"""

from __future__ import annotations

from typing import NamedTuple

from ..._errors import FlydError
from ..._names import size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.dm.table import METADATA_BLOCK_BYTES, PoolMode, PoolStatus
from ..._thin.pool.geometry import LOW_WATER_PERCENT
from ..._thin.pool.health import require_sound
from ..outcome import Facts
from ..pool.state import has_computed_mark, with_data_sectors
from ..run import Run
from ..store.records import PoolRecord
from .policy import Policy
from .reach import Reach, Stop, data_reach, metadata_reach

_MOST_MARK_BLOCKS, _MARK_PERCENT = 1024, 25  # of metadata


class Need(NamedTuple):
    """What is about to be taken of a pool, in bytes."""

    data_bytes: int = 0
    metadata_bytes: int = 0


NOTHING = Need()


class Due(NamedTuple):
    """The pool as it is to be, which is ``pool`` when it is not to grow; why; and what keeps it short even so."""

    pool: PoolRecord
    wanted: PoolRecord
    why: str = ""
    stops: tuple[Stop, ...] = ()

    @property
    def grows(self) -> bool:
        """Whether the pool is to grow."""
        return self.wanted != self.pool

    def fact(self) -> Facts:
        """For a result."""
        return {
            "pool": self.wanted.name,
            "data_size": self.wanted.data_sectors * SECTOR_BYTES,
            "metadata_size": self.wanted.metadata_bytes,
            "why": self.why,
        }

    def after(self, now: PoolStatus) -> PoolStatus:
        """The status that the pool would have."""
        if not self.grows:
            return now
        return now._replace(
            mode=PoolMode.RW,
            total_data_blocks=max(now.total_data_blocks, self.wanted.data_sectors // self.wanted.block_sectors),
            total_metadata_blocks=max(now.total_metadata_blocks, self.wanted.metadata_bytes // METADATA_BLOCK_BYTES),
        )


class _Part(NamedTuple):
    """The data or the metadata of a pool, in blocks, with what must stay free: more than ``mark``, and at least ``percent``.

    ``mark_percent``: the mark is that share of the part, and grows with it, up to ``mark``.
    """

    name: str
    block_bytes: int
    total: int
    used: int
    mark: int
    percent: int
    mark_percent: int = 0

    @property
    def is_short(self) -> bool:
        return self.total < self.enough

    @property
    def enough(self) -> int:
        """How many blocks are enough for what is used."""
        by_share = self.used * 100 // (100 - self.percent) + 1
        by_mark = self.used + self.mark + 1
        if self.mark_percent:
            by_mark = min(by_mark, self.used * 100 // (100 - self.mark_percent) + 1)
        return max(by_share, by_mark)

    def grown(self, step_bytes: int, reach: Reach) -> int:
        """How many blocks it is to have; those that it has when it cannot grow."""
        wanted = max(self.total + max(1, step_bytes // self.block_bytes), self.enough)
        return max(self.total, min(wanted, reach.size_bytes // self.block_bytes))

    @property
    def why(self) -> str:
        free_bytes = max(0, self.total - self.used) * self.block_bytes
        return f"{self.name}: {size_text(free_bytes)} free of {size_text(self.total * self.block_bytes)}"


def growth_due(host: Run, pool: PoolRecord, now: PoolStatus, need: Need = NOTHING) -> Due:
    """What growth is due of a pool that is up, for ``need``, too; none of a pool that has no policy, or is not sound."""
    policy = Policy.recorded(pool.policy)
    if policy.max_size is None or not _is_sound(now):
        return Due(pool, pool)
    wanted, why, stops = pool, [], []
    data, metadata = _data(pool, now, need), _metadata(pool, now, need)
    taken_bytes = 0
    if metadata.is_short:  # first: it is small, and without it nothing else helps
        reach = metadata_reach(host, pool, policy)
        total = metadata.grown(_metadata_step(policy, data, metadata), reach)
        if total > metadata.total:
            wanted = _with_metadata(wanted, total * METADATA_BLOCK_BYTES)
            taken_bytes = (total - metadata.total) * METADATA_BLOCK_BYTES if pool.is_loop else 0
        why.append(metadata.why)
        stops += [reach.stop] if metadata._replace(total=total).is_short else []
    if data.is_short:
        reach = data_reach(host, pool, policy, taken_bytes)
        total = data.grown(policy.grow_by.of(data.total * data.block_bytes), reach)
        wanted = _with_data(wanted, total) if total > data.total else wanted
        why.append(data.why)
        stops += [reach.stop] if data._replace(total=total).is_short else []
    return Due(pool, wanted, "; ".join(why), tuple(stops))


def _is_sound(now: PoolStatus) -> bool:
    try:
        require_sound(now)
    except FlydError:
        return False
    return True


def _data(pool: PoolRecord, now: PoolStatus, need: Need) -> _Part:
    block_bytes = pool.block_sectors * SECTOR_BYTES
    total = max(now.total_data_blocks, pool.data_sectors // pool.block_sectors)
    used = now.used_data_blocks + -(-need.data_bytes // block_bytes)
    share = LOW_WATER_PERCENT if has_computed_mark(pool) else 0
    part = _Part("data", block_bytes, total, used, pool.low_water_blocks, pool.min_free_percent)
    # A computed mark is a share of what the pool has, and grows with it.
    return part._replace(percent=max(share, part.percent)) if share else part


def _metadata(pool: PoolRecord, now: PoolStatus, need: Need) -> _Part:
    recorded = pool.metadata_bytes // METADATA_BLOCK_BYTES if pool.is_loop else 0
    return _Part(
        "metadata",
        METADATA_BLOCK_BYTES,
        max(now.total_metadata_blocks, recorded),
        now.used_metadata_blocks + -(-need.metadata_bytes // METADATA_BLOCK_BYTES),
        _MOST_MARK_BLOCKS,
        pool.min_free_percent,
        _MARK_PERCENT,
    )


def _metadata_step(policy: Policy, data: _Part, metadata: _Part) -> int:
    """The same share as of the data."""
    data_bytes, metadata_bytes = data.total * data.block_bytes, metadata.total * metadata.block_bytes
    return policy.grow_by.of(data_bytes) * metadata_bytes // data_bytes


def _with_data(pool: PoolRecord, blocks: int) -> PoolRecord:
    grown_from_sectors = pool.grown_from_sectors or pool.data_sectors
    return with_data_sectors(pool, blocks * pool.block_sectors)._replace(grown_from_sectors=grown_from_sectors)


def _with_metadata(pool: PoolRecord, metadata_bytes: int) -> PoolRecord:
    return pool._replace(
        metadata_bytes=metadata_bytes,
        grown_from_metadata_bytes=pool.grown_from_metadata_bytes or pool.metadata_bytes,
    )
