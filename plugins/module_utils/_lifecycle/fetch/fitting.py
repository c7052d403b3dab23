# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse an image that cannot fit its pool before the download.

Invariant: what flyd_unpack can do in the pool is not refused, but for layers that replace each other's files. A base that is made of an
earlier one takes less than its layers, by at most what the earlier one holds; which one that is, and how much it saves, only the tree shows. Pieces
of the archive are requested from S3 only when the object itself is larger than what the pool has room for.
"""

from __future__ import annotations

from ..._errors import FlydError, NoSpace
from ..._image.outline.forecast import least_layers_bytes
from ..._image.tar.header import BLOCK
from ..._names import printable, size_text
from ..._source.download.fetch import Asked
from ..._source.download.rate import Rate
from ..._source.objects import ObjectInfo
from ..._source.source import Source
from ..._thin.ext4.layout import BLOCK_BYTES
from ..._thin.pool.health import status
from ..growth.policy import Policy, may_grow
from ..growth.reach import data_reach
from ..pool.request import DEFAULT_MIN_FREE_PERCENT
from ..pool.state import is_active
from ..run import Run
from ..store.base_record import BaseRecord
from ..store.records import PoolRecord, Volume, VolumeState
from ..volumes.room import Room, data_room
from .options import FetchOptions

_HEADER_BLOCKS = 3  # of an entry, with a long name
_ESCAPE = "; when its layers replace each other's files, it may fit: leave pool out of flyd_fetch (activate_check_room: false)"


def require_fit(host: Run, bucket: Source, asked: Asked, options: FetchOptions) -> None:
    """Raise ``NoSpace`` when what is behind the key takes more than the pool of this run has room for.

    In check mode the pool may be one that a simulated flyd_pool would have made or grown. A pool that is not there, or not active, is not
    judged.
    """
    room = _room(host, options.pool_bytes if host.dry_run else 0)
    if room is None:
        return
    pool = host.store.pool(host.settings.pool.value)
    saved_bytes = _saved_bytes(host, pool)
    if asked.found.size_bytes <= room.free_bytes + saved_bytes:
        return
    layers_bytes: int | None = asked.found.size_bytes
    if not asked.found.key.is_family:
        layers_bytes = _layers_bytes(host, bucket, asked.infos[0], Rate(options.max_bytes_per_second))
    if layers_bytes is not None and layers_bytes > room.free_bytes + saved_bytes:
        raise _refusal(host, pool, asked, room, layers_bytes, saved_bytes)


def _refusal(
    host: Run, pool: PoolRecord | None, asked: Asked, room: Room, layers_bytes: int, saved_bytes: int
) -> NoSpace:
    needed_bytes = layers_bytes - saved_bytes
    option = "max_size" if pool is not None and may_grow(pool.policy) else "data_size"
    saved = f", of which an earlier base can save {size_text(saved_bytes)} at most" if saved_bytes else ""
    return NoSpace(
        f"{printable(asked.found.key.value)} does not fit the thin pool '{host.settings.pool.value}': its layers have {size_text(layers_bytes)}{saved}, "
        f"and the pool has {size_text(room.free_bytes)} free beyond its reserve of {room.reserve_percent} %; nothing was downloaded",
        hint=f"set {option}: {room.size_for(needed_bytes)} or more on flyd_pool (role activate: activate_pool_{option}){_ESCAPE}",
        needed_bytes=needed_bytes,
        free_bytes=room.free_bytes,
    )


def _saved_bytes(host: Run, pool: PoolRecord | None) -> int:
    """How much less than its layers an image takes at most, because its base is made of an earlier one in the pool: what that holds, and its headers."""
    if pool is None:
        return 0
    live = {one.ulid for one in host.store.all(Volume, "pool_id=? AND state=?", pool.id, VolumeState.LIVE.value)}
    records = [one for one in host.store.all(BaseRecord) if one.base_ulid in live and one.manifest_sha256]
    held = (one.volume_blocks * BLOCK_BYTES + one.inodes * _HEADER_BLOCKS * BLOCK for one in records)
    return max(held, default=0)


def _room(host: Run, pool_bytes: int) -> Room | None:
    pool = host.store.pool(host.settings.pool.value)
    if pool is None or not pool.formatted:
        return Room("data_size", 0, pool_bytes, DEFAULT_MIN_FREE_PERCENT) if pool_bytes else None
    if not is_active(host, pool):
        return None
    try:
        room = data_room(pool, status(host.dm, pool.name))
    except FlydError:  # a pool that cannot be asked: the run that makes a volume in it reports why
        return None
    can_have = data_reach(
        host, pool, Policy.recorded(pool.policy)
    ).size_bytes  # nothing where the pool does not grow automatically
    return room._replace(total_bytes=max(room.total_bytes, pool_bytes, can_have))


def _layers_bytes(host: Run, bucket: Source, info: ObjectInfo, rate: Rate) -> int | None:
    def read(offset: int, _least: int, length: int) -> bytes:
        def once() -> bytes:
            with bucket.open(info, offset, offset + length - 1) as body:
                pieces = []
                while piece := body.read(length):
                    pieces.append(piece)
                    rate.wait(len(piece), lambda: None)
                return b"".join(pieces)

        return host.retry.call(once)

    return least_layers_bytes(read, info.size_bytes)
